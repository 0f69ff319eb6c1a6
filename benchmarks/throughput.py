"""Measure how many chunks that cost nothing are done a second, beside what people would use instead."""

import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness import Contest, NotHereError, Run, compete, format_ratio
from local_farm import run_farm, run_server
from peer_environment import PEERS, find_peers, read_versions
from reports import Part, Table
from sessions import SessionError, run_session

from longtake import FrameRange, RenderJobSpec

BASE = "xargs"
_PROGRAM = "cp"
_TMPFS = Path("/dev/shm")

Go = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Work:
    """Chunks of a run: each copies a small file to its output.

    Attributes:
        folder: Everything of this run; removed when it is over.
        count: Number of chunks.
        parallel: How many run at once.
    """

    folder: Path
    count: int
    parallel: int

    @property
    def seed(self) -> Path:
        return self.folder / "seed.txt"

    @property
    def out(self) -> Path:
        return self.folder / "store" / "out"

    def count_done(self) -> int:
        """Count the outputs that stand under their names."""
        return sum(1 for path in self.out.iterdir() if path.suffix == ".txt")


@dataclass(frozen=True)
class Way:
    """A way to run the chunks: what of it survives a crash, and how it is made ready to go."""

    durable: str
    open: Callable[[Work], AbstractAsyncContextManager[Go]]


@asynccontextmanager
async def open_xargs(work: Work) -> AsyncIterator[Go]:
    names = _write_names(work)
    words = ("xargs", "-a", names, "-P", str(work.parallel), "-I{}", _PROGRAM, work.seed, f"{work.out}/{{}}.txt")
    yield partial(_run_program, words, work)


@asynccontextmanager
async def open_parallel(work: Work) -> AsyncIterator[Go]:
    program = shutil.which("parallel")
    if program is None:
        raise NotHereError("not installed (Debian: parallel)")
    words = (program, "--will-cite", "-j", str(work.parallel), "-a", _write_names(work), _PROGRAM, work.seed)
    yield partial(_run_program, (*words, f"{work.out}/{{}}.txt"), work)


@asynccontextmanager
async def open_longtake(work: Work) -> AsyncIterator[Go]:
    store = work.folder / "store"
    async with run_farm(work.folder, store, slots=work.parallel, commands=(_PROGRAM,)) as farm:

        async def go() -> None:
            job = RenderJobSpec(
                name="throughput",
                frames=FrameRange(count=work.count, per_chunk=1),
                command=(_PROGRAM, str(work.seed), "{output}"),
                chunk_output="out/{chunk:06}.txt",
                base_dir=str(store),
                max_parallel=work.parallel,
            )
            await (await farm.render.submit(job)).result()

        yield go


@asynccontextmanager
async def open_temporal(work: Work) -> AsyncIterator[Go]:
    async with run_server(work.folder) as server, _open_peer(sys.executable, "temporal", work, server.address) as go:
        yield go


@asynccontextmanager
async def open_peer(name: str, work: Work) -> AsyncIterator[Go]:
    python = find_peers()
    if python is None:
        raise NotHereError("not installed (make bench installs it)")
    async with _open_peer(python, name, work) as go:
        yield go


@asynccontextmanager
async def _open_peer(python: str | Path, name: str, work: Work, address: str = "") -> AsyncIterator[Go]:
    script = PEERS / f"{name}_peer.py"
    asked = {"count": work.count, "parallel": work.parallel, "program": _PROGRAM, "address": address}
    asked |= {"seed": str(work.seed), "out": str(work.out), "folder": str(work.folder)}
    log = work.folder / f"{name}.log"
    async with run_session((python, script, json.dumps(asked)), log=log, cwd=work.folder) as session:
        try:
            await session.wait_until_ready()
            yield session.go
        except SessionError as error:
            raise NotHereError(f"failed: {str(error).splitlines()[-1]}") from error


WAYS: Mapping[str, Way] = {
    BASE: Way("nothing", open_xargs),
    "longtake": Way("each chunk: its output checked, published once and synced; the job", open_longtake),
    "parallel": Way("nothing", open_parallel),
    "dask": Way("nothing", partial(open_peer, "dask")),
    "celery": Way("the queue, as far as Redis writes it down; no output is looked at", partial(open_peer, "celery")),
    "prefect": Way("the state of each task, in SQLite; no output is looked at", partial(open_peer, "prefect")),
    "temporal": Way("the end of each activity, in a history; no output is looked at", open_temporal),
}


async def run_way(way: Way, place: Path, *, count: int, parallel: int, seconds: float) -> Run:
    """Run the chunks by a way in a folder of their own; stop it where it takes longer than it may."""
    with tempfile.TemporaryDirectory(prefix="throughput-", dir=place) as name:
        work = Work(Path(name), count, parallel)
        work.out.mkdir(parents=True)
        work.seed.write_text("nothing to render\n")
        async with way.open(work) as go:
            began = time.monotonic()
            try:
                async with asyncio.timeout(seconds):
                    await go()
                whole = True
            except TimeoutError:
                whole = False
            took, done = time.monotonic() - began, work.count_done()
    if whole and done != count:
        raise AssertionError(f"{done:,} of {count:,} chunks have an output, although the run has ended well")
    return Run(done, took, whole)


async def measure(
    *,
    chunks: int,
    parallel: int,
    rounds: int,
    seconds: float,
    ways: Sequence[str],
    places: Mapping[str, Path],
    on_message: Callable[[str], None],
) -> Part:
    """Measure all ways, in turn.

    Args:
        chunks: Chunks of each run.
        parallel: How many run at once, whatever the way.
        rounds: How often each way runs.
        seconds: When a run is stopped; its rate is that of what it had done.
        ways: Which of `WAYS`; `xargs` always runs.
        places: Folders by name, a contest in each.
        on_message: Called with a line for each run.
    """
    rows: list[list[str]] = []
    figures: dict[str, object] = {"chunks": chunks, "parallel": parallel}
    for place_name, place in places.items():
        on_message(f"throughput on {place_name}: {chunks:,} chunks, {parallel} at once, {rounds} rounds")
        chosen = {
            name: partial(run_way, way, place, count=chunks, parallel=parallel, seconds=seconds)
            for name, way in WAYS.items()
            if name in ways or name == BASE
        }
        contest = await compete(chosen, rounds=rounds, on_message=on_message)
        rows += [_make_row(contest, name, place_name) for name in chosen]
        figures[place_name] = {name: _list_figures(contest, name) for name in chosen}
    title = (
        f"Chunks that cost nothing (`{_PROGRAM}` of a small file), {parallel} at once. The ratio is to `xargs "
        f"-P{parallel}` with the same commands in the same round: the median, the least and the most."
    )
    columns = ("way", "store", "chunks", "chunks/s", f"ratio to {BASE}", "what survives a crash")
    note = f"A run was stopped after {seconds:g} s at the latest; its rate is that of what it had done."
    return Part("throughput", title, Table(columns, rows), figures, read_versions(), (note,))


def list_places(store: str, disk: Path) -> dict[str, Path]:
    """Return the folders that a choice of the command line means.

    Raises:
        NotHereError: There is no tmpfs.
    """
    places = {}
    if store in ("disk", "both"):
        places["disk"] = disk
    if store in ("tmpfs", "both"):
        if not _TMPFS.is_dir():
            raise NotHereError(f"{_TMPFS} is not there")
        places["tmpfs"] = _TMPFS
    return places


def _make_row(contest: Contest, name: str, place: str) -> list[str]:
    if name in contest.missing:
        return [name, place, "-", "-", contest.missing[name], WAYS[name].durable]
    runs = contest.runs[name]
    done = f"{runs[0].done:,}" + ("" if runs[0].whole else " (stopped)")
    ratio = "1" if name == BASE else format_ratio(contest.ratios(name, BASE))
    return [name, place, done, f"{contest.rate(name):,.0f}", ratio, WAYS[name].durable]


def _list_figures(contest: Contest, name: str) -> dict[str, object]:
    if name in contest.missing:
        return {"missing": contest.missing[name]}
    runs = [{"done": run.done, "seconds": round(run.seconds, 3), "whole": run.whole} for run in contest.runs[name]]
    return {"runs": runs, "ratios": [round(ratio, 4) for ratio in contest.ratios(name, BASE)]}


def _write_names(work: Work) -> Path:
    names = work.folder / "names.txt"
    names.write_text("".join(f"{chunk:06}\n" for chunk in range(work.count)))
    return names


async def _run_program(words: Sequence[str | Path], work: Work) -> None:
    async with run_session(words, log=work.folder / "program.log") as session:
        await session.wait()
