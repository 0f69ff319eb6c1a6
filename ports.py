"""TCP ports of this host: find free ones, and name the process that has taken one."""

import errno
import secrets
import socket
from collections.abc import Callable

import psutil

LOOPBACK = "127.0.0.1"


class PortTakenError(Exception):
    """A port that the user named is taken; says by which process."""


def find_free_port(host: str = LOOPBACK) -> int:
    """Return a port on which nothing listened a moment ago.

    Nothing keeps it free until a server listens there: start that server again, on another port, where
    `is_port_conflict` says so of its log. From 20,000 to 32,000, because Linux gives 32,768 and above to outgoing
    connections, one of which may take such a port before the server does; and because Temporal writes its ports into
    16-bit columns of PostgreSQL.
    """
    while is_port_taken(port := 20_000 + secrets.randbelow(12_000), host):
        pass
    return port


def is_port_taken(port: int, host: str = LOOPBACK) -> bool:
    """Tell whether a server that would listen on a port fails because another socket has it."""
    with socket.socket() as probe:
        # As servers do. Without it, the closed connections of a server that has ended count for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
        except OverflowError:
            # Beyond 65,535: the server says so.
            return False
    return False


def is_port_conflict(log: str) -> bool:
    """Tell whether a server's log says that one of its ports was taken."""
    return "address already in use" in log.lower()


def find_port_holder(port: int) -> str:
    """Return the process that has a port, as people are told: `process 4242 (nginx)`."""
    try:
        sockets = [held for held in psutil.net_connections("tcp") if held.laddr and held.laddr.port == port]
    except psutil.AccessDenied:
        # macOS shows connections of all processes to root alone.
        sockets = []
    # A connection that a server has accepted has the server's port too, and may have gone to another process.
    for held in sorted(sockets, key=lambda held: held.status != psutil.CONN_LISTEN):
        if held.pid is not None:
            try:
                return f"process {held.pid} ({psutil.Process(held.pid).name()})"
            except psutil.Error:
                continue
    return "a process that this account cannot see"


def choose_port(
    port: int, server: str, *, named_by: str | None, say: Callable[[str], None], host: str = LOOPBACK
) -> int:
    """Return a port if it is free, else a free one in its place, and tell `say` so in one line.

    Args:
        port: The port that is wanted.
        server: What is to listen there, as people are told.
        named_by: The option or variable with which the user named this port; None where it is a default.
        say: Told if the port is taken.
        host: Address of this host on which the server will listen.

    Raises:
        PortTakenError: The port is taken, and the user named it.
    """
    if not is_port_taken(port, host):
        return port
    holder = find_port_holder(port)
    if named_by is not None:
        raise PortTakenError(f"port {port} of {named_by} is taken by {holder}: end that process, or name another port.")
    chosen = find_free_port(host)
    say(f"Port {port} is taken by {holder}: {server} gets port {chosen}.")
    return chosen
