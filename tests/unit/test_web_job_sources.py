"""Job files are fetched from the places that are allowed, whole or not at all, and each way to fail is a sentence."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import h11
import pytest
import pytest_asyncio
from support.servers.certificates import known_certificate
from support.servers.http_server import Connection, HttpServer, Request

from longtake.allowed_addresses import read_networks
from longtake.errors import BadJobError
from longtake.jobfile.loader import LARGEST_FILE_BYTES
from longtake.models.job import RenderJobSpec
from longtake.web import job_sources
from longtake.web.job_sources import JobSources
from longtake.web.problems import ProblemError
from longtake.web.stores import OpenStores

JOB = b"frames: {count: 3}\ncommand: [render]\n"
LOOPBACK = read_networks(["127.0.0.0/8"])

Answer = Callable[[Connection, Request], Awaitable[None]]


class FileServer:
    """Answers as a test tells it, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.answer: Answer = lambda connection, _: connection.respond(200, JOB, {"content-type": "text/plain"})
        self.origin = ""

    async def take(self, connection: Connection, request: Request) -> None:
        self.asked.append(request)
        await self.answer(connection, request)

    def sources(self) -> JobSources:
        return JobSources([self.origin], LOOPBACK, OpenStores())


@pytest_asyncio.fixture
async def files() -> AsyncIterator[FileServer]:
    files = FileServer()
    server = HttpServer(files.take)
    await server.start()
    files.origin = f"http://{server.address}"
    yield files
    await server.close()


def answers(status: int, body: bytes = b"no", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda connection, _: connection.respond(status, body, named)


def test_a_job_file_has_no_key_that_names_another() -> None:
    assert "url" not in RenderJobSpec.model_fields


async def test_a_file_is_fetched_to_the_letter_and_without_credentials(files: FileServer) -> None:
    file = await files.sources().fetch(f"{files.origin}/shots/my%20film.yaml?X-Signature=a%2Fb&x")

    assert file.content == JOB
    assert file.parse() == {"frames": {"count": 3}, "command": ["render"], "name": "my film"}
    (request,) = files.asked
    assert (request.method, request.target) == ("GET", "/shots/my%20film.yaml?X-Signature=a%2Fb&x")
    assert request.headers.keys() == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert request.headers["host"] == files.origin.partition("://")[2]


@pytest.mark.parametrize(
    ("path", "kind", "is_json"),
    [
        ("/a.json", "application/octet-stream", True),
        ("/a", "application/json; charset=utf-8", True),
        ("/a.yaml", "application/json", True),
        ("/a.yaml", "text/plain", False),
        ("/", "application/yaml", False),
        ("", "text/yaml", False),
    ],
)
async def test_json_is_told_by_the_name_or_by_the_server(
    files: FileServer, path: str, kind: str, is_json: bool
) -> None:
    files.answer = answers(200, b'{"frames": {"count": 1}}', content_type=kind)

    file = await files.sources().fetch(files.origin + path)

    assert file.is_json is is_json
    assert file.parse()["name"] == ("a" if "a" in path else "job")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            answers(301, location="http://127.0.0.1/"),
            "url: its server redirects elsewhere (301), which is not followed",
        ),
        (answers(307, location="/there"), "url: its server redirects elsewhere (307)"),
        (answers(403), "url: its server refuses it (403), and no credentials are sent; give a signed URL"),
        (answers(404), "url: there is no such file (404); check it"),
        (answers(204), "url: its server answers 204"),
        (answers(418), "url: its server answers 418"),
        (answers(200, b"x" * (LARGEST_FILE_BYTES + 1)), "url: is longer than a job file may be, 16 MiB"),
        (answers(200, content_encoding="gzip"), "url: is sent compressed, and was asked for plain"),
        (answers(200, b"<html>", content_type="text/html; charset=utf-8"), "url: leads to a page for browsers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_answer_that_brings_no_job_file_is_a_sentence(
    files: FileServer, answer: Answer, sentence: str
) -> None:
    files.answer = answer

    with pytest.raises(BadJobError) as caught:
        await files.sources().fetch(f"{files.origin}/job.yaml?token=hush")

    assert str(caught.value).startswith(sentence)
    assert "hush" not in str(caught.value)
    assert len(files.asked) == 1


async def endless(connection: Connection, _: Request) -> None:
    connection._send(h11.Response(status_code=200, headers=[("transfer-encoding", "chunked")]))
    while not connection._writer.is_closing():
        connection._send(h11.Data(data=b" " * 2**20))
        await connection._writer.drain()


async def test_a_file_without_an_end_is_read_no_further_than_a_job_file_may_be(files: FileServer) -> None:
    files.answer = endless

    with pytest.raises(BadJobError, match="is longer than a job file may be"):
        await files.sources().fetch(f"{files.origin}/job.yaml")


async def hang(connection: Connection, _: Request) -> None:
    await connection.until_closed()


async def drip(connection: Connection, _: Request) -> None:
    """Send a header without an end, a byte now and then."""
    connection._writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not connection._writer.is_closing():
        connection._writer.write(b"x")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("answer", [hang, drip])
async def test_a_server_that_is_slow_is_not_waited_for(
    files: FileServer, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_sources, "_MOST_SECONDS", 0.3)
    files.answer = answer

    with pytest.raises(ProblemError) as caught:
        await files.sources().fetch(f"{files.origin}/job.yaml")

    assert (caught.value.status, caught.value.kind) == (502, "url-away")
    assert caught.value.detail == "url: was not sent within 0.3 s; try again, or send the job file itself"
    assert caught.value.errors[0].field == "url"


async def break_off(connection: Connection, _: Request) -> None:
    await connection.break_off(200, JOB, 1000)


async def talk_otherwise(connection: Connection, _: Request) -> None:
    connection._writer.write(b"220 mail.example.org ESMTP\r\n")
    await connection._writer.drain()
    connection.abort()


async def send_a_long_head(connection: Connection, _: Request) -> None:
    connection._writer.write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(50_000)))
    await connection.until_closed()


@pytest.mark.parametrize("answer", [answers(500), answers(429), break_off, talk_otherwise, send_a_long_head])
async def test_a_server_that_fails_may_do_better_later(files: FileServer, answer: Answer) -> None:
    files.answer = answer

    with pytest.raises(ProblemError) as caught:
        await files.sources().fetch(f"{files.origin}/job.yaml?token=hush")

    assert (caught.value.status, caught.value.kind) == (502, "url-away")
    assert "hush" not in caught.value.detail


async def test_a_host_that_does_not_listen_is_told(files: FileServer) -> None:
    server = HttpServer(files.take)
    await server.start()
    gone = f"http://{server.address}"
    await server.close()

    with pytest.raises(ProblemError, match=r"url: 127.0.0.1 cannot be reached: .*; try again"):
        await JobSources([gone], LOOPBACK, OpenStores()).fetch(f"{gone}/job.yaml")
    with pytest.raises(ProblemError, match=r"url: no.such.host.invalid cannot be reached"):
        await JobSources(["https://no.such.host.invalid"], LOOPBACK, OpenStores()).fetch(
            "https://no.such.host.invalid/a"
        )


@pytest.mark.parametrize(
    "url",
    [
        None, 3, [], "", "job.yaml", "/etc/passwd", "file:///etc/passwd", "ftp://ORIGIN/a", "gopher://ORIGIN/a",
        "//ORIGIN/a", "http:ORIGIN/a", "http:///a", "http://", "http://[/a", "http://ORIGIN\r\nX: y/a", "http://a b/c",
        "HTTP://user:hush@ORIGIN/a", "http://user@ORIGIN/a", "http://ORIGIN/a#hush", "http://ORIGIN/\u00fc",
        "http://ORIGIN/a\tb", "http://127.0.0.1:99999/a", "http://127.0.0.1:0/a", "http://ORIGIN/" + "a" * 5000,
        "http://ORIGIN@evil.example/a", "http://ORIGIN\\@evil.example/a", "http://evil.example\\@ORIGIN/a",
        "http://ORIGIN.evil.example/a", "http://ORIGIN:80/a", "https://ORIGIN/a", "http://localhost/a",
        "http://127.0.0.1/a", "http://evil.example/http://ORIGIN/a", "http://evil.example?http://ORIGIN/a",
        "http://0x7f000001/a", "http://[::ffff:127.0.0.1]/a", "http://169.254.169.254/latest/meta-data/",
    ],
)  # fmt: skip
async def test_no_url_leads_to_a_place_that_is_not_allowed(files: FileServer, url: object) -> None:
    given = url.replace("ORIGIN", files.origin.partition("://")[2]) if isinstance(url, str) else url

    with pytest.raises(BadJobError, match=r"^url: ") as caught:
        await files.sources().fetch(given)

    assert files.asked == []
    assert "hush" not in str(caught.value)
    assert len(str(caught.value)) < 400


async def test_an_origin_that_is_allowed_has_more_than_one_spelling(files: FileServer) -> None:
    port = files.origin.rpartition(":")[2]
    sources = JobSources([f"HTTP://LocalHost:{port}/"], LOOPBACK, OpenStores())

    assert (await sources.fetch(f"http://localhost:{port}/a")).content == JOB
    assert (await sources.fetch(f"http://LOCALHOST.:{port}/a")).content == JOB


async def test_a_name_that_leads_into_a_private_network_is_not_asked_unless_that_is_allowed(files: FileServer) -> None:
    """As a name that was bound to another address a moment ago."""
    with pytest.raises(BadJobError, match=r"127.0.0.1, which is no public address; start `longtake web` with"):
        await JobSources([files.origin], read_networks(["10.0.0.0/8"]), OpenStores()).fetch(f"{files.origin}/a")

    assert files.asked == []


async def test_certificates_are_checked(files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = known_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)
    server = HttpServer(files.take, tls=context)
    await server.start()
    try:
        origin = f"https://{server.address}"
        sources = JobSources([origin], LOOPBACK, OpenStores())
        with pytest.raises(BadJobError, match=r"url: the certificate of 127.0.0.1 is not to be trusted: self.signed"):
            await sources.fetch(f"{origin}/job.yaml")
        assert files.asked == []

        known = ssl.create_default_context(cafile=str(made.certificate))
        monkeypatch.setattr(job_sources, "_ssl_context", lambda: known)
        assert (await sources.fetch(f"{origin}/job.yaml")).content == JOB
    finally:
        await server.close()
