"""Opening stores: a service that lets two writers take one name is refused."""

from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from support.s3.conditional_service import serve_conditions

from longtake.stores.factory import check_exclusive_creation
from longtake.stores.s3 import S3Store, make_s3_client
from longtake.stores.store import StoreError


@pytest.fixture
def service() -> Iterator[ThreadingHTTPServer]:
    with serve_conditions() as server:
        yield server


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
