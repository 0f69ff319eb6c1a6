"""Attacks on `longtake web`, as it is started by people: by foreign pages, by guessing, by paths, by names, by load."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from support.farm import Farm, eventually, serving, until_state, worker_settings
from support.servers.http_server import Connection, HttpServer, Request
from support.web import API, WebProgram, job_path, web_program

from longtake import JobState, RenderClient
from longtake.connection import connect
from longtake.web.tokens import Role, TokenFile

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

NASTY = "<script>alert(1)</script>\x1b]0;owned\x07\x1b[31mred"


@dataclass
class Target:
    """A farm with a finished job, and its web server."""

    web: WebProgram
    farm: Farm
    job: str
    other: str

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.web.address, timeout=60)

    async def send(self, raw: bytes, *, seconds: float = 30) -> bytes:
        """Send bytes over a socket, and return all that comes until the server closes it or time is over."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.web.port)
        try:
            writer.write(raw)
            await writer.drain()
            return await asyncio.wait_for(reader.read(), seconds)
        except ConnectionError:
            # It was closed while more was on its way.
            return b""
        finally:
            writer.close()

    async def is_well(self) -> bool:
        async with self.client() as client:
            return (await client.get(job_path(self.job))).status_code == 200


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(server: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    store = tmp_path_factory.mktemp("attacked") / "store"
    store.mkdir()
    (store.parent / "secret.txt").write_text("the secret of the host")
    client, task_queue = await connect(address=server), f"attacked-{uuid.uuid4().hex[:12]}"
    farm = Farm(server, task_queue, client, RenderClient(client, task_queue=task_queue), store)
    async with serving(client, worker_settings(task_queue, store, slots=2)):
        command = (
            "sh",
            "-c",
            'printf "%s\\n" "$1"; echo openjd_redacted_env: KEY=hunter22; echo hunter22; echo x > "$0"',
            "{output}",
            NASTY.replace("{", ""),
        )
        ids = []
        for folder in ("mine", "others"):
            job = await farm.submit(farm.job(chunks=2, command=command, chunk_output=f"{folder}/{{chunk:06}}.html"))
            await until_state(job, JobState.COMPLETED)
            ids.append(job.id)
        async with web_program(server, task_queue) as web:
            yield Target(web, farm, *ids)


def has_open(pid: int, name: str) -> bool:
    """Tell whether a process has a file of this name open."""
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if os.readlink(each).endswith(f"/{name}"):
                return True
    return False


# --- Foreign pages ---


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:80", "[::2]", "", "a@localhost"],
)
async def test_a_name_that_was_bound_to_this_host_by_somebody_else_is_refused(target: Target, host: str) -> None:
    for method, path in (("GET", f"{API}/jobs"), ("GET", "/"), ("POST", job_path(target.job, "cancel"))):
        answer = await target.send(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())

        assert answer.startswith(b"HTTP/1.1 403"), answer
        assert target.job.encode() not in answer.partition(b"\r\n\r\n")[2].replace(path.encode(), b"")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json"]
)
async def test_a_page_of_another_site_can_post_nothing(target: Target, kind: str) -> None:
    async with target.client() as client:
        for headers in (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost.evil.example"},
            {"Origin": f"http://127.0.0.1:{target.web.port + 1}"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            for method, path in (
                ("POST", f"{API}/jobs"),
                ("POST", job_path(target.job, "retry")),
                ("DELETE", job_path(target.job, "files")),
                ("PUT", job_path(target.job, "max-parallel")),
                ("POST", f"{API}/session"),
            ):
                answer = await client.request(method, path, content="x: 1", headers={**headers, "Content-Type": kind})
                assert (answer.status_code, answer.json()["type"]) == (403, "foreign-page"), (method, path, headers)


async def test_a_page_of_another_site_can_load_nothing_and_read_nothing(target: Target) -> None:
    async with target.client() as client:
        for path in (f"{API}/jobs", job_path(target.job, "events"), "/static/app.js"):
            loaded = await client.get(
                path, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}
            )
            assert loaded.status_code == 403
        asked = await client.get(f"{API}/jobs", headers={"Origin": "http://evil.example"})
        assert "access-control-allow-origin" not in asked.headers
        before = await client.options(
            f"{API}/jobs", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        )
        assert "access-control-allow-origin" not in before.headers


async def test_answers_run_nothing_are_framed_by_nobody_and_are_what_they_say(target: Target) -> None:
    async with target.client() as client:
        for path in ("/", f"{API}/jobs", job_path("none"), job_path(target.job, "outputs")):
            headers = (await client.get(path)).headers
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert "server" not in headers


# --- Paths ---


async def test_no_path_leads_out_of_what_the_job_has_published(target: Target) -> None:
    async with target.client() as client:
        for path in (
            "../secret.txt", "mine/../../secret.txt", "/etc/passwd", str(target.farm.store.parent / "secret.txt"),
            "..%2fsecret.txt", "%2e%2e/secret.txt", "....//secret.txt", "mine\\..\\..\\secret.txt",
            "others/000000.html",
            f".longtake/{target.job}/job.json", f".longtake/{target.job}/chunks/000000.json", "mine", "", ".", "\x00",
            "mine/000000.html\x00.png", "file:///etc/passwd", "~/secret", f"mine/{'a/' * 2000}",
        ):  # fmt: skip
            answer = await client.get(job_path(target.job, "outputs", "file"), params={"path": path})
            assert answer.status_code in (404, 422), path
            assert "secret of the host" not in answer.text


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2f..%2fsecret.txt",
        "%2e%2e%2f%2e%2e%2fjob.json",
        "..%252f..%252fjob.json",
        "000000-0.jpg%00.txt",
        "..",
        "%5c..%5cjob.json",
        "000000-0.jpg%2f..%2f..%2fjob.json",
    ],
)
async def test_no_name_of_a_picture_leads_elsewhere(target: Target, name: str) -> None:
    raw = f"GET {job_path(target.job, 'pictures')}/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    assert (await target.send(raw.encode())).startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/..%2f..%2fpyproject.toml",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/.%00./app.py",
    ],
)
async def test_no_address_of_a_file_of_the_page_leads_elsewhere(target: Target, path: str) -> None:
    answer = await target.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 404"), answer[:200]


async def test_a_link_in_place_of_an_output_a_log_or_a_picture_shows_nothing(target: Target) -> None:
    store = target.farm.store
    job = await target.farm.submit(
        target.farm.job(
            chunks=2,
            chunk_output="linked/{chunk:06}.txt",
            command=("sh", "-c", 'echo printed; echo 012345678901234567890 > "$0"', "{output}"),
        )
    )
    await until_state(job, JobState.COMPLETED)
    secret = store.parent / "secret.txt"
    own = store / ".longtake" / job.id
    log = next((own / "logs").glob("000000.*.log"))
    links = {store / "linked" / "000000.txt": secret, store / "linked" / "000001.txt": own / "job.json", log: secret}
    (own / "pictures").mkdir(exist_ok=True)
    links[own / "pictures" / "000000-0.jpg"] = secret
    for link, aim in links.items():
        link.unlink(missing_ok=True)
        link.symlink_to(aim)
    async with target.client() as client:
        for address in (
            f"{job_path(job.id, 'outputs', 'file')}?path=linked/000000.txt",
            f"{job_path(job.id, 'outputs', 'file')}?path=linked/000001.txt",
            f"{job_path(job.id, 'outputs', 'file')}?path=linked/000000.txt&chunk=0",
            job_path(job.id, "chunks", "0", "logs", "1"),
            job_path(job.id, "pictures", "000000-0.jpg"),
        ):
            answer = await client.get(address)
            assert answer.status_code in (403, 404, 409), address
            assert "secret of the host" not in answer.text


async def test_a_pipe_or_a_folder_in_place_of_an_output_holds_nobody_up(target: Target) -> None:
    job = await target.farm.submit(target.farm.job(chunks=2, chunk_output="piped/{chunk:06}.txt"))
    await until_state(job, JobState.COMPLETED)
    first, second = (target.farm.store / "piped" / f"00000{number}.txt" for number in (0, 1))
    first.unlink()
    os.mkfifo(first)
    second.unlink()
    second.mkdir()
    async with target.client() as client:
        for number in (0, 1):
            answer = await client.get(job_path(job.id, "outputs", "file"), params={"path": f"piped/00000{number}.txt"})
            assert answer.status_code in (404, 409)


# --- Names and texts ---


async def test_what_a_renderer_prints_or_makes_is_never_a_page_of_this_server(target: Target) -> None:
    async with target.client() as client:
        log = await client.get(job_path(target.job, "chunks", "0", "logs", "1"))
        assert log.headers["content-type"] == "text/plain; charset=utf-8"
        assert log.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in log.headers["content-security-policy"]
        assert "<script>" in log.text
        output = await client.get(job_path(target.job, "outputs", "file"), params={"path": "mine/000000.html"})
        assert output.headers["content-type"] == "application/octet-stream"
        assert output.headers["content-disposition"].startswith("attachment")
        assert "sandbox" in output.headers["content-security-policy"]


async def test_secrets_that_a_renderer_declares_are_in_no_part_of_its_log(target: Target) -> None:
    async with target.client() as client:
        path = job_path(target.job, "chunks", "0", "logs", "1")
        size = int((await client.get(path)).headers["x-log-size"])
        pieces = [
            (await client.get(path, headers={"Range": f"bytes={start}-{start + 6}"})).content
            for start in range(0, size, 7)
        ]
        whole = (await client.get(path)).content

    assert b"".join(pieces) == whole
    assert len(whole) == size
    assert b"hunter22" not in whole
    assert whole.count(b"********") >= 2


@pytest.mark.parametrize(
    "job_id",
    [
        NASTY,
        "a/../../b",
        "%2e%2e",
        "a\r\nSet-Cookie: x=1",
        "\x00",
        "ü" * 300,
        "a" * 5000,
        "'; DROP TABLE jobs; --",
        '"',
        "\\",
        "*",
        "{id}",
        "null",
        " ",
    ],
)
async def test_no_id_of_a_job_is_more_than_an_id(target: Target, job_id: str) -> None:
    async with target.client() as client:
        for rest in ((), ("outputs",), ("logs",), ("chunks",), ("events",)):
            answer = await client.get(job_path(job_id, *rest))
            assert answer.status_code in (404, 422, 400), answer.text
            assert "set-cookie" not in answer.headers
            if answer.headers["content-type"] == "application/problem+json":
                assert "\x1b" not in answer.text
        searched = await client.get(f"{API}/jobs", params={"search": job_id[:200]})
        assert searched.status_code == 200


# --- URLs of job files ---


async def test_nobody_makes_the_server_ask_what_its_settings_do_not_name(target: Target) -> None:
    """Server-side request forgery: neither this host, nor its network, nor its files, nor its buckets."""
    asked = []

    async def take(connection: Connection, request: Request) -> None:
        asked.append(request.target)
        await connection.respond(200, b"frames: {count: 1}")

    inner = HttpServer(take)
    await inner.start()
    try:
        async with target.client() as client:
            for url in (
                f"http://{inner.address}/", f"http://localhost:{inner.address.rpartition(':')[2]}/",
                "http://169.254.169.254/latest/meta-data/iam/", "http://[::1]/", "https://example.org/job.yaml",
                f"{target.web.address}/api/v1/jobs", "file:///etc/passwd", "s3://bucket/job.yaml", "/etc/passwd",
                f"{target.farm.store}/.longtake/{target.job}/job.json", "gs://bucket/job.yaml", "data:,frames: 1",
            ):  # fmt: skip
                for path in ("jobs", "plan"):
                    answer = await client.post(f"{API}/{path}", json={"url": url})
                    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "url"), answer.text
    finally:
        await inner.close()
    assert asked == []


async def test_an_allowed_host_leads_nowhere_else_and_learns_nothing_of_who_asks(
    target: Target, tmp_path: Path
) -> None:
    asked: list[Request] = []
    inner_asked: list[str] = []

    async def lead_on(connection: Connection, request: Request) -> None:
        asked.append(request)
        await connection.respond(302, b"", {"location": f"http://{inner.address}/secret"})

    async def take(connection: Connection, request: Request) -> None:
        inner_asked.append(request.target)
        await connection.respond(200, b"the secret of the network")

    allowed, inner = HttpServer(lead_on), HttpServer(take)
    await allowed.start()
    await inner.start()
    token = TokenFile(tmp_path / "tokens").add("anna", Role.SUBMIT)
    options = ("--token-file", str(tmp_path / "tokens"), "--job-source", f"http://{allowed.address}")
    try:
        async with (
            web_program(target.farm.address, target.farm.task_queue, *options, "--job-network", "127.0.0.0/8") as web,
            httpx.AsyncClient(base_url=web.address, headers={"Authorization": f"Bearer {token}"}) as client,
        ):
            answer = await client.post(f"{API}/plan", json={"url": f"http://{allowed.address}/a?sig=hush"})
            assert (answer.status_code, answer.json()["type"]) == (422, "bad-job")
            assert "secret" not in answer.text
            assert "hush" not in answer.text
            assert not any("hush" in line for line in web.said)
        async with (
            # A name of the settings that leads into a network which they do not name, as after a change of its DNS.
            web_program(target.farm.address, target.farm.task_queue, *options) as web,
            httpx.AsyncClient(base_url=web.address, headers={"Authorization": f"Bearer {token}"}) as client,
        ):
            answer = await client.post(f"{API}/plan", json={"url": f"http://{allowed.address}/a"})
            assert "which is no public address" in answer.json()["detail"]
    finally:
        await allowed.close()
        await inner.close()
    (request,) = asked
    assert not {"authorization", "cookie", "x-forwarded-for", "referer"} & request.headers.keys()
    assert token not in str(request)
    assert inner_asked == []


# --- Loads ---


async def test_many_ranges_and_huge_ones_bring_no_more_than_the_file(target: Target) -> None:
    path = job_path(target.job, "outputs", "file")
    async with target.client() as client:
        for asked in (
            "bytes=" + ",".join(["0-"] * 2000), "bytes=0-0,0-0,0-0", "bytes=-99999999999999999999999",
            "bytes=0-9" + "9" * 4000,
            "bytes=5-1", "bytes=--1", "bytes=1-2-3", "items=0-1", "bytes=\x01",
        ):  # fmt: skip
            answer = await client.get(path, params={"path": "mine/000000.html"}, headers={"Range": asked})
            assert answer.status_code in (200, 206), asked
            assert len(answer.content) <= 2
        for asked in ("bytes=2-", "bytes=999999999999999999999999-", "bytes=-0"):
            answer = await client.get(path, params={"path": "mine/000000.html"}, headers={"Range": asked})
            assert answer.status_code == 416
            assert answer.headers["content-range"] == "bytes */2"


async def test_bodies_that_are_too_long_are_not_read(target: Target) -> None:
    head = f"POST {API}/jobs HTTP/1.1\r\nHost: localhost\r\n"
    told = await target.send(f"{head}Content-Length: 99999999999\r\n\r\n".encode())
    assert told.startswith(b"HTTP/1.1 413")
    small = f"POST {job_path(target.job, 'pause')} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    assert (await target.send(small.encode())).startswith(b"HTTP/1.1 413")

    async with target.client() as client:

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield b" " * 2**20

        try:
            answer = await client.post(f"{API}/plan", content=endless())
            assert answer.status_code == 413
        except (httpx.WriteError, httpx.ReadError):
            # It was closed while it was sent.
            pass
    assert await target.is_well()


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000, "{" * 100_000, "a: " * 50_000, "- " * 100_000, "&a [*a, *a]",
        "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c]\n",
        "!!python/object/apply:os.system ['id']", "frames: {count: 1e999999}", "fps: " + "9" * 100_000, "\x00",
        "\ufeff", "? ? ? ?",
    ],
)  # fmt: skip
async def test_bodies_that_are_too_deep_are_a_sentence(target: Target, body: str) -> None:
    async with target.client() as client:
        for kind in ("application/yaml", "application/json"):
            began = time.monotonic()
            answer = await client.post(f"{API}/plan", content=body.encode(), headers={"Content-Type": kind})
            assert answer.status_code == 422, answer.text
            assert len(answer.text) < 20_000
            assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000, b"GET /" + b"a" * 200_000,
        b"\x16\x03\x01\x02\x00\x01", b"\r\n" * 10,
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/v1/plan HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /x HTTP/1.1\r\n",
        b"POST /api/v1/plan HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ],
)  # fmt: skip
async def test_what_is_no_request_is_refused_and_the_connection_closed(target: Target, raw: bytes) -> None:
    answer = await target.send(raw, seconds=40)

    assert answer.startswith((b"HTTP/1.1 4", b"")), answer[:100]
    assert not answer.startswith(b"HTTP/1.1 2")
    assert not answer.startswith(b"HTTP/1.1 5")
    assert await target.is_well()


@pytest.mark.slow
async def test_connections_that_say_nothing_are_closed_and_hold_nobody_up(target: Target) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", target.web.port) for _ in range(200)]
    for _, writer in idle[:100]:
        writer.write(b"GET / HTTP/1.1\r\nHost: local")
    assert await target.is_well()

    async with asyncio.timeout(40):
        ends = await asyncio.gather(*(reader.read() for reader, _ in idle), return_exceptions=True)

    assert all(end == b"" or isinstance(end, ConnectionError) for end in ends)
    for _, writer in idle:
        writer.close()


@pytest.mark.slow
async def test_a_client_that_takes_no_part_of_its_answer_is_cut_off(target: Target) -> None:
    big = target.farm.store / "big"
    job = await target.farm.submit(
        target.farm.job(
            chunks=1,
            chunk_output="big/{chunk}.bin",
            command=("sh", "-c", 'head -c 60000000 /dev/zero > "$0"', "{output}"),
        )
    )
    await until_state(job, JobState.COMPLETED)
    assert big.is_dir()
    path = f"{job_path(job.id, 'outputs', 'file')}?path=big/0.bin"
    reader, writer = await asyncio.open_connection("127.0.0.1", target.web.port, limit=1024)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readline()
    holds = partial(has_open, target.web.process.pid, "0.bin")
    assert holds()

    await eventually(lambda: not holds(), "the server closes the file")
    writer.close()
    assert await target.is_well()


# --- Guessing ---


async def test_who_guesses_tokens_is_not_listened_to_and_gets_nothing(server: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    token = TokenFile(path).add("anna", Role.SUBMIT)
    async with (
        web_program(server, "longtake", "--token-file", str(path)) as web,
        httpx.AsyncClient(base_url=web.address) as client,
    ):
        for address in (f"{API}/jobs", f"{API}/me", f"{API}/openapi.json", job_path("x", "events"), f"{API}/farm"):
            answer = await client.get(address)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert (await client.get("/")).status_code == 200
        good = {"Authorization": f"Bearer {token}"}
        assert (await client.get(f"{API}/me", headers=good)).json()["name"] == "anna"

        for guess in range(10):
            way = {"Authorization": f"Bearer ltk_{guess}"} if guess % 2 else {"Cookie": f"longtake_session=ltk_{guess}"}
            assert (await client.get(f"{API}/me", headers=way)).status_code == 401

        late = await client.get(f"{API}/me", headers=good)
        assert (late.status_code, late.json()["type"]) == (429, "too-many-guesses")
        assert 0 < int(late.headers["retry-after"]) <= 60
        assert (await client.post(f"{API}/session", json={"token": token})).status_code == 429
        assert not any(token in line for line in web.said)


async def test_each_role_may_do_its_own_and_a_session_is_a_cookie_of_this_site(server: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    tokens = {role: TokenFile(path).add(f"a-{role}", role) for role in Role}
    pause, delete = ("POST", job_path("none such", "pause")), ("DELETE", job_path("none such", "files"))
    start = ("POST", f"{API}/jobs")
    expected = {Role.LOOK: (403, 403, 403), Role.STEER: (404, 403, 403), Role.SUBMIT: (404, 404, 422)}
    async with web_program(server, "longtake", "--token-file", str(path)) as web:
        for role, codes in expected.items():
            async with httpx.AsyncClient(base_url=web.address) as client:
                answer = await client.post(f"{API}/session", json={"token": tokens[role]})
                assert answer.status_code == 204
                cookie = answer.headers["set-cookie"].lower()
                assert "httponly" in cookie
                assert "samesite=strict" in cookie
                assert (await client.get(f"{API}/me")).json()["can"] == list(role.can)
                found = [
                    (
                        await client.request(method, address, content="x: 1" if address.endswith("jobs") else b"")
                    ).status_code
                    for method, address in (pause, delete, start)
                ]
                assert tuple(found) == codes, role
                await client.delete(f"{API}/session")
                assert (await client.get(f"{API}/me")).status_code == 401
        assert TokenFile(path).remove("a-look") == 1
        async with (
            httpx.AsyncClient(base_url=web.address, headers={"Authorization": f"Bearer {tokens[Role.LOOK]}"}) as client,
            asyncio.timeout(20),
        ):
            code = 200
            while code == 200:
                # A look at the file is a second old at most.
                await asyncio.sleep(0.2)
                code = (await client.get(f"{API}/me")).status_code
            assert code == 401


async def test_the_header_of_a_proxy_is_believed_from_that_proxy_alone(server: str) -> None:
    for peer, code in (("127.0.0.1", 200), ("10.9.9.9", 401)):
        options = ("--trusted-header", "X-User", "--trusted-peer", peer, "--trusted-role", "steer")
        async with web_program(server, "longtake", *options) as web, httpx.AsyncClient(base_url=web.address) as client:
            answer = await client.get(f"{API}/me", headers={"X-User": "anna"})
            assert answer.status_code == code
            assert (await client.get(f"{API}/me")).status_code == 401
            forwarded = await client.get(
                f"{API}/me", headers={"X-Forwarded-For": "127.0.0.1", "X-User": "" if code == 200 else "anna"}
            )
            assert forwarded.status_code == 401
