"""Signatures of requests: those that botocore makes."""

import hashlib
from datetime import UTC, datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from longtake.stores import s3_signature
from longtake.stores.s3_signature import Request, sign_headers

# 2026-03-01 12:00:00 UTC.
_NOW = 1_772_366_400


@pytest.mark.parametrize("token", [None, "session/token=="])
@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/bucket/film.mov", {"range": "bytes=0-99"}),
        ("PUT", "/bucket/a%20b/%C3%BC~%2B.png", {"if-none-match": "*", "x-amz-meta-longtake-token": "00ff"}),
        ("HEAD", "/", {}),
    ],
)
def test_a_signature_is_that_of_botocore(
    method: str, path: str, headers: dict[str, str], token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_signature, "read_clock", lambda: _NOW)
    content = b"content" if method == "PUT" else b""
    keys = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", token)
    request = Request(method, "store.example:8333", path, hashlib.sha256(content).hexdigest())
    ours = sign_headers(request, headers, keys.get_frozen_credentials(), "eu-west-1")

    theirs = AWSRequest(method, f"http://store.example:8333{path}", dict(headers), content)
    theirs.context["payload_signing_enabled"] = True
    moment = datetime.fromtimestamp(_NOW, UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: moment)
    S3SigV4Auth(keys, "s3", "eu-west-1").add_auth(theirs)
    assert ours["authorization"] == theirs.headers["Authorization"]
    assert ours["x-amz-date"] == "20260301T120000Z"
