"""The Cloud Run app on a real port, as HTTP: methods, statuses, settings, its end."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from support.remote.agent_jobs import AgentJobs, signed
from support.remote.agents import CloudRunProcess, cloud_run_process

from activities.remote.protocol import RemoteOutcome, RemoteResult
from longtake.stores.directory import DirectoryStore
from ports import find_free_port

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> AgentJobs:
    folder = tmp_path_factory.mktemp("jobs")
    return AgentJobs(DirectoryStore(folder / "store"), folder / "notes")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(jobs: AgentJobs, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CloudRunProcess]:
    async with cloud_run_process(tmp_path_factory.mktemp("app"), jobs.environ) as app:
        yield app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(app: CloudRunProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=app.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.mark.parametrize("path", ["/healthz", "/health"])
async def test_it_says_that_it_lives(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_405(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/")

    assert (response.status_code, response.json()) == (405, {"message": "Method Not Allowed"})


@pytest.mark.parametrize("body", [b"", b"{", b"\xef\xbb\xbf{}", b"\xff\xfe", b"[" * 60_000, b"{'a': 1}"])
async def test_what_is_no_json_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/", content=body)

    assert (response.status_code, response.json()) == (400, {"message": "Invalid JSON payload"})


async def test_each_refusal_has_a_status_of_its_own(client: httpx.AsyncClient, jobs: AgentJobs) -> None:
    job = jobs.texts()
    order = job.order()
    good = signed(order)
    elsewhere = order.model_copy(update={"ref": order.ref.model_copy(update={"base_dir": "/elsewhere"})})
    too_large = {**good, "padding": "x" * 70_000}

    answers = [await client.post("/", json=payload) for payload in (good, good)]
    assert [answer.status_code for answer in answers] == [200, 409]
    assert RemoteResult.model_validate(answers[0].json()).outcome is RemoteOutcome.PUBLISHED
    for payload, status in (
        ({**good, "signature": ""}, 401),
        ({**good, "signature": "é"}, 401),
        ({"order": 7}, 401),
        (signed(elsewhere), 403),
        (too_large, 413),
    ):
        answer = await client.post("/", json=payload)
        assert answer.status_code == status
        assert list(answer.json()) == ["message"]
        assert answer.headers["content-type"] == "application/json"


async def test_a_refused_request_does_not_become_the_next_one(app: CloudRunProcess) -> None:
    """A body that was not read must not be taken for a request of its own."""
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + smuggled)
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_caller_that_hangs_up_in_the_middle_of_a_request_harms_nobody(
    app: CloudRunProcess, client: httpx.AsyncClient
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", app.port)
    writer.write(b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"order"')
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert (await client.get("/healthz")).status_code == 200
    assert "Traceback" not in app.log


async def test_many_orders_at_once_have_a_place_of_their_own(client: httpx.AsyncClient, jobs: AgentJobs) -> None:
    job = jobs.images("--size", "4", frames=80, per_chunk=10)
    answers = await asyncio.gather(*(client.post("/", json=signed(job.order(chunk))) for chunk in range(8)))

    results = [RemoteResult.model_validate(answer.json()) for answer in answers]
    assert {(result.outcome, result.frames_done) for result in results} == {(RemoteOutcome.PUBLISHED, 10)}
    sidecars = [job.sidecar(chunk) for chunk in range(8)]
    assert [len(sidecar.files) for sidecar in sidecars if sidecar is not None] == [10] * 8


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LONGTAKE_STORES", "", "LONGTAKE_STORES is not set"),
        ("LONGTAKE_ALLOWED_COMMANDS", "", "LONGTAKE_ALLOWED_COMMANDS is not set"),
        ("LONGTAKE_REMOTE_SECRET", "", "LONGTAKE_REMOTE_SECRET is not set"),
    ],
)
async def test_settings_that_do_not_do_are_told_in_one_sentence(
    jobs: AgentJobs, tmp_path: Path, variable: str, value: str, said: str
) -> None:
    with pytest.raises(AssertionError) as caught:
        async with cloud_run_process(tmp_path, {**jobs.environ, variable: value}):
            pass

    assert "has ended" in str(caught.value)
    assert printed(tmp_path).startswith(f"agent.cloud_run: {said}")
    assert len(printed(tmp_path).splitlines()) == 1


def printed(folder: Path) -> str:
    (log,) = folder.glob("cloud-run-*.log")
    return log.read_text()


async def test_an_idle_instance_ends_at_once(jobs: AgentJobs, tmp_path: Path) -> None:
    async with cloud_run_process(tmp_path, jobs.environ) as app:
        began = time.monotonic()
        app.terminate()

        assert await app.wait() in (0, -signal.SIGTERM)
        assert time.monotonic() - began < 5
        assert "Traceback" not in app.log


async def test_an_order_survives_the_restart_of_its_instance_as_a_new_attempt(jobs: AgentJobs, tmp_path: Path) -> None:
    job = jobs.texts()
    port = find_free_port()
    for attempt in range(2):
        async with (
            cloud_run_process(tmp_path, jobs.environ, port=port) as app,
            httpx.AsyncClient(base_url=app.url, trust_env=False, timeout=60) as client,
        ):
            answer = await client.post("/", content=json.dumps(signed(job.order(attempt))))
            assert RemoteResult.model_validate(answer.json()).outcome is RemoteOutcome.PUBLISHED
