"""Find free TCP ports of this host, and the process that has taken one."""

import errno
import secrets
import socket
from collections.abc import Callable

import psutil

LOOPBACK = "127.0.0.1"


class PortTakenError(Exception):
    """A port that the user named is taken; says by which process."""


def find_free_port(host: str = LOOPBACK) -> int:
    """Find a port on which nothing listens now.

    Another process may take the port before a server listens there: start that server again, on another port, where
    `is_port_conflict` is true of its log. The range is 20,000 to 32,000: Linux gives 32,768 and above to outgoing
    connections, one of which may take such a port before the server does, and Temporal writes its ports into 16-bit
    columns of PostgreSQL.
    """
    while is_port_taken(port := 20_000 + secrets.randbelow(12_000), host):
        pass
    return port


def is_port_taken(port: int, host: str = LOOPBACK) -> bool:
    """Tell whether another socket keeps a server from listening on a port."""
    with socket.socket() as probe:
        # As servers do: without it, closed connections of a server that has ended occupy the port for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
        except OverflowError:
            # Beyond 65,535: the error of the server itself is clear.
            return False
    return False


def is_port_conflict(log: str) -> bool:
    """Tell whether a server's log says that one of its ports was taken."""
    return "address already in use" in log.lower()


def find_port_holder(port: int) -> str:
    """Find the process that has a port, and return its name for people: `process 4242 (nginx)`."""
    try:
        sockets = [held for held in psutil.net_connections("tcp") if held.laddr and held.laddr.port == port]
    except psutil.AccessDenied:
        # macOS shows connections of other processes to root alone.
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
    port: int, server: str, *, named_by: str | None, on_message: Callable[[str], None], host: str = LOOPBACK
) -> int:
    """Return a port if it is free, else find another in its place and report that.

    Args:
        port: The wanted port.
        server: Name for people of the server that is to listen there.
        named_by: The option or variable with which the user named this port; None where it is a default.
        on_message: Called with one line if the port is taken.
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
    on_message(f"Port {port} is taken by {holder}: {server} gets port {chosen}.")
    return chosen
