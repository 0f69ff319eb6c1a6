"""Sign requests to S3 by AWS Signature Version 4."""

import hashlib
import hmac
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from botocore.credentials import ReadOnlyCredentials

_ALGORITHM = "AWS4-HMAC-SHA256"


class Request(NamedTuple):
    """What of a request is signed, but its headers.

    Attributes:
        method: Method of HTTP.
        host: Host, and the port where it is not the usual one.
        path: Path, encoded; requests with a query are not signed here.
        payload_sha256: SHA-256 of the content in hexadecimal digits.
    """

    method: str
    host: str
    path: str
    payload_sha256: str


def sign_headers(
    request: Request,
    headers: Mapping[str, str],
    credentials: ReadOnlyCredentials,
    region: str,
) -> dict[str, str]:
    """Return headers with those added that sign the request.

    Args:
        request: The request.
        headers: Headers that are signed, by their names in small letters.
        credentials: Keys of the sender.
        region: Region of the service.
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(read_clock()))
    signed = {
        **headers,
        "host": request.host,
        "x-amz-content-sha256": request.payload_sha256,
        "x-amz-date": moment,
    }
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    names = sorted(signed)
    listed = ";".join(names)
    lines = "".join(f"{name}:{signed[name]}\n" for name in names)
    canonical = f"{request.method}\n{request.path}\n\n{lines}\n{listed}\n{request.payload_sha256}"
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = f"{_ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = _derive_key(credentials.secret_key, moment[:8], region)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"{credentials.access_key}/{scope}"
    signed["authorization"] = f"{_ALGORITHM} Credential={credential}, SignedHeaders={listed}, Signature={signature}"
    return signed


def read_clock() -> float:
    """Return the time of a signature, in seconds since 1970."""
    return time.time()


@lru_cache(maxsize=16)
def _derive_key(secret_key: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
