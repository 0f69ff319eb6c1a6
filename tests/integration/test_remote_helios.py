"""Agents as workers of Helios: every row of the answers of Helios' own, on Lambda and on Cloud Run."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from agent_edges import EDGES, Edge, cloud_run_edge, lambda_edge
from agent_jobs import AgentJobs, signed
from farm import eventually
from helios_jobs import HeliosJobs, body_of, helios_jobs, keys
from processtable import carrying

from longtake.remote import RemoteOutcome
from longtake.stores.directory import DirectoryStore

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

# Of Lambda; what is larger fails a chunk that was rendered.
LARGEST_ANSWER = 6_291_556


@dataclass
class Asked:
    """An agent as Helios clients see it."""

    edge: Edge
    jobs: HeliosJobs
    workspace: Path

    async def ask(self, payload: Any) -> tuple[int, Any]:
        """Return status and body."""
        if self.edge.app is None:
            answer = await self.edge.service.call(payload)
            assert "x-amz-function-error" not in answer.headers, answer.body
            assert len(answer.body) < LARGEST_ANSWER
            return body_of(answer.body)
        response = await self.post(json.dumps(payload).encode())
        assert len(response.content) < LARGEST_ANSWER
        return response.status_code, response.json()

    async def post(self, content: bytes, method: str = "POST", path: str = "/any/path") -> httpx.Response:
        assert self.edge.app is not None
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            return await client.request(method, f"{self.edge.app.url}{path}", content=content)

    @property
    def is_lambda(self) -> bool:
        return self.edge.app is None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def jobs() -> AsyncIterator[HeliosJobs]:
    async with helios_jobs() as jobs:
        yield jobs


def environ(folder: Path, jobs: HeliosJobs) -> dict[str, str]:
    own = AgentJobs(DirectoryStore(folder / "store"), folder / "notes")
    return {**own.environ, "LONGTAKE_HELIOS_JOBS": jobs.allowed}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=EDGES)
async def asked(
    request: pytest.FixtureRequest, jobs: HeliosJobs, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Asked]:
    folder = tmp_path_factory.mktemp("edge")
    async with EDGES[request.param](folder, environ(folder, jobs)) as edge:
        yield Asked(edge, jobs, folder / "notes" / "scratch" / "helios")


async def test_success_is_200_with_both_streams(asked: Asked) -> None:
    stdout = "output" if asked.is_lambda else "stdout"

    assert await asked.ask({**keys(asked.jobs.job, 0), "more": "keys"}) == (
        200,
        {"exitCode": 0, stdout: "frame 1\n", "stderr": "warn\n"},
    )


async def test_failure_is_500_with_the_real_exit_code(asked: Asked) -> None:
    if asked.is_lambda:
        told = {"exitCode": 3, "output": "partial\n", "stderr": "no codec\n", "message": "no codec"}
    else:
        told = {"exitCode": 3, "stdout": "partial\n", "stderr": "no codec\n"}

    assert await asked.ask(keys(asked.jobs.job, 1)) == (500, told)


async def test_an_end_by_a_signal_is_minus_one(asked: Asked) -> None:
    status, body = await asked.ask(keys(asked.jobs.job, 2))

    assert (status, body["exitCode"]) == (500, -1)


async def test_on_lambda_a_silent_failure_has_a_message_too(asked: Asked) -> None:
    status, body = await asked.ask(keys(asked.jobs.job, 5))

    assert status == 500
    assert body.get("message", "the command ended with exit code 5") == "the command ended with exit code 5"


MESSAGES = {
    "no such program": (keys("/one/job.json", 3), 500, "spawn no-such-binary ENOENT"),
    "no such chunk": (keys("/one/job.json", 99), 500, "Chunk with ID 99 not found in job spec"),
    "no such file": (keys("/missing", 0), 500, "Failed to fetch job spec: Not Found"),
    "no chunks": (keys("/nochunks", 0), 500, "Invalid JobSpec: missing chunks array"),
    "no JSON": (keys("/text", 0), 500, "Invalid JobSpec: it is not JSON"),
    "deep JSON": (keys("/deep", 0), 500, "Invalid JobSpec: it is not JSON"),
    "no command": (
        keys("/one/job.json", 9),
        500,
        "Invalid JobSpec: the chunk's command: is empty; write the program and its arguments",
    ),
    "assets": (
        keys("/assets", 0),
        500,
        "Worker was not configured with an ArtifactStorage adapter, but the job requires remote assets.",
    ),
    # The original follows it: an allowed server could lead anywhere.
    "a redirect": (keys("/redirect", 0), 500, "Failed to fetch job spec: Found"),
    "a spec without end": (keys("/endless", 0), 500, "Failed to fetch job spec: it has more than 33554432 bytes"),
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_what_cannot_be_run_is_told_in_helios_words(asked: Asked, name: str) -> None:
    payload, status, message = MESSAGES[name]
    before = len(asked.jobs.asked)

    answer = await asked.ask({**payload, "jobPath": asked.jobs.allowed.rstrip("/") + str(payload["jobPath"])})

    assert answer == (status, {"message": message})
    assert "/elsewhere/job.json" not in asked.jobs.asked[before:]


async def test_a_dead_host_is_a_failed_fetch(asked: Asked, tmp_path: Path) -> None:
    async with helios_jobs() as gone:
        pass
    make = lambda_edge if asked.is_lambda else cloud_run_edge
    async with make(tmp_path, environ(tmp_path, gone)) as edge:
        answer = await Asked(edge, gone, tmp_path).ask(keys(gone.job, 0))

    assert answer == (500, {"message": "fetch failed"})


@pytest.mark.parametrize(
    "url",
    [
        "{url}/elsewhere/job.json",
        "{url}/jobs-of-others/job.json",
        "{url}/jobs/../elsewhere/job.json",
        "{url}/jobs/%2e%2e/elsewhere/job.json",
        "{url}/jobs/..%2felsewhere/job.json",
        "{url}/jobs\\..\\elsewhere/job.json",
        "{url}@169.254.169.254/jobs/job.json",
        "http://169.254.169.254/latest/meta-data",
        "http://metadata.google.internal/computeMetadata/v1/",
        "file:///etc/passwd",
        "/etc/passwd",
        "job.json",
        "s3://bucket/job.json",
        "",
    ],
)
async def test_other_urls_are_not_asked(asked: Asked, url: str) -> None:
    before = list(asked.jobs.asked)

    status, body = await asked.ask(keys(url.format(url=asked.jobs.url), 0))

    assert status == 403
    assert "LONGTAKE_HELIOS_JOBS" in body["message"]
    assert asked.jobs.asked == before


async def test_programs_that_are_not_allowed_do_not_run(asked: Asked) -> None:
    status, body = await asked.ask(keys(asked.jobs.job, 4))

    assert status == 403
    assert "LONGTAKE_ALLOWED_COMMANDS" in body["message"]


@pytest.mark.parametrize(
    "payload", [{}, [], {"jobPath": 1, "chunkIndex": 0}, keys("x", "0"), keys("x", True), keys("x", None), ["jobPath"]]
)
async def test_wrong_keys_are_400(asked: Asked, payload: Any) -> None:
    lambdas = {"message": "Invalid payload: missing jobPath or chunkIndex"}

    assert await asked.ask(payload) == (
        400,
        lambdas if asked.is_lambda else {"message": "Missing jobPath or chunkIndex"},
    )


@pytest.mark.parametrize("payload", [None, "text", 3, True])
async def test_what_is_no_object_is_400_and_harms_nobody(asked: Asked, payload: Any) -> None:
    """`null` ends Helios' own server, with all that it renders."""
    lambdas = {"message": "Invalid payload: must be an object"}

    assert await asked.ask(payload) == (
        400,
        lambdas if asked.is_lambda else {"message": "Missing jobPath or chunkIndex"},
    )
    assert (await asked.ask(keys(asked.jobs.job, 0)))[0] == 200


async def test_output_without_end_comes_as_its_end(asked: Asked) -> None:
    status, body = await asked.ask(keys(asked.jobs.job, 6))

    assert status == 200
    assert set(body["output" if asked.is_lambda else "stdout"]) == {"\x01"}
    assert set(body["stderr"]) == {"\x02"}


async def test_characters_are_not_cut_in_half(asked: Asked) -> None:
    _, body = await asked.ask(keys(asked.jobs.job, 10))

    assert set(body["output" if asked.is_lambda else "stdout"]) == {"\u00e9", "\n"}


async def test_a_command_has_an_empty_workspace_of_its_own_and_nothing_of_the_agents(asked: Asked) -> None:
    places = set()
    for _ in range(2):
        _, body = await asked.ask(keys(asked.jobs.job, 7))
        place, environment, files = body["output" if asked.is_lambda else "stdout"].splitlines()
        places.add(place)
        assert files == "[]"
        assert "LONGTAKE_REMOTE_SECRET" not in environment
        assert "AWS" not in environment
    assert len(places) == 2
    assert all(Path(place).is_relative_to(asked.workspace) for place in places)
    assert list(asked.workspace.iterdir()) == []


async def test_with_a_shared_workspace_outputs_stay_there(jobs: HeliosJobs, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    async with cloud_run_edge(tmp_path, {**environ(tmp_path, jobs), "LONGTAKE_HELIOS_WORKSPACE": str(shared)}) as edge:
        _, body = await Asked(edge, jobs, shared).ask(keys(jobs.job, 7))

    assert body["stdout"].startswith(f"{shared}\n")
    assert shared.is_dir()


async def test_without_allowed_jobs_the_protocol_is_refused(jobs: HeliosJobs, tmp_path: Path) -> None:
    own = AgentJobs(DirectoryStore(tmp_path / "store"), tmp_path / "notes")
    before = list(jobs.asked)
    for make in EDGES.values():
        async with make(tmp_path, own.environ) as edge:
            status, body = await Asked(edge, jobs, tmp_path).ask(keys(jobs.job, 0))

            assert status == 403
            assert "LONGTAKE_HELIOS_JOBS" in body["message"]
    assert jobs.asked == before


async def test_a_client_that_hangs_up_ends_the_command(jobs: HeliosJobs, tmp_path: Path) -> None:
    async with cloud_run_edge(tmp_path, environ(tmp_path, jobs)) as edge:
        asking = asyncio.ensure_future(edge.service.call(keys(jobs.job, 8)))
        mark = "waits-for-its-end"
        await eventually(lambda: bool(carrying(mark)), "the command runs")
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking

        await eventually(lambda: not carrying(mark), "nothing of it is left")


async def test_a_command_is_stopped_in_time(jobs: HeliosJobs, tmp_path: Path) -> None:
    async with lambda_edge(tmp_path, environ(tmp_path, jobs), timeout=6) as edge:
        status, body = await Asked(edge, jobs, tmp_path).ask(keys(jobs.job, 8))

    assert status == 500
    assert "this function ends after 6 s" in body["message"]
    assert carrying("waits-for-its-end") == []


async def test_one_agent_serves_workers_and_helios_clients(jobs: HeliosJobs, tmp_path: Path) -> None:
    own = AgentJobs(DirectoryStore(tmp_path / "store"), tmp_path / "notes")
    for make in EDGES.values():
        async with make(tmp_path, {**own.environ, "LONGTAKE_HELIOS_JOBS": jobs.allowed}) as edge:
            job = own.texts()
            rendered, told = await asyncio.gather(
                edge.service.call(signed(job.order())), Asked(edge, jobs, tmp_path).ask(keys(jobs.job, 0))
            )
            assert edge.result(rendered).outcome is RemoteOutcome.PUBLISHED
            assert told[0] == 200
