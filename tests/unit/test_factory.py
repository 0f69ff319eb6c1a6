"""Opening stores: a service that lets two writers take one name is refused."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest

from longtake.stores.factory import check_exclusive_creation
from longtake.stores.s3 import S3Store, make_s3_client
from longtake.stores.store import StoreError


class Service(BaseHTTPRequestHandler):
    """The least of S3; whether it keeps conditions is said by the bucket's name."""

    protocol_version = "HTTP/1.1"
    names: set[str]

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


@pytest.fixture
def service() -> Iterator[ThreadingHTTPServer]:
    Service.names = set()
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
        assert not Service.names, "the probe is left in the store"


def bucket(service: ThreadingHTTPServer, name: str, scratch: Path) -> S3Store:
    session = boto3.Session(aws_access_key_id="key", aws_secret_access_key="secret")
    endpoint = f"http://127.0.0.1:{service.server_address[1]}"
    return S3Store(f"s3://{name}/show", make_s3_client(session, endpoint_url=endpoint), scratch=scratch)


def test_a_service_that_ignores_conditions_is_refused_with_the_reason(
    service: ThreadingHTTPServer, tmp_path: Path
) -> None:
    for _ in range(2):
        with pytest.raises(StoreError, match="ignores `If-None-Match") as raised:
            check_exclusive_creation(bucket(service, "careless", tmp_path))
        assert not raised.value.is_temporary


def test_a_service_that_keeps_conditions_is_asked_once(service: ThreadingHTTPServer, tmp_path: Path) -> None:
    check_exclusive_creation(bucket(service, "careful", tmp_path))
    service.shutdown()

    check_exclusive_creation(bucket(service, "careful", tmp_path))
