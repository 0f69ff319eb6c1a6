"""Calls of single objects past boto3: the same answers, and boto3 where only boto3 knows the way."""

import base64
import hashlib
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, SSLError
from support.s3.scripted_service import ScriptedService, serve_script
from support.servers.certificates import known_certificate

from longtake.stores.s3 import make_s3_client, make_session
from longtake.stores.s3_direct import DirectClient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONTENT = b"content"
_CHECKSUM = base64.b64encode(hashlib.sha256(_CONTENT).digest()).decode()
_FOUND = (
    b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\nETag: "tag"\r\nLast-Modified: Sun, 01 Mar 2026 12:00:00 GMT\r\n'
    b"X-Amz-Meta-Longtake-Token: 00ff\r\n\r\n"
)
_PUT = b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "tag"\r\n\r\n'


def refusal(status: int, code: str, more: bytes = b"") -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Told to.</Message></Error>".encode()
    return b"HTTP/1.1 %d Told\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), more, body)


def client_of(service: ScriptedService, scheme: str = "http") -> "S3Client":
    session = make_session(aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1")
    return make_s3_client(session, endpoint_url=f"{scheme}://127.0.0.1:{service.port}")


def put(client: "S3Client") -> object:
    return client.put_object(
        Bucket="bucket", Key="a b", Body=_CONTENT, ChecksumSHA256=_CHECKSUM, Metadata={"token": "1"}, IfNoneMatch="*"
    )


def test_an_object_is_written_and_read_as_by_boto3() -> None:
    with serve_script([_PUT, _FOUND + _CONTENT, _FOUND]) as service:
        client = client_of(service)
        put(client)
        answer = client.get_object(Bucket="bucket", Key="a b", Range="bytes=0-99", IfMatch='"tag"')
        assert answer["Body"].read() == _CONTENT
        found = client.head_object(Bucket="bucket", Key="a b")
    assert (found["ContentLength"], found["ETag"], found["Metadata"]) == (7, '"tag"', {"longtake-token": "00ff"})
    assert found["LastModified"].isoformat() == "2026-03-01T12:00:00+00:00"
    (_, first, sent), (_, second, _), _ = service.asked
    assert first.startswith("PUT /bucket/a%20b HTTP/1.1\r\n")
    for header in ("if-none-match: *", f"x-amz-checksum-sha256: {_CHECKSUM}", "x-amz-meta-token: 1"):
        assert f"\r\n{header}\r\n" in first
    assert sent == _CONTENT
    assert '\r\nrange: bytes=0-99\r\nif-match: "tag"\r\n' in second


def test_a_refusal_is_the_error_of_boto3() -> None:
    with serve_script([refusal(412, "PreconditionFailed")]) as service, pytest.raises(ClientError) as raised:
        put(client_of(service))
    assert raised.value.response["Error"] == {"Code": "PreconditionFailed", "Message": "Told to."}
    assert raised.value.operation_name == "PutObject"
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412


def test_a_bucket_elsewhere_is_left_to_boto3() -> None:
    moved = refusal(400, "AuthorizationHeaderMalformed", b"x-amz-bucket-region: eu-west-1\r\nConnection: close\r\n")
    with serve_script([moved], [_PUT, _PUT]) as service:
        client = client_of(service)
        for _ in range(2):
            put(client)
    agents = [head.lower().count("amz-sdk-invocation-id") for _, head, _ in service.asked]
    assert agents == [0, 1, 1]


def test_behind_a_proxy_all_is_left_to_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    session = make_session(aws_access_key_id="key", aws_secret_access_key="secret")
    assert not isinstance(make_s3_client(session, endpoint_url="http://store.example"), DirectClient)
    assert isinstance(make_s3_client(session, endpoint_url="https://store.example"), DirectClient)


def test_certificates_are_checked_as_by_boto3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(known.certificate, known.key)
    with serve_script([_PUT], [_PUT], tls=tls) as service:
        with pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            put(client_of(service, "https"))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(known.certificate))
        put(client_of(service, "https"))
    assert len(service.asked) == 1
