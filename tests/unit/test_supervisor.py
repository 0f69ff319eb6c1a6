"""Starting renders: what they see of the world, what cannot be started, and that starting leaks nothing."""

import ast
import asyncio
import errno
import os
import re
import signal
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.farm import eventually
from support.processes.process_table import children, state_of, survivors, wait_for
from support.processes.supervisors import require_control_groups, supervisor_fixture

from activities.processes.orphans import WORKER_VARIABLE, WorkerMark
from activities.processes.render_process import KeeperLostError, RenderProcess
from activities.processes.supervisor import SpanKeeper, Supervisor, SupervisorError

TAG = {"LONGTAKE_ATTEMPT": f"spawns-{os.getpid()}"}
ENVIRONMENT = {"PATH": os.environ["PATH"], **TAG}


supervisor = supervisor_fixture(TAG)


async def spawn(
    supervisor: Supervisor, folder: Path, *command: str, env: Mapping[str, str] = ENVIRONMENT, log: str = "log"
) -> RenderProcess:
    # A stop ends all that carries the tag: renders that run side by side must differ in it.
    tag = {"LONGTAKE_TEST_SPAWN": uuid.uuid4().hex}
    return await supervisor.spawn(command, cwd=folder, env={**env, **tag}, log=folder / log, tag=tag)


async def printed(supervisor: Supervisor, folder: Path, *command: str, env: Mapping[str, str] = ENVIRONMENT) -> str:
    """Return what a program prints."""
    process = await spawn(supervisor, folder, *command, env=env)
    try:
        assert await process.wait() == 0, (folder / "log").read_text()
    finally:
        await process.stop(0)
    return (folder / "log").read_text() if (folder / "log").exists() else ""


def shown(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


async def test_a_render_sees_the_environment_it_is_given_and_the_mark_of_its_worker(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    environment = {"PATH": os.environ["PATH"], "NAME": "Ünïcödé\udcff", "EMPTY": "", **TAG}

    text = await printed(
        supervisor, tmp_path, sys.executable, "-c", "import os; print(ascii(dict(os.environ)))", env=environment
    )

    seen = ast.literal_eval(text)
    del seen["LONGTAKE_TEST_SPAWN"]
    assert {name: seen.pop(name) for name in environment} == environment
    assert WorkerMark.parse(seen.pop(WORKER_VARIABLE)) == WorkerMark.current()
    assert seen.keys() <= {"LC_CTYPE"}


async def test_nothing_secret_of_the_worker_is_visible_in_any_process_that_it_starts(
    monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setenv("TEMPORAL_API_KEY", "hush-hush")
    process = await spawn(supervisor, tmp_path, "sleep", "300")
    assert supervisor.pid is not None
    (keeper,) = children(supervisor.pid)

    for pid in (supervisor.pid, keeper, process.pid):
        environment = shown(pid, "environ")
        assert environment
        assert b"hush" not in environment
        assert b"AWS" not in environment
        assert b"hush" not in shown(pid, "cmdline")
    await process.stop(0)


async def test_a_render_stands_alone(supervisor: Supervisor, tmp_path: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        text = await printed(
            supervisor,
            tmp_path,
            sys.executable,
            "-S",
            "-c",
            "import os, signal, sys\n"
            "print(os.getsid(0) == os.getpid() == os.getpgid(0), sys.stdin.read() == '', os.getcwd())\n"
            "print(sorted(map(int, os.listdir('/proc/self/fd')))[:3], len(os.listdir('/proc/self/fd')))\n"
            "status = open('/proc/self/status').read()\n"
            "print(*(line.split()[1] for line in status.splitlines() if line[:6] in ('SigBlk', 'SigIgn')))\n",
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})

    alone, descriptors, signals = text.splitlines()
    assert alone == f"True True {tmp_path}"
    # The fourth is that of the folder which is being listed.
    assert descriptors == "[0, 1, 2] 4"
    blocked, ignored = (int(mask, 16) for mask in signals.split())
    assert blocked == 0
    # Python itself ignores SIGPIPE and SIGXFSZ. Signals 32 and 33 are the C library's own: it lets nobody reset them,
    # and some shells hand them down ignored.
    assert ignored & ~(0b11 << 31) == 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1


@pytest.mark.parametrize(
    ("command", "folder", "number"),
    [
        (["/no/such/program"], ".", errno.ENOENT),
        (["no-such-program"], ".", errno.ENOENT),
        (["./not-executable"], ".", errno.EACCES),
        (["./no-interpreter"], ".", errno.ENOENT),
        (["./nonsense"], ".", errno.ENOEXEC),
        (["/tmp"], ".", errno.EACCES),
        (["sleep", "1"], "no/such/folder", errno.ENOENT),
        (["sleep", "\0"], ".", errno.EINVAL),
        (["sleep", *["x" * 100_000] * 30], ".", errno.E2BIG),
    ],
    ids=[
        "missing",
        "not on PATH",
        "not executable",
        "no interpreter",
        "no program",
        "a folder",
        "no cwd",
        "null",
        "big",
    ],
)
async def test_what_cannot_be_executed_is_an_error_of_the_system(
    supervisor: Supervisor, tmp_path: Path, command: list[str], folder: str, number: int
) -> None:
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    for name, text in (("no-interpreter", "#!/no/such/interpreter\n"), ("nonsense", "\x01\x02\x03")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
        await supervisor.spawn(command, cwd=tmp_path / folder, env=ENVIRONMENT, log=tmp_path / "log", tag=TAG)

    assert caught.value.errno == number
    assert caught.value.strerror == os.strerror(number)
    assert caught.value.filename == (str(tmp_path / folder) if folder != "." else command[0])


async def test_exit_codes_and_signals_are_told_apart(supervisor: Supervisor, tmp_path: Path) -> None:
    codes = []
    for script in ("exit 0", "exit 7", "exit 255", "kill -TERM $$", "kill -SEGV $$"):
        process = await spawn(supervisor, tmp_path, "sh", "-c", script)
        codes.append(await process.wait())
        await process.stop(0)

    assert codes == [0, 7, 255, -signal.SIGTERM, -signal.SIGSEGV]


async def test_the_fork_of_a_keeper_survives_that_the_interrupt_key_is_pressed(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    process = await spawn(supervisor, tmp_path, "sleep", "300")
    assert supervisor.pid is not None
    ours = [supervisor.pid, *children(supervisor.pid)]

    for pid in ours:
        os.kill(pid, signal.SIGINT)
    await process.freeze()

    assert [os.getsid(pid) for pid in ours] == ours
    assert state_of(process.pid) == "T"
    await process.stop(0)


async def test_many_renders_start_at_once(supervisor: Supervisor, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(15)]
    for folder in folders:
        folder.mkdir()

    texts = await asyncio.gather(*(printed(supervisor, folder, "sh", "-c", "pwd") for folder in folders))

    assert texts == [f"{folder}\n" for folder in folders]


async def test_a_cancel_at_any_moment_of_a_start_leaves_nothing(supervisor: Supervisor, tmp_path: Path) -> None:
    for turns in (0, 1, 2, 3, 5, 8, 13, 30, 100):
        starting = asyncio.ensure_future(spawn(supervisor, tmp_path, "sleep", "300"))
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        starting.cancel()

        try:
            process = await starting
        except asyncio.CancelledError:
            assert survivors(TAG) == [], f"after {turns} turns"
        else:
            # It had been started before.
            await process.stop(0)


async def test_two_cancels_leave_nothing_either(tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        starts = [asyncio.ensure_future(spawn(supervisor, tmp_path, "sleep", "300")) for _ in range(10)]
        for _ in range(2):
            await asyncio.sleep(0.002)
            for start in starts:
                start.cancel()
        await asyncio.gather(*starts, return_exceptions=True)

    assert survivors(TAG) == []


async def test_many_renders_leave_no_descriptor_and_no_zombie(
    supervisor: Supervisor, tmp_path: Path, runs: int
) -> None:
    async def batch(count: int) -> None:
        for _ in range(count // 10):
            await asyncio.gather(*(printed(supervisor, tmp_path, "true") for _ in range(10)))
            with pytest.raises(FileNotFoundError):
                await spawn(supervisor, tmp_path, "/no/such/program")

    def descriptors() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{supervisor.pid}/fd"))

    await batch(10)
    assert supervisor.pid is not None
    own = supervisor.pid
    before = descriptors()
    await batch(10 * runs)

    wait_for(lambda: not children(own, zombies=True), "the end of all keepers")
    # The end of a keeper is seen here a moment before its connection is closed. And connections that tests before have
    # left open may close meanwhile: 26 were 24 once.
    await eventually(lambda: descriptors()[0] <= before[0], "as few descriptors as before")
    assert descriptors()[1] == before[1]


async def test_a_supervisor_that_cannot_be_started_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, supervisor: Supervisor
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")

    with pytest.raises(SupervisorError, match=r"cannot be started: .*No such file or directory"):
        await spawn(supervisor, tmp_path, "true")
    assert supervisor.pid is None


async def test_a_supervisor_that_dies_at_once_is_tried_again_a_few_times(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, supervisor: Supervisor
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(SupervisorError, match="dies as soon as it is started"):
        await asyncio.wait_for(spawn(supervisor, tmp_path, "true"), 60)


async def test_nothing_is_started_before_it_is_needed() -> None:
    async with Supervisor() as supervisor:
        assert supervisor.pid is None
        await supervisor.start()
        pid = supervisor.pid
        assert pid is not None
        assert state_of(pid) not in "ZX"
    assert state_of(pid) in "ZX"


async def test_a_render_has_a_cgroup_while_it_lasts(supervisor: Supervisor, tmp_path: Path) -> None:
    home = require_control_groups(supervisor)
    process = await spawn(supervisor, tmp_path, "sleep", "300")

    (group,) = home.parent.glob(f"{home.name}*")
    members = (group / "cgroup.procs").read_text().split()
    await process.stop(5)

    assert members == [str(process.pid)]
    assert list(home.parent.glob(f"{home.name}*")) == []


async def test_a_host_without_what_makes_trees_exact_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Supervisor(exact=False) as supervisor:
        for _ in range(2):
            await printed(supervisor, tmp_path, "true")

    assert [record.message.partition(":")[0] for record in caplog.records] == ["this system has no subreaper"]


async def span_spawn(
    span: SpanKeeper, folder: Path, *command: str, tag: Mapping[str, str] | None = None
) -> RenderProcess:
    tag = tag or {"LONGTAKE_TEST_SPAWN": uuid.uuid4().hex}
    return await span.spawn(command, cwd=folder, env={**ENVIRONMENT, **tag}, log=folder / "log", tag=tag)


async def test_the_commands_of_a_span_share_a_keeper_that_proves_their_end_with_their_exit(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    assert supervisor.pid is None
    async with supervisor.keep_span() as span:
        seen = set()
        for code in (0, 7, 0):
            process = await span_spawn(span, tmp_path, "sh", "-c", f"echo {code}; exit {code}")
            seen |= set(children(supervisor.pid or 0))
            assert await process.wait() == code
            assert process.is_gone
            assert process.usage.peak_memory_bytes > 0
            with pytest.raises(FileNotFoundError):
                await span_spawn(span, tmp_path, "/no/such/program")
        assert len(seen) == 1

    assert (tmp_path / "log").read_text() == "0\n7\n0\n"
    wait_for(lambda: not children(supervisor.pid or 0, zombies=True), "the end of the keeper")


async def test_a_command_that_prints_nothing_leaves_no_log_unless_it_fails(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    async with supervisor.keep_span() as span:
        process = await span_spawn(span, tmp_path, "true")
        assert await process.wait() == 0
        assert not (tmp_path / "log").exists()

        process = await span_spawn(span, tmp_path, "false")
        assert await process.wait() == 1
        assert (tmp_path / "log").read_bytes() == b""


@pytest.mark.parametrize(
    "script",
    ["sleep 300 & :", "setsid sleep 300 & :", "sh -c 'sleep 0.05 &'; sleep 0.2"],
    ids=["a child that lives", "one that leads a session", "an orphan that has ended"],
)
async def test_a_command_that_leaves_something_behind_is_not_proven_by_its_exit(
    supervisor: Supervisor, tmp_path: Path, script: str
) -> None:
    tag = {"LONGTAKE_TEST_SPAWN": uuid.uuid4().hex}
    async with supervisor.keep_span() as span:
        process = await span_spawn(span, tmp_path, "sh", "-c", script, tag=tag)
        assert await process.wait() == 0
        assert not process.is_gone
        await process.stop(0)
        assert survivors(tag) == []
        assert await (await span_spawn(span, tmp_path, "true")).wait() == 0


async def test_what_another_process_started_for_a_command_is_ended_with_the_span(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    tag = {"LONGTAKE_TEST_SPAWN": uuid.uuid4().hex}
    async with supervisor.keep_span() as span:
        process = await span_spawn(span, tmp_path, "true", tag=tag)
        assert await process.wait() == 0
        stray = await asyncio.create_subprocess_exec("sleep", "300", env={**ENVIRONMENT, **tag})
        assert await (await span_spawn(span, tmp_path, "true")).wait() == 0

    assert await asyncio.wait_for(stray.wait(), 60) == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("is_idle", [True, False], ids=["between two commands", "with a command"])
async def test_a_killed_keeper_costs_a_span_the_command_at_hand_and_no_other(
    supervisor: Supervisor, tmp_path: Path, number: signal.Signals, is_idle: bool
) -> None:
    async with supervisor.keep_span() as span:
        assert await (await span_spawn(span, tmp_path, "true")).wait() == 0
        (keeper,) = children(supervisor.pid or 0)
        if is_idle:
            os.kill(keeper, number)
        else:
            process = await span_spawn(span, tmp_path, "sleep", "300")
            os.kill(keeper, number)
            with pytest.raises(KeeperLostError):
                await asyncio.wait_for(process.wait(), 60)
            assert process.is_gone

        process = await asyncio.wait_for(span_spawn(span, tmp_path, "true"), 60)

        assert await process.wait() == 0
        wait_for(lambda: keeper not in children(supervisor.pid or 0), "the end of the killed keeper")


async def test_an_order_that_crosses_the_end_of_a_command_does_not_reach_the_next(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    async with supervisor.keep_span() as span:
        for pause in (0, 0.0005, 0.001, 0.0015, 0.002, 0.003):
            first = await span_spawn(span, tmp_path, "true")
            await asyncio.sleep(pause)
            await asyncio.wait_for(first.freeze(), 60)
            # Frozen or gone: which of them came first is what differs.
            await asyncio.wait_for(first.thaw(), 60)
            assert await asyncio.wait_for(first.wait(), 60) == 0
            await first.stop(0)
            second = await span_spawn(span, tmp_path, "sh", "-c", "sleep 0.01")
            assert await asyncio.wait_for(second.wait(), 60) == 0
            await second.stop(0)
