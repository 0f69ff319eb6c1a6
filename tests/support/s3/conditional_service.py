"""The least of S3 on loopback, which keeps `If-None-Match` or ignores it; the bucket's name says which."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ConditionalService(BaseHTTPRequestHandler):
    """Answers for one object at a time; buckets whose names begin with `careful` keep conditions."""

    protocol_version = "HTTP/1.1"
    names: set[str]

    def do_HEAD(self) -> None:
        self._answer(200 if self.path in self.names else 404)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        is_taken = self.path in self.names and self.headers["If-None-Match"] == "*"
        self.names.add(self.path)
        self._answer(412 if is_taken and self.path.startswith("/careful") else 200)

    def do_DELETE(self) -> None:
        self.names.discard(self.path)
        self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("ETag", '"tag"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextmanager
def serve_conditions() -> Iterator[ThreadingHTTPServer]:
    """Run the service until the block ends; nothing may be left in it then."""
    ConditionalService.names = set()
    with ThreadingHTTPServer(("127.0.0.1", 0), ConditionalService) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
        assert not ConditionalService.names, "the probe is left in the store"
