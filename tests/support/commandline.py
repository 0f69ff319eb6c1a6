"""The command line as a person calls it: in processes of its own, against the farm of a test."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm import PATIENCE_SECONDS, Farm

ROOT = Path(__file__).parents[2]


@dataclass
class Ran:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str


class Cli:
    """Calls `python -m longtake` for a farm, in processes of their own."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.running: list[Process] = []

    async def start(self, *arguments: str, **streams: Any) -> Process:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "LONGTAKE_"))}
        environment |= {"PYTHONPATH": str(ROOT / "client"), "COLUMNS": "100", "LINES": "30", "TERM": "xterm"}
        where = ("--address", self.farm.address, "--task-queue", self.farm.task_queue)
        streams = {"stdout": PIPE, "stderr": PIPE} | streams
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "longtake", *arguments, *where, env=environment, stdin=asyncio.subprocess.DEVNULL,
            **streams,
        )  # fmt: skip
        self.running.append(process)
        return process

    async def __call__(self, *arguments: str) -> Ran:
        return await ended(await self.start(*arguments))

    def job_file(self, **fields: Any) -> str:
        """Write a job file as a person would: no contract version in it."""
        document = self.farm.job(**fields).to_wire()
        del document["contract"]
        path = self.farm.store.parent / "job.json"
        path.write_text(json.dumps(document))
        return str(path)


async def ended(process: Process) -> Ran:
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode is not None
    return Ran(process.returncode, (out or b"").decode(), (err or b"").decode())


async def until_line(process: Process, words: str) -> None:
    """Return when the process has written a line with these words to stderr."""
    assert process.stderr is not None
    seen = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while line := (await process.stderr.readline()).decode():
            if words in line:
                return
            seen.append(line)
    raise AssertionError(f"ended without {words!r}: {seen}")


@asynccontextmanager
async def command_line(farm: Farm) -> AsyncIterator[Cli]:
    """Yield the command line of a farm; what still runs of it at the end is killed."""
    cli = Cli(farm)
    try:
        yield cli
    finally:
        for process in cli.running:
            if process.returncode is None:
                process.kill()
                await process.communicate()
