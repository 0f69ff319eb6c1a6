"""Tries at a film: what counts as one, and films that take their workers down."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.attempts.film_attempt import FilmAttempt
from activities.attempts.host import Host
from activities.errors import AttemptError
from activities.stitch import StitchActivities
from activities.stores.job_folder import JobFolder, Sidecar
from longtake import FrameRange, RenderJobSpec, Retry
from longtake.errors import ErrorType
from longtake.models.messages import Heartbeat, JobRef, StitchOrder
from longtake.stores.directory import DirectoryStore


class Watches:
    """Nobody asks Temporal."""

    @asynccontextmanager
    async def watch(self, *, parallel: int) -> AsyncIterator[None]:
        yield


def accepted(store: Path) -> JobRef:
    """Write down a job whose film comes of a merge command."""
    job = RenderJobSpec(
        frames=FrameRange(count=1, per_chunk=1),
        command=("render", "{output}"),
        chunk_output="{chunk}.txt",
        merge_command=("merge", "{output}"),
        output="all.bin",
        base_dir=str(store),
        retry=Retry(lost_workers=3),
    )
    JobFolder(DirectoryStore(store), "job").create(job, None)
    return JobRef(id="job", base_dir=str(store), digest=job.digest())


async def failure_of(store: Path, attempt: int, **before: object) -> tuple[ApplicationError, Heartbeat]:
    """Return how an attempt fails, and its last heartbeat."""
    sent: list[Heartbeat] = []
    environment = ActivityEnvironment()
    details = (Heartbeat.model_validate({"chunk": 0, **before}).model_dump(mode="json"),)
    environment.info = replace(environment.info, attempt=attempt, heartbeat_details=details)
    environment.on_heartbeat = lambda beat: sent.append(beat)
    host = Host(None, None, {}, None, store)  # type: ignore[arg-type]  # no film is made
    stitch = StitchActivities(host, Watches())  # type: ignore[arg-type]
    with pytest.raises(ApplicationError) as failed:
        await environment.run(stitch.stitch_job, StitchOrder(ref=accepted(store)))
    return failed.value, sent[-1]


@pytest.fixture(autouse=True)
def _merges_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(film: FilmAttempt) -> None:
        raise AttemptError("exited with code 1")

    sidecar = Sidecar(key="000000", digest="", attempt="a", frames=1, files=())
    monkeypatch.setattr("activities.stitch._sidecars", lambda job, missing: [sidecar])
    monkeypatch.setattr(FilmAttempt, "run", fail)


@pytest.mark.parametrize(("failures", "is_last"), [(0, False), (1, False), (2, True)])
async def test_only_failed_tries_count_as_tries_at_a_film(tmp_path: Path, failures: int, is_last: bool) -> None:
    """A store that was away and workers that were stopped are attempts of Temporal's, and no tries."""
    error, beat = await failure_of(tmp_path, 9, number=8, ended=True, failures=failures)

    assert (error.type, error.non_retryable) == (ErrorType.ATTEMPT_FAILED, is_last)
    assert (beat.failures, beat.losses) == (failures + 1, 0)


async def test_a_film_that_takes_its_workers_down_fails_its_job(tmp_path: Path) -> None:
    error, _ = await failure_of(tmp_path, 4, number=3, losses=2)

    assert (error.type, error.non_retryable) == (ErrorType.JOB_FAILED, True)
    assert error.message.startswith("3 workers were lost while they made the film, so no other one gets it")
