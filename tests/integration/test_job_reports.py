"""Reports of real jobs, in a folder and in a bucket: what became of each chunk, what failed, what proves the files."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from support.command_line import command_line
from support.farm import Farm, until, until_state
from support.jobs.stored_jobs import Place

from longtake import JobCancelledError, JobState, Retry
from longtake.chunk_history import ChunkState, HistoryReader
from longtake.failure_causes import group_failures
from longtake.models.policies import FailurePolicy
from longtake.render_timeline import BarKind, make_timeline
from longtake.stores.factory import open_client_store
from longtake.stores.job_records import JobRecords
from longtake.stores.try_records import read_tries
from workflows import options

pytestmark = pytest.mark.integration


def plain(page: str) -> str:
    """Return the text of a page, without its style sheet."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)))


async def test_a_report_tells_what_was_made_and_what_proves_it(place: Place, tmp_path: Path) -> None:
    merge = ("sh", "-c", 'cat out/*.txt > "$1"', "sh", "{output}")
    job = await place.completed(options=("--say", "Blender 4.2.3"), merge_command=merge, report=True)
    status = await job.status()
    async with command_line(place.farm) as cli:
        told = await cli("report", job.id, "-o", str(tmp_path / "film.html"))
        as_json = await cli("report", job.id, "--json")
        forgotten = await cli("report", job.id, "--json", "--store", place.url)

    assert told.code == 0, told.err
    assert told.out.strip() == str(tmp_path / "film.html")
    page = (tmp_path / "film.html").read_text()
    assert "completed" in plain(page)
    assert "done, proven 3" in plain(page)
    assert "Blender 4.2.3" in plain(page)
    report = json.loads(as_json.out)
    assert (report["state"], report["counts"]["done"], report["total_frames"]) == ("completed", 3, 3)
    (film,) = report["films"]
    files = place.files()
    assert film["sha256"] == hashlib.sha256(files["all.txt"]).hexdigest() == status.result.sha256  # type: ignore[union-attr]
    assert film["sha256"] in page
    outputs = sorted(name for name in files if name.startswith("out/") and name[-1] != "/")
    listed = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in outputs)
    assert report["outputs"]["list_sha256"] == hashlib.sha256(listed.encode()).hexdigest()
    assert [file["path"] for file in report["outputs"]["first"]] == outputs
    # The one that was written when the job ended, and the one of a job that is read by its store.
    assert film["sha256"].encode() in files[f".longtake/{job.id}/report.html"]
    assert json.loads(forgotten.out)["outputs"] == report["outputs"]


async def test_a_report_of_a_failed_job_tells_each_cause_and_its_lines(place: Place, tmp_path: Path) -> None:
    options = ("--fail-times", "9", "--only", "1", "--say", "Error: no camera in scene 12")
    spec = place.job(chunks=3, options=options, on_chunk_failure=FailurePolicy.CONTINUE, report=True)
    spec = spec.model_copy(update={"retry": Retry(attempts=2, initial_seconds=0.01)})
    job = await place.farm.submit(spec)
    status = await until_state(job, JobState.FAILED)

    with open_client_store(place.url) as store:
        records = JobRecords(store, job.id)
        history = HistoryReader(records, spec).refresh(status)
        tries = read_tries(records)
        page = store.read(records.report_file).decode()
    assert [history.state(chunk) for chunk in range(3)] == [ChunkState.DONE, ChunkState.FAILED, ChunkState.DONE]
    assert list(history.facts.tries) == [1, 2, 1]
    assert [(each.chunk, each.number, each.exit, each.last) for each in tries] == [(1, 1, 7, False), (1, 2, 7, True)]
    (cause,) = group_failures(tries, status.failures, is_done=lambda chunk: history.state(chunk) is ChunkState.DONE)
    assert (cause.tries, cause.open_chunks, cause.gave_up) == (2, 1, True)
    assert "Error: no camera in scene 12" in cause.lines
    bars = make_timeline(history, tries, status, now=status.updated_at)  # type: ignore[arg-type]
    assert sorted(bar.kind for bar in bars) == [BarKind.FAILED] * 2 + [BarKind.RENDERED] * 2
    assert all(bar.start < bar.stop for bar in bars if bar.kind is BarKind.RENDERED)
    assert "Error: no camera in scene 12" in plain(page)
    assert "1 chunk not finished since" in plain(page)
    await job.stored.delete()
    with open_client_store(place.url) as store:
        assert store.names(JobRecords(store, job.id).tries_dir) == []


async def test_a_job_that_runs_has_a_report_and_its_history_grows(farm: Farm, tmp_path: Path) -> None:
    job = await farm.started(chunks=4, running=1)
    spec = farm.job(chunks=4)
    status = await until(job, lambda status: any(not chunk.waiting for chunk in status.running))
    with open_client_store(str(farm.store)) as store:
        reader = HistoryReader(JobRecords(store, job.id), spec)
        running = reader.refresh(status)
        async with command_line(farm) as cli:
            told = await cli("report", job.id, "-o", "-")
        farm.open_gate()
        done = reader.refresh(await until_state(job, JobState.COMPLETED))

    assert running.count_states()[ChunkState.RUNNING] == 1
    assert "rendering 1" in plain(told.out)
    assert done.count_states()[ChunkState.DONE] == 4
    assert done.hosts == (running.hosts or done.hosts)


async def test_a_job_that_is_cancelled_leaves_its_report(farm: Farm) -> None:
    job = await farm.started(chunks=4, running=1, report=True)
    await job.cancel()
    # The report is written when the job is known to be cancelled, and before its workflow ends.
    with pytest.raises(JobCancelledError):
        await job.result()

    page = (farm.store / ".longtake" / job.id / "report.html").read_text()
    assert "cancelled" in plain(page)


async def test_a_report_that_cannot_be_written_costs_the_job_nothing(farm: Farm) -> None:
    job = await farm.started(chunks=1, running=1, report=True)
    (farm.store / ".longtake" / job.id / "report.html").mkdir()
    farm.open_gate()

    status = await until_state(job, JobState.COMPLETED)
    result = await job.result()
    assert status.error is None
    assert status.result == result
    assert result.note.startswith("report not written: unexpected IsADirectoryError")
    assert result.note.endswith("; `longtake report` makes one")


async def test_a_store_that_is_away_holds_up_the_end_of_a_job_for_a_bounded_time(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "REPORT_SECONDS", 5)
    job = await farm.started(chunks=4, running=1, report=True)
    farm.store.rename(farm.store.with_name("away"))
    await job.cancel()
    with pytest.raises(JobCancelledError):
        await job.result()

    (notice,) = (await job.status()).notices
    assert notice.startswith("report not written: no worker has done it within 5 s"), notice


async def test_what_has_no_report_is_said_in_one_sentence(farm: Farm, tmp_path: Path) -> None:
    async with command_line(farm) as cli:
        unknown = await cli("report", "nobody")
        elsewhere = await cli("report", "nobody", "--store", str(tmp_path))
        both = await cli("report", "nobody", "--pdf", "--json")

    assert unknown.code == 4
    assert "--store" in unknown.err
    assert elsewhere.code == 1
    assert "has no record of a job" in elsewhere.err
    assert both.code == 2
