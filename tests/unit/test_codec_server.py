"""The codec server speaks Temporal's protocol, to the UI that it was told of and to no other web page."""

import base64
import http.client
import json
import secrets
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from longtake.cli.app import main
from longtake.cli.codec_server import CodecServer
from longtake.codec import TolerantCodec
from longtake.encryption import AesGcmCodec

UI = "http://localhost:8233"
PLAIN = {"metadata": {"encoding": base64.b64encode(b"json/plain").decode()}, "data": base64.b64encode(b'"x"').decode()}


@pytest.fixture
def port() -> Iterator[int]:
    codec = TolerantCodec(AesGcmCodec({"a": secrets.token_bytes(32)}))
    with CodecServer("127.0.0.1", 0, codec, frozenset({UI})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def call(
    port: int, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Content-Type": "application/json", **given})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def convert(port: int, path: str, *payloads: dict[str, Any]) -> list[dict[str, Any]]:
    status, _, body = call(port, "POST", path, json.dumps({"payloads": payloads}).encode())
    assert status == 200, body
    return list(json.loads(body)["payloads"])


@pytest.mark.parametrize("prefix", ["", "/default"])
def test_payloads_are_encoded_and_decoded(port: int, prefix: str) -> None:
    encoded = convert(port, f"{prefix}/encode", PLAIN, PLAIN)

    assert base64.b64decode(encoded[0]["metadata"]["encoding"]) == b"binary/encrypted"
    assert b'"x"' not in base64.b64decode(encoded[0]["data"])
    assert convert(port, f"{prefix}/decode?namespace=default", *encoded) == [PLAIN, PLAIN]


def test_a_payload_that_cannot_be_decoded_hides_no_other(port: int) -> None:
    strange = {"metadata": {"encoding": base64.b64encode(b"binary/encrypted").decode()}, "data": "eHg="}
    encoded = convert(port, "/encode", PLAIN)

    assert convert(port, "/decode", strange, *encoded, PLAIN) == [strange, PLAIN, PLAIN]


def test_the_ui_may_ask(port: int) -> None:
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type,x-namespace"}
    status, headers, _ = call(port, "OPTIONS", "/decode", None, Origin=UI, **asked)

    assert status == 200
    assert headers["access-control-allow-origin"] == UI
    assert "POST" in headers["access-control-allow-methods"]
    assert {"content-type", "x-namespace", "authorization"} <= set(headers["access-control-allow-headers"].split(", "))
    status, headers, _ = call(port, "POST", "/decode", b'{"payloads": []}', Origin=UI)
    assert (status, headers["access-control-allow-origin"]) == (200, UI)


@pytest.mark.parametrize("method", ["OPTIONS", "POST"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", f"{UI}.evil.example", "http://localhost:8234"])
def test_no_other_page_may(port: int, method: str, origin: str) -> None:
    status, headers, body = call(port, method, "/decode", json.dumps({"payloads": [PLAIN]}).encode(), Origin=origin)

    assert status == 403
    assert "access-control-allow-origin" not in headers
    assert b"payloads" not in body


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/decode", b"{", 400),
        ("/decode", b"\xff", 400),
        ("/decode", b'{"payloads": 7}', 400),
        ("/decode", b'{"payloads":' * 5000, 400),
        ("/", b"{}", 404),
        ("/decode/x", b"{}", 404),
    ],
)
def test_what_is_no_request_is_refused_in_a_sentence(port: int, path: str, body: bytes, status: int) -> None:
    answered, _, said = call(port, "POST", path, body)

    assert answered == status
    assert json.loads(said)["message"]


def test_a_request_without_an_end_is_refused_before_it_is_read(port: int) -> None:
    status, _, _ = call(port, "POST", "/decode", None, Content_Length=str(2**40))
    assert status == 413


def test_fields_of_newer_servers_are_passed_over(port: int) -> None:
    assert convert(port, "/encode", {**PLAIN, "newField": {"a": 1}})


def test_it_does_not_start_without_a_codec(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LONGTAKE_CODEC", raising=False)

    assert main(["codec-server", "--port", "0"]) == 1
    assert "LONGTAKE_CODEC is not set; set it as the workers have it" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(
    port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGTAKE_CODEC", "longtake.encryption:aes_gcm")
    monkeypatch.setenv("LONGTAKE_CODEC_KEYS", f"a={base64.b64encode(secrets.token_bytes(32)).decode()}")

    assert main(["codec-server", "--port", str(port)]) == 1
    assert f"--port: 127.0.0.1:{port} cannot be used" in capsys.readouterr().err
