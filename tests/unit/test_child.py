"""Whatever a renderer prints, it is never held up, memory stays small, and the log keeps its head and its end."""

import asyncio
import os
import re
import sys
import time
import uuid
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
import pytest_asyncio
from support.processes.process_table import children, living, memory_bytes, session_nice, until

from activities.processes.child import SEGMENT_BYTES, BoundedLog
from activities.processes.linux_table import OOM_SCORE_OF_RENDERS
from activities.processes.render_process import RenderProcess
from activities.processes.supervisor import Supervisor

# What worker and keeper may grow by while a renderer prints.
MOST_GROWTH = 20_000_000


@pytest_asyncio.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    async with Supervisor() as supervisor:
        yield supervisor


async def python(supervisor: Supervisor, folder: Path, script: str, log: str = "log") -> RenderProcess:
    tag = {"LONGTAKE_ATTEMPT": uuid.uuid4().hex}
    return await supervisor.spawn((sys.executable, "-S", "-c", script), cwd=folder, env=tag, log=folder / log, tag=tag)


def oom_score(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


# As Puppeteer starts a browser: in a session of its own.
DETACHED = """
import subprocess
browser = subprocess.Popen(["sleep", "300"], start_new_session=True)
print(browser.pid, flush=True)
browser.wait()
"""


@pytest.mark.parametrize("steps", [10, 0])
async def test_renders_run_at_a_lower_priority_than_what_keeps_them(tmp_path: Path, steps: int) -> None:
    """A keeper at the same priority waited for seconds for its turn, and the proof of a cancel with it."""
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    level = min(19, ours + steps)
    async with Supervisor(nice=steps) as supervisor:
        # Without CAP_SYS_ADMIN most of the four sessions are refused at first.
        renders = [await python(supervisor, tmp_path, DETACHED, f"{number}.log") for number in range(2)]
        logs = [tmp_path / f"{number}.log" for number in range(2)]
        await until(lambda: all(log.exists() and log.read_text() for log in logs), "their children begin")
        pids = [each.pid for each in renders] + [int(log.read_text()) for log in logs]
        assert supervisor.pid is not None
        keepers = children(supervisor.pid)
        assert len(keepers) == 2
        own = {session_nice(pid) for pid in keepers}
        assert own <= {"0", ""}
        lower = {str(level)} if steps and own == {"0"} else own
        await until(lambda: {session_nice(pid) for pid in pids} == lower, "the sessions are lower")
        assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in pids} == {level}
        assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in (supervisor.pid, *keepers)} == {ours}
        assert {session_nice(pid) for pid in keepers} == own
        for each in renders:
            await each.stop(0)


async def test_a_command_that_is_lower_by_itself_stays_so(supervisor: Supervisor, tmp_path: Path) -> None:
    log, tag = tmp_path / "log", {"LONGTAKE_ATTEMPT": uuid.uuid4().hex, "PATH": os.environ["PATH"]}
    command = ("nice", "-n", "19", "sh", "-c", "nice; sleep 300 & nice; wait")
    process = await supervisor.spawn(command, cwd=tmp_path, env=tag, log=log, tag=tag)
    await until(lambda: log.exists() and log.read_text() == "19\n19\n", "the command tells")
    await until(lambda: process.usage.processes == 2, "the keeper has looked at it")
    assert os.getpriority(os.PRIO_PGRP, process.pid) == 19
    await process.stop(0)


def segments(log: Path) -> dict[int, bytes]:
    """Return what is kept of a log, by its offset in all that was printed."""
    found = {0: log.read_bytes()}
    for file in log.parent.glob(f"{log.name}.*"):
        found[int(file.name.removeprefix(f"{log.name}."))] = file.read_bytes()
    return dict(sorted(found.items()))


async def test_a_short_log_is_what_was_printed_in_order(supervisor: Supervisor, tmp_path: Path) -> None:
    script = "import os\nfor i in range(500):\n    os.write(1 + i % 2, b'%d\\n' % i)"
    process = await python(supervisor, tmp_path, script)

    assert await process.wait() == 0

    assert segments(tmp_path / "log") == {0: b"".join(b"%d\n" % number for number in range(500))}
    await process.stop(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a rank")
async def test_a_render_dies_before_its_worker_where_memory_runs_out(supervisor: Supervisor, tmp_path: Path) -> None:
    worker = oom_score("self")
    look = "cat /proc/self/oom_score_adj; sh -c 'cat /proc/self/oom_score_adj /proc/$PPID/oom_score_adj'"
    tag = {"LONGTAKE_ATTEMPT": uuid.uuid4().hex}
    process = await supervisor.spawn(("sh", "-c", look), cwd=tmp_path, env=tag, log=tmp_path / "log", tag=tag)
    await process.wait()

    found = [int(line) for line in (tmp_path / "log").read_text().split()]
    assert found == [min(1000, worker + OOM_SCORE_OF_RENDERS)] * 3
    assert oom_score(supervisor.pid or 0) == worker
    await process.stop(0)


async def test_a_renderer_that_prints_nothing_has_an_empty_log_only_if_it_fails(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    for code in range(2):
        process = await python(supervisor, tmp_path, f"import sys; sys.exit({code})")
        await process.wait()
        await process.stop(0)
        assert (tmp_path / "log").exists() == (code == 1)

    assert segments(tmp_path / "log") == {0: b""}


async def test_what_was_printed_last_is_in_the_log_when_the_end_is_told(supervisor: Supervisor, tmp_path: Path) -> None:
    for number in range(8):
        process = await python(supervisor, tmp_path, "import os; os.write(1, b'x' * 60000 + b'the end')", f"{number}")

        await process.wait()

        assert (tmp_path / f"{number}").read_bytes().endswith(b"the end")
        await process.stop(0)


async def test_a_child_that_holds_the_output_does_not_hold_up_the_end(supervisor: Supervisor, tmp_path: Path) -> None:
    script = "import os, time\nprint('done', flush=True)\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(300)\n"
    process = await python(supervisor, tmp_path, script)

    assert await asyncio.wait_for(process.wait(), 60) == 0

    assert (tmp_path / "log").read_bytes() == b"done\n"
    await process.stop(0)


async def test_a_quarter_of_a_gigabyte_passes_quickly_and_little_of_it_is_kept(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    script = """
import os, time
print('head', flush=True)
time.sleep(0.5)
line = b'y' * 1048575 + b'\\n'
for _ in range(256):
    view = memoryview(line)
    while view:
        view = view[os.write(1, view):]
os.write(2, b'the end')
"""
    process = await python(supervisor, tmp_path, script)
    assert supervisor.pid is not None
    (keeper,) = children(supervisor.pid)
    before = [memory_bytes(pid, "Rss") for pid in (os.getpid(), keeper)]
    most = before
    begun = time.monotonic()
    ending = asyncio.ensure_future(process.wait())
    while not ending.done():
        await asyncio.wait([ending], timeout=0.05)
        most = [
            max(pair) for pair in zip(most, (memory_bytes(pid, "Rss") for pid in (os.getpid(), keeper)), strict=True)
        ]

    assert ending.result() == 0
    took = time.monotonic() - begun - 0.5
    grown = [after - now for after, now in zip(most, before, strict=True)]
    print(f"256 MiB of lines of 1 MiB: {256 / took:.0f} MiB/s; worker and keeper grew by {grown} bytes")
    assert max(grown) < MOST_GROWTH
    kept = segments(tmp_path / "log")
    await process.stop(0)
    assert kept[0].startswith(b"head\nyyy")
    assert len(kept[0]) == SEGMENT_BYTES
    assert len(kept) == 3
    end = 5 + (1 << 28) + 7
    newest, oldest = max(kept), sorted(kept)[1]
    assert newest + len(kept[newest]) == end
    assert oldest + len(kept[oldest]) == newest
    assert kept[newest].endswith(b"y\nthe end")
    assert all(len(text) <= SEGMENT_BYTES for text in kept.values())


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        ("os.write(1, bytes(range(256)) * 1000)", bytes(range(256))),
        ("for _ in range(2000): os.write(2, b'e' * 5000)", b"e" * 5000),
        ("os.write(1, b'%d' % len(sys.stdin.buffer.read()))", b"0"),
        ("os.write(1, b'\\r'.join(b'frame=%d' % i for i in range(100000)))", b"\rframe=99999"),
    ],
    ids=["binary", "a full stderr", "a reader of stdin", "one endless line"],
)
async def test_odd_output_passes(supervisor: Supervisor, tmp_path: Path, script: str, ending: bytes) -> None:
    # os.write may take a part only, but of a blocking pipe it takes all.
    process = await python(supervisor, tmp_path, f"import os, sys\n{script}")

    assert await asyncio.wait_for(process.wait(), 60) == 0

    kept = segments(tmp_path / "log")
    assert kept[max(kept)].endswith(ending)
    await process.stop(0)


@pytest.mark.parametrize("obstacle", ["no folder", "a folder in its place", "a full disk"])
async def test_a_log_that_cannot_be_written_is_not_the_trouble_of_the_renderer(
    supervisor: Supervisor, tmp_path: Path, obstacle: str
) -> None:
    name = {"no folder": "no/such/log", "a folder in its place": "log", "a full disk": "log"}[obstacle]
    if obstacle == "a folder in its place":
        (tmp_path / "log").mkdir()
    elif obstacle == "a full disk":
        (tmp_path / "log").symlink_to("/dev/full")

    process = await python(supervisor, tmp_path, "import os\nfor _ in range(300): os.write(1, b'x' * 50000)", name)

    assert await asyncio.wait_for(process.wait(), 60) == 0
    await asyncio.wait_for(process.stop(0), 60)


@pytest.mark.slow
async def test_a_store_that_hangs_holds_up_neither_the_end_nor_a_stop(supervisor: Supervisor, tmp_path: Path) -> None:
    # Whoever opens a pipe that nobody reads waits for ever, as one does for a network file system that is away.
    os.mkfifo(tmp_path / "log")
    ended = await python(supervisor, tmp_path, "print('hello')")
    running = await python(supervisor, tmp_path, "import time\nprint('hello')\ntime.sleep(300)")
    pids = [ended.pid, running.pid]

    assert await asyncio.wait_for(ended.wait(), 60) == 0
    await asyncio.wait_for(running.stop(5), 60)
    await asyncio.wait_for(ended.stop(0), 60)

    assert living(*pids) == []
    assert supervisor.pid is not None
    own = supervisor.pid
    await until(lambda: not children(own), "the end of the keepers")


async def test_a_later_command_of_an_attempt_appends(supervisor: Supervisor, tmp_path: Path) -> None:
    for word in ("one", "two", "three"):
        process = await python(supervisor, tmp_path, f"print({word!r})")
        await process.wait()
        await process.stop(0)

    assert segments(tmp_path / "log") == {0: b"one\ntwo\nthree\n"}


async def test_a_reader_sees_output_while_the_renderer_runs(supervisor: Supervisor, tmp_path: Path) -> None:
    process = await python(supervisor, tmp_path, "import time\nprint('frame=1', flush=True)\ntime.sleep(300)")

    log = tmp_path / "log"
    await until(lambda: log.exists() and segments(log) == {0: b"frame=1\n"}, "the line in the log")

    await process.stop(0)


def test_segments_follow_each_other_and_the_newest_two_stay(tmp_path: Path) -> None:
    log = BoundedLog(str(tmp_path / "log"))
    printed = os.urandom(SEGMENT_BYTES * 6)
    for start in range(0, len(printed), 100_000):
        log.write(memoryview(printed)[start : start + 100_000])

    kept = segments(tmp_path / "log")

    assert list(kept) == [0, 4 * SEGMENT_BYTES, 5 * SEGMENT_BYTES]
    assert all(printed[offset : offset + len(text)] == text for offset, text in kept.items())


def test_a_log_of_segments_is_continued_where_it_ended(tmp_path: Path) -> None:
    printed = os.urandom(SEGMENT_BYTES * 3 + 8000)
    cuts = [0, SEGMENT_BYTES - 3, SEGMENT_BYTES, SEGMENT_BYTES + 10, 2 * SEGMENT_BYTES, len(printed)]
    for start, stop in pairwise(cuts):
        BoundedLog(str(tmp_path / "log")).write(memoryview(printed)[start:stop])

    kept = segments(tmp_path / "log")

    assert list(kept) == [0, 2 * SEGMENT_BYTES, 3 * SEGMENT_BYTES]
    assert all(printed[offset : offset + len(text)] == text for offset, text in kept.items())


def test_what_a_full_disk_cost_is_left_out_and_not_closed_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    log = BoundedLog(str(tmp_path / "log"))
    log.write(memoryview(b"before|"))
    # The file itself refuses, as it does on a disk that is full.
    full = os.open("/dev/full", os.O_WRONLY)
    assert log._file is not None
    os.dup2(full, log._file)
    os.close(full)
    log.write(memoryview(b"lost"))
    log.write(memoryview(b" as well"))
    now += 5

    log.write(memoryview(b"|after"))

    assert segments(tmp_path / "log") == {0: b"before|", 19: b"|after"}
    assert re.fullmatch("log.19", next(tmp_path.glob("log.*")).name)
