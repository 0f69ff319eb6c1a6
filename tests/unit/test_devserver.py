import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client, WorkflowExecutionStatus

from devserver import (
    DevServer,
    DevServerError,
    TemporalNotFound,
    cache_dir,
    find_temporal,
    free_port,
    start_dev_server,
    version_of,
)

ROOT = Path(__file__).parents[2]

RUNS = "#!/bin/sh\necho temporal version 1.2.3\n"
BREAKS = "#!/bin/sh\nexit 3\n"
# Stands in for Go: builds a program that runs, and counts the builds.
GO = """#!/bin/sh
echo "$*" >> {log}
printf '#!/bin/sh\\necho temporal version 1.5.1\\n' > "$GOBIN/temporal"
/bin/chmod +x "$GOBIN/temporal"
"""
BROKEN_GO = "#!/bin/sh\necho downloading >&2\necho no such module >&2\nexit 1\n"

Start = Callable[[list[str]], Awaitable[DevServer]]


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH, with an empty cache and an SDK whose download is out of reach."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("LONGTAKE_CACHE", str(tmp_path / "cache"))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_a_temporal_on_path_comes_first(path_folder: Path) -> None:
    program = script(path_folder / "temporal", RUNS)
    script(cache_dir() / "bin" / "temporal", RUNS)
    lines: list[str] = []

    assert find_temporal(lines.append) == program
    assert lines == []


def test_a_broken_temporal_on_path_is_passed_over_with_one_line(path_folder: Path) -> None:
    broken = script(path_folder / "temporal", BREAKS)
    cached = script(cache_dir() / "bin" / "temporal", RUNS)
    lines: list[str] = []

    assert find_temporal(lines.append) == cached
    assert lines == [f"{broken} does not run: passed over."]


def test_go_builds_what_cannot_be_found_or_downloaded(path_folder: Path, tmp_path: Path) -> None:
    script(path_folder / "go", GO.format(log=tmp_path / "builds"))
    lines: list[str] = []

    program = find_temporal(lines.append)

    assert program == cache_dir() / "bin" / "temporal"
    assert version_of(program) == "temporal version 1.5.1"
    assert (tmp_path / "builds").read_text() == "install github.com/temporalio/cli/cmd/temporal@v1.5.1\n"
    assert [line.split(":")[0] for line in lines] == [
        "temporal is not on PATH.",
        "No Temporal server in the project's cache",
        "The SDK's download of the Temporal server cannot be had.",
        "Building the Temporal server with Go",
    ]


def test_what_was_built_once_is_used_the_next_time(path_folder: Path, tmp_path: Path) -> None:
    script(path_folder / "go", GO.format(log=tmp_path / "builds"))
    first = find_temporal(lambda line: None)
    lines: list[str] = []

    assert find_temporal(lines.append) == first
    assert lines == ["temporal is not on PATH."]
    assert sorted(path.name for path in first.parent.iterdir()) == [".lock", "temporal"]


async def test_callers_at_the_same_time_share_one_build(path_folder: Path, tmp_path: Path) -> None:
    script(path_folder / "go", GO.format(log=tmp_path / "builds"))

    found = await asyncio.gather(*(asyncio.to_thread(find_temporal, lambda line: None) for _ in range(4)))

    assert len(set(found)) == 1
    assert len((tmp_path / "builds").read_text().splitlines()) == 1


def test_the_last_miss_says_what_to_install(path_folder: Path) -> None:
    lines: list[str] = []

    with pytest.raises(TemporalNotFound, match=r"^Install the Temporal CLI .*, or Go so that .*\.$"):
        find_temporal(lines.append)

    assert lines[-1] == "go is not on PATH."


def test_a_failed_build_tells_the_last_line_and_leaves_nothing(path_folder: Path) -> None:
    script(path_folder / "go", BROKEN_GO)
    lines: list[str] = []

    with pytest.raises(TemporalNotFound):
        find_temporal(lines.append)

    assert lines[-1].endswith("failed: no such module")
    assert [path.name for path in (cache_dir() / "bin").iterdir()] == [".lock"]


def test_free_port_can_be_bound() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))


async def test_a_server_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    program = script(tmp_path / "temporal", "#!/bin/sh\necho the disk is full >&2\nexit 1\n")

    with pytest.raises(DevServerError, match="the disk is full"):
        await start_dev_server(
            program,
            database=None,
            address=f"127.0.0.1:{free_port()}",
            ui_port=None,
            log=tmp_path / "log",
            say=lambda line: None,
        )


async def test_stop_kills_a_server_that_ignores_the_signal() -> None:
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        "trap '' TERM; echo ready; while :; do read -r line; done",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    await process.stdout.readline()

    await DevServer("127.0.0.1:1", process.pid, process).stop(patience_seconds=0.1)

    assert process.returncode == -signal.SIGKILL


@pytest.fixture
def temporal(temporal_program: Path) -> Path:
    return temporal_program


@pytest.fixture
async def start(temporal: Path, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts servers at one address on one SQLite file, and stops them with the test."""
    servers: list[DevServer] = []
    address = f"127.0.0.1:{free_port()}"

    async def begin(lines: list[str]) -> DevServer:
        server = await start_dev_server(
            temporal,
            database=tmp_path / "state" / "temporal.db",
            address=address,
            ui_port=None,
            log=tmp_path / "temporal.log",
            say=lines.append,
        )
        servers.append(server)
        return server

    yield begin
    for server in reversed(servers):
        await server.stop()


@pytest.mark.integration
async def test_state_survives_a_stop_and_a_start(start: Start) -> None:
    server = await start([])
    client = await Client.connect(server.address)
    handle = await client.start_workflow("NobodyServesThis", id="kept", task_queue="nobody")
    await server.stop()
    assert server.pid is not None
    assert not psutil.pid_exists(server.pid)

    again = await start([])

    described = await (await Client.connect(again.address)).get_workflow_handle("kept").describe()
    assert described.status == WorkflowExecutionStatus.RUNNING
    assert described.run_id == handle.first_execution_run_id


@pytest.mark.integration
async def test_a_second_start_uses_the_running_server_and_leaves_it_running(start: Start) -> None:
    first = await start([])
    lines: list[str] = []

    second = await start(lines)
    await second.stop()

    assert second == DevServer(first.address)
    assert lines == [f"Using the Temporal server that runs at {first.address}."]
    assert await (await Client.connect(first.address)).service_client.check_health()


@pytest.mark.integration
async def test_the_search_attributes_are_there_from_the_start(start: Start) -> None:
    client = await Client.connect((await start([])).address)

    listed = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace="default"))

    assert {"LongtakeState", "LongtakeName", "LongtakeProgress"} <= set(listed.custom_attributes)


@pytest.mark.integration
async def test_the_server_is_out_of_reach_of_ctrl_c(start: Start) -> None:
    server = await start([])

    assert server.pid is not None
    assert os.getsid(server.pid) == server.pid


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells a child of its parent's death on Linux only")
async def test_the_server_does_not_outlive_a_killed_parent(temporal: Path, tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, devserver\n"
        "from pathlib import Path\n"
        "async def main():\n"
        "    server = await devserver.start_dev_server(Path(sys.argv[1]), database=None, ui_port=None,\n"
        "        address=f'127.0.0.1:{devserver.free_port()}', log=Path(sys.argv[2]), say=lambda line: None)\n"
        "    print(server.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", code, str(temporal), str(tmp_path / "log")),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}"},
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    server = psutil.Process(int(await parent.stdout.readline()))

    parent.kill()
    await parent.wait()

    await asyncio.to_thread(server.wait, 20)
    assert not server.is_running()
