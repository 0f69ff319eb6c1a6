"""Ports: free ones are found, and who has the others is told."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from ports import PortTakenError, choose_port, find_free_port, find_port_holder, is_port_conflict, is_port_taken

# A process that has a port, and tells which one.
HOLDER = """\
import socket, sys
held = socket.create_server(("127.0.0.1", 0))
print(held.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder() -> Iterator[tuple[int, int]]:
    """The pid of another process, and the port it listens on."""
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.kill()


def test_a_free_port_can_be_listened_on_and_is_not_among_those_of_outgoing_connections() -> None:
    port = find_free_port()

    with socket.create_server(("127.0.0.1", port)):
        assert is_port_taken(port)
    assert 20_000 <= port < 32_000


def test_the_closed_connections_of_a_server_that_has_ended_do_not_take_its_port() -> None:
    with socket.create_server(("127.0.0.1", find_free_port())) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as caller:
            # Closed by the server first, which then has to remember it.
            server.accept()[0].close()
            assert caller.recv(1) == b""

    assert not is_port_taken(port)


def test_who_has_a_port_is_told_with_the_pid(holder: tuple[int, int]) -> None:
    pid, port = holder

    assert find_port_holder(port) == f"process {pid} ({psutil.Process(pid).name()})"


def test_a_holder_that_cannot_be_seen_is_told_as_such() -> None:
    with socket.socket() as bound:
        # The system does not list a socket that is bound and does not listen.
        bound.bind(("127.0.0.1", 0))

        assert is_port_taken(bound.getsockname()[1])
        assert find_port_holder(bound.getsockname()[1]) == "a process that this account cannot see"


def test_a_port_that_is_free_is_chosen_without_a_word() -> None:
    port, lines = find_free_port(), list[str]()

    assert choose_port(port, "the UI", named_by="--ui-port", on_message=lines.append) == port
    assert lines == []


def test_a_default_port_that_is_taken_is_replaced_in_one_line(holder: tuple[int, int]) -> None:
    pid, port = holder
    lines: list[str] = []

    chosen = choose_port(port, "the UI", named_by=None, on_message=lines.append)

    assert chosen != port
    assert not is_port_taken(chosen)
    assert lines == [
        f"Port {port} is taken by process {pid} ({psutil.Process(pid).name()}): the UI gets port {chosen}."
    ]


def test_a_named_port_that_is_taken_is_an_error_with_the_holders_pid(holder: tuple[int, int]) -> None:
    pid, port = holder

    with pytest.raises(PortTakenError, match=rf"^port {port} of --ui-port is taken by process {pid} .*: end .*\.$"):
        choose_port(port, "the UI", named_by="--ui-port", on_message=print)


@pytest.mark.parametrize(
    "log",
    [
        "unable to start: listen tcp 127.0.0.1:21000: bind: address already in use",
        'LOG:  could not bind IPv4 address "127.0.0.1": Address already in use',
    ],
    ids=["Go", "PostgreSQL"],
)
def test_servers_say_in_their_logs_that_a_port_was_taken(log: str) -> None:
    assert is_port_conflict(log)
    assert not is_port_conflict("the disk is full")
