"""Clients for S3, MinIO, R2 and other stores that speak S3's protocol."""

import os
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# So many files at once (`S3Store.parallel`), and the parts of some large ones.
_CONNECTIONS = 64
_CONNECT_SECONDS = 10.0
# Between two reads. A server that copies a part, or puts parts together, says nothing for so long.
_READ_SECONDS = 60.0


def connect(session: boto3.Session | None = None, *, endpoint_url: str | None = None) -> "S3Client":
    """Return a client for the store that this host's AWS settings name.

    Args:
        session: Other credentials than those of the environment, the profile or the role, which are read anew.
        endpoint_url: Another store than the one that the settings name.

    Raises:
        ValueError: The settings cannot be used; `is ...; the fix`.
    """
    try:
        return _client(session or boto3.Session(), endpoint_url)
    except BotoCoreError as error:
        # The name of the error alone: its text may quote what is secret.
        name = type(error).__name__
        raise ValueError(f"is not to be had with the AWS settings of this host ({name}); mend AWS_PROFILE") from error
    except ValueError as error:
        raise ValueError("is at no address; write AWS_ENDPOINT_URL_S3 as http://host:port") from error


def _client(session: boto3.Session, endpoint_url: str | None) -> "S3Client":
    # boto3 reads AWS_DEFAULT_REGION only, and Lambda and most other SDKs know the short name.
    region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
    client = session.client("s3", region_name=region, endpoint_url=endpoint_url, config=_config("auto"))
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    if not host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        # MinIO and the like have no host name for each bucket.
        client = session.client("s3", region_name=region, endpoint_url=endpoint_url, config=_config("path"))
    client.meta.events.register_last("before-call.s3", _expect_nothing)
    return client


def _config(addressing: Literal["auto", "path"]) -> Config:
    return Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        # boto3's own is put together anew for each call, which takes an eighth of its CPU time.
        user_agent="longtake",
        # `Calls` tries again, and knows what an exclusive write that was tried twice means.
        retries={"total_max_attempts": 1, "mode": "standard"},
        # Bodies carry a SHA-256 of their own, which is signed, and contents are proven by their own digest.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": addressing, "payload_signing_enabled": False},
    )


def _expect_nothing(params: dict[str, Any], **_: object) -> None:
    """Send bodies at once: R2 never answers `Expect: 100-continue`, which costs a second for each body."""
    params["headers"].pop("Expect", None)
