"""The command line as a person calls it: in processes of its own, against the farm of a test."""

import asyncio
import json
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.farm import PATIENCE_SECONDS, Farm
from support.processes.forks import start_fork, until_fork_ends

from longtake.__main__ import main

ROOT = Path(__file__).parents[2]


@dataclass
class Ran:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str


class Cli:
    """Calls `longtake` for a farm, in processes of their own."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.running: list[Process] = []

    async def __call__(self, *arguments: str) -> Ran:
        """Call it and return how it ended."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            words = ["longtake", *self._words(arguments)]
            process = await start_fork(main, words, self._environment(), out, err)
            try:
                code = await until_fork_ends(process, PATIENCE_SECONDS)
            finally:
                process.kill()
            texts = [await asyncio.to_thread(file.read_text) for file in (out, err)]
            return Ran(code, *texts)

    async def until_listed(self, words: str, *options: str) -> Ran:
        """Return the first list in which these words stand: Temporal's lists lag behind."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                if words in (listed := await self("list", *options)).out:
                    return listed
                await asyncio.sleep(0.1)

    async def start(self, *arguments: str, **streams: Any) -> Process:
        """Start it as a process that a test watches, interrupts or gives a terminal."""
        streams = {"stdout": PIPE, "stderr": PIPE} | streams
        words = (sys.executable, "-m", "longtake", *self._words(arguments))
        environment = {**self._environment(), "PYTHONPATH": str(ROOT / "client")}
        process = await asyncio.create_subprocess_exec(
            *words, env=environment, stdin=asyncio.subprocess.DEVNULL, **streams
        )
        self.running.append(process)
        return process

    def _words(self, arguments: Sequence[str]) -> list[str]:
        return [*arguments, "--address", self.farm.address, "--task-queue", self.farm.task_queue]

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "LONGTAKE_"))}
        return own | {"COLUMNS": "100", "LINES": "30", "TERM": "xterm"}

    def job_file(self, **fields: Any) -> str:
        """Write a job file as a person would: no contract version in it."""
        document = self.farm.job(**fields).to_wire()
        del document["contract"]
        path = self.farm.store.parent / "job.json"
        path.write_text(json.dumps(document))
        return str(path)


async def until_exit(process: Process) -> Ran:
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
