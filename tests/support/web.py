"""The web server of a test's farm: in this process, or as the program that a person starts."""

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from support.farm import PATIENCE_SECONDS, Farm

from longtake import RenderClient
from longtake.web.server import WebServer
from longtake.web.settings import WebSettings

ROOT = Path(__file__).parents[2]
API = "/api/v1"


def job_path(job_id: str, *rest: str) -> str:
    """Return the address of what belongs to a job."""
    return "/".join([f"{API}/jobs", *(quote(part, safe="") for part in (job_id, *rest))])


@asynccontextmanager
async def web(
    farm: RenderClient, task_queue: str, settings: WebSettings | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a farm in this process, and yield a client of the server."""
    server = WebServer(farm, port=0, settings=settings, task_queue=task_queue)
    running = asyncio.create_task(server.run())
    try:
        async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE_SECONDS) as client:
            yield client
    finally:
        server.end()
        await asyncio.wait_for(running, 20)


@asynccontextmanager
async def web_of(farm: Farm, settings: WebSettings | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the farm of a test in this process."""
    async with web(farm.render, farm.task_queue, settings) as client:
        yield client


@dataclass
class Told:
    """One event of a stream."""

    name: str
    id: str | None
    data: Any


async def events(client: httpx.AsyncClient, path: str, *, since: str | None = None, most: int = 10_000) -> list[Told]:
    """Return the events of a stream up to its end, or so many."""
    found: list[Told] = []
    async with aclosing(stream(client, path, since=since)) as told:
        async for event in told:
            found.append(event)
            if len(found) == most:
                break
    return found


async def stream(client: httpx.AsyncClient, path: str, *, since: str | None = None) -> AsyncGenerator[Told, None]:
    """Yield the events of a stream."""
    headers = {"Last-Event-ID": since} if since else {}
    async with asyncio.timeout(PATIENCE_SECONDS), client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                yield Told(fields["event"], fields.get("id"), json.loads(fields["data"]))
                fields = {}


@dataclass
class WebProgram:
    """`longtake web` in a process of its own."""

    process: Process
    address: str
    said: list[str]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    async def interrupt(self) -> int:
        """Press Ctrl-C; return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return await asyncio.wait_for(self.process.wait(), PATIENCE_SECONDS)


@asynccontextmanager
async def web_program(
    address: str, task_queue: str = "longtake", *options: str, **environment: str
) -> AsyncIterator[WebProgram]:
    """Run `longtake web` on a free port, for a farm at an address of Temporal."""
    words = ["--address", address, "--task-queue", task_queue, "web", "--port", "0", *options]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "longtake", *words, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "client"), **environment},
    )  # fmt: skip
    said: list[str] = []
    reading: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            found = None
            assert process.stderr is not None
            while found is None:
                line = (await process.stderr.readline()).decode()
                assert line, f"it has ended: {said}"
                said.append(line)
                found = re.search(r"http://\S+:\d+", line)
        reading = asyncio.create_task(_read_on(process.stderr, said))
        yield WebProgram(process, found[0], said)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if reading is not None:
            await reading


async def _read_on(stream: asyncio.StreamReader, said: list[str]) -> None:
    async for line in stream:
        said.append(line.decode(errors="replace"))
