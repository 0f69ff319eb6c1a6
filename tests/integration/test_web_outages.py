"""The web server while Temporal or a store is away: it says so, goes on, and is back when they are."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest
from support.farm import Farm, until_state
from support.web import API, events, job_path, stream, web_of, web_program

import devserver
from longtake import JobState
from longtake.cli.session import ExitCode
from ports import find_free_port

pytestmark = pytest.mark.integration


async def until_code(client: httpx.AsyncClient, path: str, code: int) -> httpx.Response:
    """Return the first answer with this status."""
    async with asyncio.timeout(60):
        while True:
            answer = await client.get(path)
            if answer.status_code == code:
                return answer
            await asyncio.sleep(0.2)


async def start_temporal(program: Path, folder: Path, address: str) -> devserver.DevServer:
    return await devserver.start_dev_server(
        program,
        database=folder / "temporal.db",
        address=address,
        ui_port=None,
        log=folder / "temporal.log",
        on_message=lambda line: None,
    )


@pytest.mark.slow
async def test_it_starts_without_temporal_says_since_when_and_goes_on_when_it_is_back(
    temporal_program: Path, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{find_free_port()}"
    async with web_program(address) as web, httpx.AsyncClient(base_url=web.address, timeout=60) as client:
        first = await client.get(f"{API}/jobs")
        again = await client.get(f"{API}/farm")
        for answer in (first, again):
            assert (answer.status_code, answer.json()["type"]) == (503, "temporal-away")
            assert answer.json()["since"] == first.json()["since"]
        assert (await client.get("/")).status_code == 200
        assert any("Temporal" in line for line in web.said[1:])

        server = await start_temporal(temporal_program, tmp_path, address)
        try:
            assert (await until_code(client, f"{API}/jobs", 200)).json()["jobs"] == []
            assert (await client.get(job_path("none"))).status_code == 404
        finally:
            await server.stop()

        began = time.monotonic()
        away = await until_code(client, f"{API}/jobs", 503)
        assert away.json()["since"] > first.json()["since"]
        assert time.monotonic() - began < 30
        told = await events(client, f"{API}/jobs/events", most=1)
        assert (told[0].name, told[0].data["type"]) == ("problem", "temporal-away")

        server = await start_temporal(temporal_program, tmp_path, address)
        try:
            await until_code(client, f"{API}/jobs", 200)
        finally:
            await server.stop()


async def test_ctrl_c_ends_it_at_once_with_streams_of_events_open(farm: Farm) -> None:
    job = await farm.started(chunks=2, running=1)
    async with web_program(farm.address, farm.task_queue) as web, httpx.AsyncClient(base_url=web.address) as client:
        following = [stream(client, job_path(job.id, "events")) for _ in range(5)]
        for each in following:
            await anext(each)
        began = time.monotonic()

        code = await web.interrupt()

        assert time.monotonic() - began < 5
        assert code == ExitCode.INTERRUPTED
        for each in following:
            assert [told async for told in each] == []
    farm.open_gate()
    await until_state(job, JobState.COMPLETED)


async def test_a_store_that_is_away_is_a_problem_of_its_files_alone(farm: Farm) -> None:
    job = await farm.submit(farm.job(chunks=2))
    await until_state(job, JobState.COMPLETED)
    gone = farm.store.with_name("gone")
    async with web_of(farm) as client:
        assert (await client.get(job_path(job.id, "outputs"))).status_code == 200
        farm.store.rename(gone)
        for rest in (
            ("outputs",),
            ("logs",),
            ("chunks",),
            ("chunks", "0"),
            ("failures",),
            ("timeline",),
            ("pictures",),
        ):
            answer = await client.get(job_path(job.id, *rest))
            assert (answer.status_code, answer.json()["type"]) == (503, "store-away"), rest
        assert (await client.get(job_path(job.id))).status_code == 200
        gone.rename(farm.store)
        assert (await client.get(job_path(job.id, "outputs"))).status_code == 200


@pytest.mark.slow
async def test_a_job_that_no_worker_has_planned_has_nothing_yet(bare: Farm) -> None:
    job = await bare.submit(bare.job(chunks=2))
    async with web_of(bare) as client:
        for rest in ("outputs", "logs", "chunks", "failures", "timeline", "pictures", "frame-times"):
            assert (await client.get(job_path(job.id, rest))).status_code == 200, rest
        answer = await client.get(job_path(job.id, "chunks", "0"))
        assert (answer.status_code, answer.json()["type"]) == (404, "no-store-yet")
        limit = await client.put(job_path(job.id, "max-parallel"), json={"max_parallel": 3})
        assert (limit.status_code, limit.json()["type"]) == (503, "no-worker")
    await job.cancel()
