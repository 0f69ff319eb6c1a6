"""Where orders may lead: into the stores of the agent, by names, and never out of them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.remote.agent_jobs import AgentJobs, signed
from support.remote.agents import Edge, cloud_run_edge, refused

from longtake.names import job_folder_name
from longtake.paths import BOOKKEEPING_FOLDER
from longtake.stores.directory import DirectoryStore

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


def places(jobs: AgentJobs, elsewhere: Path) -> dict[str, str]:
    """Return stores that are not the agent's."""
    url = jobs.store.url
    return {
        "another folder": str(elsewhere),
        "up from its folder": f"{url}/../elsewhere",
        "the root": "/",
        "a longer name": f"{url}-of-others",
        "a metadata server": "http://169.254.169.254/latest",
        "a file URL": "file:///etc",
        "another bucket": "s3://somebody-elses/films",
        "a relative path": "store",
        "a way out of a prefix": f"{url}/../../secret",
        "nothing": "",
    }


@pytest.mark.parametrize("name", places(AgentJobs(DirectoryStore(Path("/")), Path()), Path()))
async def test_stores_outside_the_settings_are_not_even_asked(
    jobs: AgentJobs, edge: Edge, tmp_path: Path, name: str
) -> None:
    job = jobs.texts()
    url = places(jobs, tmp_path)[name]
    if name == "another folder":
        await asyncio.to_thread(
            DirectoryStore(tmp_path).replace, f"{tmp_path}/.longtake/{job.job.ref.id}/job.json", b""
        )
    where = {"base_dir": "", "store": url} if "://" in url else {"base_dir": url, "store": ""}
    order = job.order(ref=job.job.ref.model_copy(update=where))

    why = await refused(edge, signed(order))

    assert "LONGTAKE_STORES" in why or "is neither a folder" in why or ".." in why, why
    assert job.ledger.started == []
    assert not (tmp_path / ".longtake" / job.job.ref.id / "remote").exists()


async def test_a_link_does_not_lead_out_of_the_stores(tmp_path: Path) -> None:
    jobs = AgentJobs(DirectoryStore(tmp_path / "store"), tmp_path / "notes")
    others = AgentJobs(DirectoryStore(tmp_path / "others"), tmp_path / "notes-of-others")
    job = others.texts()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path / "others")
    async with cloud_run_edge(tmp_path, jobs.environ) as edge:
        order = job.order(ref=job.job.ref.model_copy(update={"base_dir": str(tmp_path / "store" / "link")}))

        assert "LONGTAKE_STORES" in await refused(edge, signed(order))
    assert job.ledger.started == []


BAD_NAMES: dict[str, dict[str, Any]] = {
    "a job id with a way up": {"id": "../../elsewhere"},
    "a job id that is a path": {"id": "a/b"},
    "a hidden job id": {"id": ".."},
}


async def test_job_ids_are_names_and_no_paths(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts()
    before = job.everything()
    for name, fields in BAD_NAMES.items():
        order = job.order(ref=job.job.ref.model_copy(update=fields))
        folder = job_folder_name(order.ref.id)

        assert "/" not in folder, name
        assert folder.strip(".") == folder, name
        assert f"{BOOKKEEPING_FOLDER}/{folder}" in await refused(edge, signed(order)), name
        assert job.everything() == before, name


async def test_attempts_are_names_and_no_paths(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts()
    before = job.everything()

    for attempt in (".", "..", "..."):
        assert "order" in await refused(edge, signed(job.order().model_copy(update={"attempt": attempt}))), attempt
        assert job.everything() == before, attempt


async def test_a_chunk_that_the_job_does_not_have_is_refused(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts()

    assert "no chunk 99" in await refused(edge, signed(job.order(99)))


@pytest.mark.parametrize(
    "output", ["../../escaped-{chunk}.txt", "/tmp/escaped-{chunk}.txt", "a/../../escaped-{chunk}.txt"]
)
async def test_outputs_stay_in_the_stores(jobs: AgentJobs, edge: Edge, output: str) -> None:
    """The worker's planning would refuse it; the agent does not rely on that."""
    job = jobs.texts()
    spec = job.job.job.model_copy(update={"chunk_output": output})
    jobs.store.replace(job.job.folder.job_file, spec.model_dump_json(exclude_defaults=True).encode())
    ref = job.job.ref.model_copy(update={"digest": spec.digest(), "integrity": ""})
    before = job.everything()

    why = await refused(edge, signed(job.order(ref=ref)))

    # Jobs of buckets that say such a thing cannot even be read.
    assert ("chunk_output" if jobs.store.is_local else "not one that this agent knows") in why
    assert job.everything() == before
    assert job.ledger.started == []
