"""Bursts of commands in a keeper: each sees the world of one that is started alone, and what is unusual is kept."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.farm import eventually
from support.processes.process_table import children, living, session_nice, shown, state_of, survivors, until, wait_for
from support.processes.supervisors import require_control_groups, supervisor_fixture

from activities.processes.linux_table import HAS_EXACT_TREES
from activities.processes.render_process import CommandBurst, EndedCommand, KeeperLostError, RenderProcess
from activities.processes.supervisor import SpanKeeper, Supervisor

pytestmark = pytest.mark.skipif(not HAS_EXACT_TREES, reason="bursts need a subreaper")

ROOT = Path(__file__).resolve().parents[2]
MARK = {"LONGTAKE_ATTEMPT": f"bursts-{os.getpid()}"}
ENVIRONMENT = {"PATH": os.environ["PATH"], **MARK}
SHELL = "/bin/sh"


supervisor = supervisor_fixture(MARK)


async def start(
    span: SpanKeeper, folder: Path, scripts: Sequence[Sequence[str]], *, longest_seconds: float = 30.0
) -> CommandBurst:
    commands = [
        (script, folder / f"{number}.log", {"LONGTAKE_CHUNK": f"{number}", **MARK})
        for number, script in enumerate(scripts)
    ]
    return await span.start_burst(commands, cwd=folder, env=ENVIRONMENT, longest_seconds=longest_seconds)


def shells(*scripts: str) -> list[list[str]]:
    return [[SHELL, "-c", script] for script in scripts]


async def drain(burst: CommandBurst) -> list[EndedCommand]:
    """Return all ends of a burst, until it is over."""
    ended: list[EndedCommand] = []
    async with asyncio.timeout(60):
        while len(ended) < burst.count_ended or not burst.is_over:
            ended += await burst.wait(1)
    return ended


async def kept(burst: CommandBurst) -> RenderProcess:
    assert burst.kept is not None
    return burst.kept


async def test_commands_run_in_turn_in_one_keeper_and_tell_what_they_used(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    async with supervisor.keep_span() as span:
        scripts = [f"echo $LONGTAKE_CHUNK >> order; test $(wc -l < order) = {number + 1}" for number in range(20)]
        ended = await drain(burst := await start(span, tmp_path, shells(*scripts)))
        assert burst.kept is None
        assert len(ended) == burst.count_ended == 20
        assert all(end.peak_memory_bytes > 0 and 0 < end.seconds < 30 for end in ended)
        again = await drain(await start(span, tmp_path, shells("exit 0")))
        assert len(again) == 1
        assert len(children(supervisor.pid or 0)) == 1

    assert (tmp_path / "order").read_text().split() == [f"{number}" for number in range(20)]
    assert os.listdir(tmp_path) == ["order"], "none has printed anything"


SHOW_WORLD = """
import json, os, resource, signal, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
world = {
    "alone": os.getsid(0) == os.getpid() == os.getpgid(0),
    "parent": open(f"/proc/{os.getppid()}/comm").read(),
    "input": sys.stdin.read(),
    "folder": os.getcwd(),
    # Signals 32 and 33 are the C library's own.
    "signals": [int(status[name], 16) & ~(0b11 << 31) for name in ("SigBlk", "SigIgn", "SigCgt")],
    "descriptors": sorted(map(int, os.listdir("/proc/self/fd"))),
    "environment": dict(os.environ),
    "dumpable": os.access("/proc/self/mem", os.R_OK),
    "mask": os.umask(0),
    "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
}
open(sys.argv[1], "w").write(json.dumps(world))
"""


async def test_a_command_of_a_burst_sees_the_world_of_one_that_is_started_alone(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    program = (sys.executable, "-S", "-c", SHOW_WORLD)
    tag = {"LONGTAKE_CHUNK": "0", **MARK}
    async with supervisor.keep_span() as span:
        alone = await span.spawn(
            (*program, str(tmp_path / "alone")),
            cwd=tmp_path,
            env={**ENVIRONMENT, **tag},
            log=tmp_path / "log",
            tag=tag,
        )
        assert await alone.wait() == 0
        await alone.stop(0)
        burst = await start(span, tmp_path, [(*program, str(tmp_path / "burst"))])
        assert len(await drain(burst)) == 1

    worlds = {name: json.loads((tmp_path / name).read_text()) for name in ("alone", "burst")}
    # Its lifeline.
    worlds["burst"]["descriptors"].remove(63)
    assert worlds["burst"] == worlds["alone"]


async def test_a_command_of_a_burst_is_killed_first_when_memory_runs_out(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    async with supervisor.keep_span() as span:
        burst = await start(span, tmp_path, shells("sleep 0.05; cat /proc/self/oom_score_adj > score"))
        assert len(await drain(burst)) == 1

    own = int(shown(os.getpid(), "oom_score_adj"))
    assert int((tmp_path / "score").read_text()) == min(1000, own + 500)


async def test_one_that_prints_goes_on_alone_and_those_after_it_do_not_begin(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    async with supervisor.keep_span() as span:
        scripts = shells(": > 0", "echo first; sleep 0.05; echo last; : > 1", ": > 2")
        burst = await start(span, tmp_path, scripts)
        assert len(await drain(burst)) == 1
        process = await kept(burst)
        assert await process.wait() == 0
        assert process.may_have_printed
        assert process.usage.peak_memory_bytes > 0
        await process.stop(0)
        assert (tmp_path / "1.log").read_text() == "first\nlast\n"

        assert (await drain(again := await start(span, tmp_path, scripts[2:])), again.kept)[0]

    assert sorted(os.listdir(tmp_path)) == ["0", "1", "1.log", "2"]


async def test_what_is_printed_right_before_the_end_is_in_the_log(supervisor: Supervisor, tmp_path: Path) -> None:
    async with supervisor.keep_span() as span:
        for number in range(20):
            burst = await start(span, tmp_path, shells(f"echo {number}"))
            assert await drain(burst) == []
            process = await kept(burst)
            assert await process.wait() == 0
            await process.stop(0)

    assert (tmp_path / "0.log").read_text() == "".join(f"{number}\n" for number in range(20))


async def test_one_that_fails_is_kept_with_its_code_and_has_a_log(supervisor: Supervisor, tmp_path: Path) -> None:
    async with supervisor.keep_span() as span:
        burst = await start(span, tmp_path, shells("exit 0", "exit 7", "exit 0"))
        assert len(await drain(burst)) == 1
        process = await kept(burst)
        assert await process.wait() == 7
        await process.stop(0)

        assert (tmp_path / "1.log").read_bytes() == b""
        killed = await start(span, tmp_path, shells("kill -9 $$"))
        await drain(killed)
        assert await (await kept(killed)).wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    "command",
    [["/no/such/program"], ["/tmp"], [SHELL, "-c", "\0"], [SHELL, *["x" * 100_000] * 30]],
    ids=["missing", "a folder", "null", "big"],
)
async def test_one_that_cannot_be_started_ends_the_burst_before_it(
    supervisor: Supervisor, tmp_path: Path, command: list[str]
) -> None:
    async with supervisor.keep_span() as span:
        burst = await start(span, tmp_path, [*shells("exit 0"), command, *shells(": > made")])
        assert len(await drain(burst)) == 1
        assert burst.kept is None
        assert len(await drain(await start(span, tmp_path, shells("exit 0")))) == 1

    assert not (tmp_path / "made").exists()


async def test_a_folder_that_cannot_be_entered_ends_the_burst_at_once(supervisor: Supervisor, tmp_path: Path) -> None:
    async with supervisor.keep_span() as span:
        burst = await start(span, tmp_path / "none", shells("exit 0"))
        assert (await drain(burst), burst.kept) == ([], None)


@pytest.mark.parametrize(
    "script",
    ["sleep 300 & :", "setsid sleep 300 & :", "sh -c 'sleep 0.02 &'; sleep 0.05"],
    ids=["a child that lives", "one that leads a session", "an orphan that has ended"],
)
async def test_one_that_leaves_something_behind_is_not_proven_by_its_exit(
    supervisor: Supervisor, tmp_path: Path, script: str
) -> None:
    async with supervisor.keep_span() as span:
        burst = await start(span, tmp_path, shells(script, ": > made"))
        assert await drain(burst) == []
        process = await kept(burst)
        assert await process.wait() == 0
        await process.stop(0)
        assert survivors(MARK) == []
        assert len(await drain(await start(span, tmp_path, shells("exit 0")))) == 1

    assert not (tmp_path / "made").exists()


async def test_one_that_takes_long_is_kept_and_obeys_like_any_other(supervisor: Supervisor, tmp_path: Path) -> None:
    async with supervisor.keep_span() as span:
        burst = await start(span, tmp_path, shells("sleep 300", ": > made"), longest_seconds=0.1)
        assert await drain(burst) == []
        process = await kept(burst)
        await eventually(lambda: len(children(process.pid)) == 1, "the child of the shell")
        (child,) = children(process.pid)
        await process.freeze()
        assert {state_of(process.pid), state_of(child)} == {"T"}
        await process.thaw()
        await process.stop(0)
        assert living(process.pid, child) == []

    assert not (tmp_path / "made").exists()


async def test_a_recall_lets_no_further_command_begin_and_the_one_at_hand_go_on(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    async with supervisor.keep_span() as span:
        for number in range(30):
            scripts = shells(*[f"sleep 0.0{number % 3}; echo x >> begun"] * 20)
            (tmp_path / "begun").write_text("")
            burst = await start(span, tmp_path, scripts)
            await asyncio.sleep(number * 0.002)
            await burst.recall()
            assert burst.is_over
            ended = len(await drain(burst))
            if burst.kept is not None:
                assert await burst.kept.wait() == 0
                await burst.kept.stop(0)
                ended += 1
            assert len((tmp_path / "begun").read_text().split()) == ended
            await burst.recall()


async def test_the_end_of_a_span_ends_a_burst_too(supervisor: Supervisor, tmp_path: Path) -> None:
    async with asyncio.timeout(60):
        for pause in (0, 0.001, 0.01, 0.05):
            async with supervisor.keep_span() as span:
                await start(span, tmp_path, shells(*["sleep 0.03"] * 30))
                await asyncio.sleep(pause)
            assert survivors(MARK) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
async def test_a_killed_keeper_costs_the_command_at_hand_and_leaves_nothing(
    supervisor: Supervisor, tmp_path: Path, number: signal.Signals
) -> None:
    async with supervisor.keep_span() as span:
        burst = await start(span, tmp_path, shells(*["exit 0"] * 3, "echo $$ > pid; sleep 0.05; kill -STOP $$"))
        await eventually(lambda: (tmp_path / "pid").exists(), "the last command")
        (keeper,) = children(supervisor.pid or 0)
        os.kill(keeper, number)
        ended = await drain(burst)
        assert len(ended) <= 3
        with pytest.raises(KeeperLostError):
            await asyncio.wait_for((await kept(burst)).wait(), 60)
        assert survivors(MARK) == []
        assert len(await drain(await start(span, tmp_path, shells("exit 0")))) == 1


async def test_the_end_of_a_command_is_told_while_the_next_one_runs(supervisor: Supervisor, tmp_path: Path) -> None:
    async with supervisor.keep_span() as span:
        burst = await start(span, tmp_path, shells("exit 0", "until [ -e go ]; do sleep 0.01; done"))
        async with asyncio.timeout(60):
            while not await burst.wait(1):
                assert not burst.is_over
            (tmp_path / "go").touch()
            while not burst.is_over:
                await burst.wait(1)
        assert burst.count_ended == 2


async def test_a_command_that_goes_on_is_in_the_cgroup_of_its_span(supervisor: Supervisor, tmp_path: Path) -> None:
    home = require_control_groups(supervisor)
    async with supervisor.keep_span() as span:
        burst = await start(span, tmp_path, shells("echo $$ > pid; until [ -e go ]; do sleep 0.01; done", "exit 0"))
        await eventually(lambda: (tmp_path / "pid").exists(), "the first command")
        (group,) = home.parent.glob(f"{home.name}*")
        members = group / "cgroup.procs"
        await eventually(lambda: bool(members.read_text()), "the cgroup has a member")
        assert (tmp_path / "pid").read_text().strip() in members.read_text().split()
        (tmp_path / "go").touch()
        assert len(await drain(burst)) == 2
        assert burst.kept is None, "and the burst goes on"


def effective_capabilities() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:")]
    return int(line.split()[1], 16)


async def test_a_command_of_a_burst_that_takes_a_moment_runs_at_a_lower_priority(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    lower = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    wait = "echo $$ > pid.new; mv pid.new {0}; until [ -e {0}.go ]; do sleep 0.01; done"

    async def reaches(name: str, level: int) -> None:
        await eventually((tmp_path / name).exists, "the command")
        pid = int((tmp_path / name).read_text())
        await eventually(lambda: os.getpriority(os.PRIO_PROCESS, pid) == level, "its priority")
        # Without CAP_SYS_ADMIN it may be refused, and is not asked for again so soon.
        if session_nice(pid) and effective_capabilities() >> 21 & 1:
            await eventually(lambda: session_nice(pid) == str(lower), "its session")
            assert os.getpriority(os.PRIO_PROCESS, pid) == level
        (tmp_path / f"{name}.go").touch()

    async with supervisor.keep_span() as span:
        commands = [
            [SHELL, "-c", wait.format("first")],
            ["/usr/bin/nice", "-n", "19", SHELL, "-c", wait.format("last")],
        ]
        burst = await start(span, tmp_path, commands)
        await reaches("first", lower)
        await reaches("last", 19)
        assert len(await drain(burst)) == 2


# A worker with a burst of which each command lives for ever, and its child, in the process group of the command.
ENDLESS_WORKER = """
import asyncio, os, sys
from pathlib import Path
from activities.processes.supervisor import Supervisor

async def main(folder):
    async with Supervisor() as supervisor, supervisor.keep_span() as span:
        script = "sleep 300 & echo $$ $! > pids.new; mv pids.new pids; wait"
        tag = {"LONGTAKE_ATTEMPT": folder.name}
        command = (("/bin/sh", "-c", script), folder / "log", tag)
        await span.start_burst([command], cwd=folder, env=dict(os.environ), longest_seconds=float(sys.argv[2]))
        print(supervisor.pid, flush=True)
        await asyncio.sleep(300)

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.timed
@pytest.mark.parametrize("when", ["at once", "after it was kept"])
@pytest.mark.parametrize("victims", ["worker", "worker, supervisor", "worker, supervisor, keeper"])
async def test_whatever_is_killed_nothing_of_a_burst_outlives_its_worker(
    tmp_path: Path, victims: str, when: str
) -> None:
    folder = tmp_path / uuid.uuid4().hex
    folder.mkdir()
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"}
    words = [sys.executable, "-c", ENDLESS_WORKER, str(folder), "0.1" if when == "after it was kept" else "300"]
    worker = await asyncio.create_subprocess_exec(*words, env=environ, stdout=subprocess.PIPE)
    try:
        assert worker.stdout is not None
        supervisor = int(await worker.stdout.readline())
        await until(lambda: (folder / "pids").exists(), "the command and its child")
        pids = [int(pid) for pid in (folder / "pids").read_text().split()]
        if when == "after it was kept":
            await until(lambda: time.time() - (folder / "pids").stat().st_mtime > 0.3, "the end of the burst")
        ours = {"worker": worker.pid, "supervisor": supervisor, "keeper": next(iter(children(supervisor)))}
        assert len(living(*pids)) == 2
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for victim in victims.split(", "):
                os.kill(ours[victim], number)
        wait_for(lambda: not living(*pids), "the command and its child", 1.0)
        assert survivors({"LONGTAKE_ATTEMPT": folder.name}) == []
    finally:
        await worker.wait()
