"""Commands of Helios jobs as agents run them: bounded, in a place of their own, and with nothing left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio
from support.farm import eventually
from support.processes.process_table import carrying
from support.remote.agent_jobs import AgentJobs, signed
from support.remote.agents import EDGES, cloud_run_edge, lambda_edge
from support.remote.helios_jobs import Asked, HeliosJobs, environ, helios_jobs, keys

from activities.remote.protocol import RemoteOutcome
from longtake.stores.directory import DirectoryStore

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
