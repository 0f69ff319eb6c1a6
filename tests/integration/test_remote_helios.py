"""Agents as workers of Helios: every row of the answers of Helios' own, on Lambda and on Cloud Run."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.remote.agents import EDGES, cloud_run_edge, lambda_edge
from support.remote.helios_jobs import Asked, HeliosJobs, environ, helios_jobs, keys

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def jobs() -> AsyncIterator[HeliosJobs]:
    async with helios_jobs() as jobs:
        yield jobs


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
