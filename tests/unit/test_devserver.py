import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest
from support.processes.forks import FORKS, make_fork
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client, WorkflowExecutionStatus

import devserver
from devserver import DevServer, DevServerError, start_dev_server
from ports import PortTakenError, find_free_port

Start = Callable[..., Awaitable[DevServer]]


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


async def test_a_server_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    program = script(tmp_path / "temporal", "#!/bin/sh\necho the disk is full >&2\nexit 1\n")

    with pytest.raises(DevServerError, match="the disk is full"):
        await start_dev_server(
            program,
            database=None,
            address=f"127.0.0.1:{find_free_port()}",
            ui_port=None,
            log=tmp_path / "log",
            on_message=lambda line: None,
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
def default_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """The port of the default address, for this test alone: 7233 may be somebody's."""
    port = find_free_port()
    monkeypatch.setattr(devserver, "DEFAULT_ADDRESS", f"127.0.0.1:{port}")
    return port


@pytest.fixture
async def start(temporal: Path, tmp_path: Path, default_port: int) -> AsyncIterator[Start]:
    """Starts servers on one SQLite file, and stops them with the test."""
    servers: list[DevServer] = []

    async def begin(
        lines: list[str], address: str | None = None, ui_port: int | None = None, program: Path = temporal
    ) -> DevServer:
        server = await start_dev_server(
            program,
            database=tmp_path / "state" / "temporal.db",
            address=address,
            ui_port=ui_port,
            log=tmp_path / "temporal.log",
            on_message=lines.append,
        )
        servers.append(server)
        return server

    yield begin
    for server in reversed(servers):
        await server.stop()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of the loopback interface that this process has."""
    with socket.create_server(("127.0.0.1", find_free_port())) as listening:
        yield listening.getsockname()[1]


# In the words of people: this process.
OURS = f"process {os.getpid()} ({psutil.Process().name()})"


@pytest.mark.integration
async def test_a_server_that_loses_a_port_as_it_starts_is_started_again_at_its_address(
    start: Start, temporal: Path, tmp_path: Path, taken: int, default_port: int
) -> None:
    # The real server, whose choice of an HTTP port is one that is taken, the first time.
    program = script(
        tmp_path / "temporal",
        f'#!/bin/sh\nmkdir {tmp_path}/first 2>/dev/null && set -- "$@" --http-port={taken}\nexec {temporal} "$@"\n',
    )
    address, lines = f"127.0.0.1:{find_free_port()}", list[str]()

    server = await start(lines, address=address, program=program)

    assert server.address == address
    assert await (await Client.connect(address)).service_client.check_health()
    assert lines == [
        f"Another process took a port of the Temporal server: starting it again at {address}.",
        f"Temporal server at {address}.",
    ]


async def test_a_server_that_loses_a_port_each_time_is_told_with_its_log(tmp_path: Path) -> None:
    program = script(
        tmp_path / "temporal", f"#!/bin/sh\necho started >> {tmp_path}/starts\necho address already in use\nexit 1\n"
    )
    lines: list[str] = []

    with pytest.raises(DevServerError, match="ends:\naddress already in use"):
        await start_dev_server(
            program,
            database=None,
            address=f"127.0.0.1:{find_free_port()}",
            ui_port=None,
            log=tmp_path / "log",
            on_message=lines.append,
        )

    assert (tmp_path / "starts").read_text() == "started\n" * 5
    assert len(lines) == 4


@pytest.mark.integration
async def test_a_default_address_and_a_ui_port_that_are_taken_are_replaced(
    start: Start, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    monkeypatch.setattr(devserver, "DEFAULT_ADDRESS", f"127.0.0.1:{taken}")
    with socket.create_server(("127.0.0.1", find_free_port())) as of_ui:
        ui = of_ui.getsockname()[1]
        monkeypatch.setattr(devserver, "DEFAULT_UI_PORT", ui)
        lines: list[str] = []

        server = await start(lines, ui_port=0)

    assert await (await Client.connect(server.address)).service_client.check_health()
    assert server.ui is not None
    assert lines == [
        f"Port {taken} is taken by {OURS}: the Temporal server gets port {server.address.rpartition(':')[2]}.",
        f"Port {ui} is taken by {OURS}: the Temporal UI gets port {server.ui.rpartition(':')[2]}.",
        f"Temporal server at {server.address}, UI at {server.ui}.",
    ]


async def test_a_port_that_was_named_and_is_taken_is_one_sentence_with_the_holders_pid(
    start: Start, taken: int
) -> None:
    with pytest.raises(PortTakenError, match=rf"^port {taken} of --address is taken by process {os.getpid()} "):
        await start([], address=f"127.0.0.1:{taken}")
    with pytest.raises(PortTakenError, match=rf"^port {taken} of --ui-port is taken by process {os.getpid()} "):
        await start([], ui_port=taken)


async def test_an_address_without_a_port_is_one_sentence(start: Start) -> None:
    with pytest.raises(DevServerError, match=r"^--address localhost is no host:port, as in 127\.0\.0\.1:\d+\.$"):
        await start([], address="localhost")


@pytest.mark.integration
async def test_starts_at_the_same_time_share_the_one_server_of_their_database(
    start: Start, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    # So that each of them would have taken a port of its own.
    monkeypatch.setattr(devserver, "DEFAULT_ADDRESS", f"127.0.0.1:{taken}")

    servers = await asyncio.gather(*(start([]) for _ in range(3)))

    assert len({server.address for server in servers}) == 1
    assert len([server for server in servers if server.process]) == 1


@pytest.mark.integration
async def test_a_server_is_shared_has_the_search_attributes_and_is_out_of_reach_of_ctrl_c(
    start: Start,
) -> None:
    first = await start([])
    client = await Client.connect(first.address)
    listed = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace="default"))

    assert {"LongtakeState", "LongtakeName", "LongtakeProgress"} <= set(listed.custom_attributes)
    # Ctrl-C does not reach it.
    assert first.pid is not None
    assert os.getsid(first.pid) == first.pid
    with pytest.raises(DevServerError, match=rf"^The server at {first.address} uses .*: name another --database\.$"):
        await start([], address=f"127.0.0.1:{find_free_port()}")

    # At the same address it is used, and left running.
    lines: list[str] = []
    second = await start(lines)
    await second.stop()

    assert second == DevServer(first.address)
    assert lines == [f"Using the Temporal server that runs at {first.address}."]
    assert await client.service_client.check_health()


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


def hold_server(program: Path, log: Path, told: Connection) -> None:
    """Start a server, tell its pid, and hold it until killed."""

    async def hold() -> None:
        address = f"127.0.0.1:{find_free_port()}"
        server = await start_dev_server(
            program, database=None, ui_port=None, address=address, log=log, on_message=lambda line: None
        )
        told.send(server.pid)
        await asyncio.Event().wait()

    asyncio.run(hold())


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells a child of its parent's death on Linux only")
async def test_the_server_does_not_outlive_a_killed_parent(temporal: Path, tmp_path: Path) -> None:
    told, tells = FORKS.Pipe(duplex=False)
    parent = make_fork(hold_server, temporal, tmp_path / "log", tells)
    parent.start()
    tells.close()
    server = psutil.Process(await asyncio.to_thread(told.recv))

    parent.kill()
    parent.join()

    await asyncio.to_thread(server.wait, 20)
    assert not server.is_running()
    told.close()
