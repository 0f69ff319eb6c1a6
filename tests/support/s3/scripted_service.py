"""A service on loopback that gives the answers it is told to, byte for byte, and tells what it was asked."""

import re
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

# Ends the connection in place of an answer.
HANG_UP = b""


@dataclass
class ScriptedService:
    """The service: its port, and what it was asked on which connection."""

    port: int
    # (number of the connection, head, content) of each request.
    asked: list[tuple[int, str, bytes]] = field(default_factory=list)
    # Set once the first connection is closed.
    has_closed: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve_script(*connections: Sequence[bytes], tls: ssl.SSLContext | None = None) -> Iterator[ScriptedService]:
    """Serve connections one after the other until the block ends; each gives its answers and is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        service = ScriptedService(listening.getsockname()[1])

        def serve() -> None:
            for number, answers in enumerate(connections):
                with suppress(OSError):
                    plain, _ = listening.accept()
                    with plain if tls is None else tls.wrap_socket(plain, server_side=True) as client:
                        _serve(service, number, client, answers)
                    service.has_closed.set()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield service
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def _serve(service: ScriptedService, number: int, client: socket.socket, answers: Sequence[bytes]) -> None:
    reader = client.makefile("rb")
    for answer in answers:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = reader.readline()
            if not line:
                return
            head += line
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        service.asked.append((number, head.decode(), reader.read(int(length[1])) if length else b""))
        if answer == HANG_UP:
            return
        client.sendall(answer)
