"""Run the chunks of a job by Longtake, or by what people would use instead, with the very same commands."""

import asyncio
import json
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from harness import NotHereError, Run
from local_farm import LocalFarm, run_farm, run_server
from peer_environment import PEERS, find_peers
from sessions import SessionError, run_session

from activities.processes.programs import find_ffmpeg
from longtake import RenderJobSpec
from longtake.chunks import ChunkPlan

BASE = "xargs"

Go = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Work:
    """Chunks of a run.

    Attributes:
        folder: Everything of this run; removed when it is over.
        job: The job, with one output a chunk; its store lies in the folder.
    """

    folder: Path
    job: RenderJobSpec

    @property
    def store(self) -> Path:
        return Path(str(self.job.base_dir))

    @property
    def parallel(self) -> int:
        """How many chunks run at once."""
        return self.job.max_parallel

    @cached_property
    def outputs(self) -> list[Path]:
        """Where the output of each chunk is to stand."""
        return [self.store / chunk.first_output for chunk in ChunkPlan(self.job)]

    def list_commands(self) -> list[list[str]]:
        """List the command of each chunk, as Longtake runs it but for the path of the output."""
        assert self.job.command is not None
        return [
            list(chunk.expand_command(self.job.command, chunk.place_outputs(lambda path: str(self.store / path))))
            for chunk in ChunkPlan(self.job)
        ]

    def count_done(self) -> int:
        """Count the outputs that stand under their names."""
        return sum(path.exists() for path in self.outputs)


@dataclass(frozen=True)
class Way:
    """A way to run the chunks: what of it survives a crash, and how it is made ready to go."""

    durable: str
    open: Callable[[Work], AbstractAsyncContextManager[Go]]


@asynccontextmanager
async def open_xargs(work: Work) -> AsyncIterator[Go]:
    """Run the commands by `xargs`, and join what they have made by `ffmpeg -c copy` where the job makes a film."""
    commands = work.list_commands()
    words = [word for command in commands for word in command[1:]]
    arguments = work.folder / "arguments"
    arguments.write_bytes(b"".join(word.encode() + b"\0" for word in words))
    each = str(len(commands[0]) - 1)
    program = ("xargs", "-0", "-a", arguments, "-n", each, "-P", str(work.parallel), commands[0][0])

    async def go() -> None:
        await _run_program(program, work)
        if work.job.output is not None:
            listing = work.folder / "chunks.txt"
            listing.write_text("".join(f"file '{path}'\n" for path in work.outputs))
            join = (find_ffmpeg(), "-nostdin", "-v", "error", "-f", "concat", "-safe", "0", "-i", listing)
            await _run_program((*join, "-c", "copy", work.store / work.job.output), work)

    yield go


@asynccontextmanager
async def open_parallel(work: Work) -> AsyncIterator[Go]:
    """Run the commands by GNU parallel."""
    program = shutil.which("parallel")
    if program is None:
        raise NotHereError("not installed (Debian: parallel)")
    commands = work.folder / "commands"
    commands.write_text("".join(shlex.join(command) + "\n" for command in work.list_commands()))
    yield partial(_run_program, (program, "--will-cite", "-j", str(work.parallel), "-a", commands), work)


@asynccontextmanager
async def open_longtake(
    work: Work, *, beside: Callable[[LocalFarm], AbstractAsyncContextManager[None]] | None = None
) -> AsyncIterator[Go]:
    """Run the job by a dev server and a worker with as many slots as chunks may run at once.

    Args:
        work: The chunks.
        beside: Measures something of the farm while the job runs.
    """
    assert work.job.command is not None
    async with run_farm(work.folder, work.store, slots=work.parallel, commands=(work.job.command[0],)) as farm:

        async def go() -> None:
            async with beside(farm) if beside is not None else nullcontext():
                await (await farm.render.submit(work.job)).result()

        yield go


@asynccontextmanager
async def open_temporal(work: Work) -> AsyncIterator[Go]:
    """Run one activity a chunk, without Longtake."""
    async with run_server(work.folder) as server, _open_peer(sys.executable, "temporal", work, server.address) as go:
        yield go


@asynccontextmanager
async def open_peer(name: str, work: Work) -> AsyncIterator[Go]:
    """Run the commands by a peer that has an environment of its own."""
    python = find_peers()
    if python is None:
        raise NotHereError("not installed (make bench installs it)")
    async with _open_peer(python, name, work) as go:
        yield go


async def run_way(way: Way, make_job: Callable[[Path], RenderJobSpec], place: Path, *, seconds: float) -> Run:
    """Run a job by a way, in a folder of its own; stop it where it takes longer than it may.

    Args:
        way: The way.
        make_job: Makes the job for a folder; may write there what its chunks read.
        place: Where that folder is made.
        seconds: When it is stopped.
    """
    with tempfile.TemporaryDirectory(prefix="run-", dir=place) as name:
        folder = Path(name)
        (folder / "store").mkdir()
        job = make_job(folder).model_copy(update={"base_dir": str(folder / "store")})
        work = Work(folder, job)
        for parent in {path.parent for path in work.outputs}:
            parent.mkdir(parents=True, exist_ok=True)
        async with way.open(work) as go:
            began = time.monotonic()
            try:
                async with asyncio.timeout(seconds):
                    await go()
                whole = True
            except TimeoutError:
                whole = False
            took, done = time.monotonic() - began, work.count_done()
    if whole and done != job.chunk_count:
        raise AssertionError(f"{done:,} of {job.chunk_count:,} chunks have an output, although the run has ended well")
    return Run(done, took, whole)


@asynccontextmanager
async def _open_peer(python: str | Path, name: str, work: Work, address: str = "") -> AsyncIterator[Go]:
    asked = {"parallel": work.parallel, "address": address, "folder": str(work.folder)}
    order = work.folder / "order.json"
    order.write_text(json.dumps({**asked, "commands": work.list_commands()}))
    log = work.folder / f"{name}.log"
    async with run_session((python, PEERS / f"{name}_peer.py", order), log=log, cwd=work.folder) as session:
        try:
            await session.wait_until_ready()
            yield session.go
        except SessionError as error:
            raise NotHereError(f"failed: {str(error).splitlines()[-1]}") from error


async def _run_program(words: Sequence[str | Path], work: Work) -> None:
    async with run_session(words, log=work.folder / "program.log") as session:
        await session.wait()


WAYS: Mapping[str, Way] = {
    BASE: Way("nothing", open_xargs),
    "longtake": Way("each chunk: its output checked, published once and synced; the job", open_longtake),
    "parallel": Way("nothing", open_parallel),
    "dask": Way("nothing", partial(open_peer, "dask")),
    "celery": Way("the queue, as far as Redis writes it down; no output is looked at", partial(open_peer, "celery")),
    "prefect": Way(
        "the states of tasks, in SQLite, written some time after; no output is looked at", partial(open_peer, "prefect")
    ),
    "temporal": Way("the end of each activity, in a history; no output is looked at", open_temporal),
}
