"""Stores in the tests' S3 server."""

import secrets
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from support.s3.server import S3Server

from longtake.stores.s3 import S3Store, make_s3_client
from longtake.stores.s3_calls import RetryPolicy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The least that S3 takes for a part.
SMALL_PART_BYTES = 5 << 20

# What passes in a test passes in moments.
SHORT_PATIENCE = RetryPolicy(seconds=5.0, first_seconds=0.02, most_seconds=0.2)


def bucket_store(
    s3_server: S3Server,
    scratch: Path,
    *,
    url: str | None = None,
    endpoint: str | None = None,
    patience: RetryPolicy = SHORT_PATIENCE,
    secret_key: str | None = None,
    session: boto3.Session | None = None,
    stop: threading.Event | None = None,
) -> S3Store:
    """Return an empty store of its own, or the one at a URL; through another endpoint, where one is given."""
    url = url or f"s3://{s3_server.bucket('stores')}/{secrets.token_hex(6)}"
    if secret_key is not None:
        session = replace(s3_server, secret_key=secret_key).session()
    where = endpoint or s3_server.url
    if session is None:
        client = _shared_client(where, s3_server.access_key, s3_server.secret_key)
    else:
        client = make_s3_client(session, endpoint_url=where)
    return S3Store(url, client, scratch=scratch, patience=patience, part_bytes=SMALL_PART_BYTES, stop=stop)


@cache
def _shared_client(endpoint: str, access_key: str, secret_key: str) -> "S3Client":
    """Return the client of this process for an endpoint; one takes 0.03 s of CPU time to make."""
    return make_s3_client(S3Server(endpoint, access_key, secret_key).session(), endpoint_url=endpoint)
