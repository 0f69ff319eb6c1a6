"""Chunks that Helios' workers are asked to render, and somebody who waits for them."""

import asyncio
from pathlib import Path

from activities.backends.backend import Progress, RenderTask
from longtake.models.backends import CloudRunBackend, RemoteProtocol
from longtake.models.policies import Timeouts

JOB_URL = "https://files.example/job.json"
SETTINGS = CloudRunBackend(protocol=RemoteProtocol.HELIOS, job_url=JOB_URL)


class Watcher:
    """Notes what it hears, and orders what the test sets."""

    most_grace_seconds = float("inf")

    def __init__(self) -> None:
        self.freeze_order = 0
        self.told: list[int] = []
        self.heard: list[Progress] = []
        self.news = asyncio.Event()

    def on_frozen(self, order: int) -> None:
        self.told.append(order)
        self.news.set()

    def on_progress(self, progress: Progress) -> None:
        self.heard.append(progress)
        self.news.set()

    async def until_heard(self, frames: int) -> None:
        async with asyncio.timeout(60):
            while not self.heard or self.heard[-1].frames_done < frames:
                self.news.clear()
                await self.news.wait()


def helios_task(folder: Path) -> RenderTask:
    """Return chunk 3 of a job, frames 30 to 39, which logs into this folder."""
    return RenderTask(
        command=("/usr/bin/blender", "-b"),
        cwd=folder,
        env={},
        tag={},
        log=folder / "attempt.log",
        timeouts=Timeouts(),
        frames=range(30, 40),
        chunk_id=3,
    )
