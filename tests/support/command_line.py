"""The command line as a person calls it: in processes of its own, against the farm of a test."""

import asyncio
import json
import os
import tempfile
from asyncio import StreamReader
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from support.farm import PATIENCE_SECONDS, Farm
from support.processes.forks import start_fork, until_fork_ends

from longtake.__main__ import main


@dataclass
class Ran:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str


@dataclass
class Running:
    """A call that a test watches and interrupts."""

    process: BaseProcess
    stdout: StreamReader
    stderr: StreamReader

    def send_signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


class Cli:
    """Calls `longtake` for a farm, in processes of their own."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.running: list[Running] = []

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
            while words not in (listed := await self("list", *options)).out:
                await asyncio.sleep(0.1)
        return listed

    async def start(self, *arguments: str, terminal: str | None = None) -> Running:
        """Start it as a process that a test watches and interrupts.

        Args:
            arguments: As one would type them after `longtake`.
            terminal: The terminal that has its stderr; a pipe has it when None.
        """
        folder = tempfile.mkdtemp(dir=self.farm.store.parent)
        pipes = [Path(folder, name) for name in ("out", "err")]
        streams = [await _read_pipe(pipe) for pipe in pipes]
        words = ["longtake", *self._words(arguments)]
        err = Path(terminal) if terminal else pipes[1]
        running = Running(await start_fork(main, words, self._environment(), pipes[0], err), *streams)
        self.running.append(running)
        if terminal:
            # Else whoever reads to its end would wait for a first writer.
            await asyncio.to_thread(pipes[1].write_bytes, b"")
        return running

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


async def _read_pipe(path: Path) -> StreamReader:
    """Make a named pipe and read it."""
    os.mkfifo(path)
    reader = StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    # Does not wait for whoever opens the other end, as an open that blocks would.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, file)
    return reader


async def until_exit(running: Running) -> Ran:
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, err = await asyncio.gather(running.stdout.read(), running.stderr.read())
        code = await until_fork_ends(running.process, None)
    return Ran(code, out.decode(), err.decode())


async def until_line(running: Running, words: str) -> None:
    """Return when the process has written a line with these words to stderr."""
    seen = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while line := (await running.stderr.readline()).decode():
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
        for running in cli.running:
            running.process.kill()
            await until_fork_ends(running.process, PATIENCE_SECONDS)
