"""At the edge of activities: names of attempts, heartbeats that nobody misses, errors that nothing expects."""

import asyncio
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.activity_context import ActivityTry, activity_edge, attempt_name, open_job, send_heartbeats
from activities.allowed_stores import AllowedStores
from activities.attempts.host import Host
from activities.render import first_heartbeat
from longtake.errors import ErrorType
from longtake.models.messages import Heartbeat, JobRef, SpanOrder

REF = JobRef(id="job-1", base_dir="/store", digest="d")


def environment(**changes: object) -> ActivityEnvironment:
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, **changes)  # type: ignore[arg-type]
    return environment


def name_of(**changes: object) -> str:
    return environment(**changes).run(lambda: attempt_name("chunk-7.1"))


# Both of one millisecond, as UUIDv7 writes them: 48 bits of time, then randomness.
RUN, OTHER_RUN = "01a220ff-d85c-7969-b23a-71f87c9ac3b7", "01a220ff-d85c-7a11-8d02-0a4bb9f1c6d2"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"workflow_run_id": RUN, "attempt": 1}, {"workflow_run_id": OTHER_RUN, "attempt": 1}),
        ({"workflow_run_id": RUN, "attempt": 1}, {"workflow_run_id": RUN, "attempt": 1}),
        ({"workflow_run_id": RUN, "attempt": 1}, {"workflow_run_id": RUN, "attempt": 2}),
    ],
    ids=["two runs of one millisecond", "an activity that was reset", "a retry within a second"],
)
def test_no_two_attempts_have_one_name(first: dict[str, object], second: dict[str, object]) -> None:
    names = [name_of(**changes) for changes in (first, second) for _ in range(50)]
    assert len(set(names)) == 100


def test_the_name_of_an_attempt_tells_its_run_work_and_number() -> None:
    run, work, number, _ = name_of(workflow_run_id=RUN, attempt=3).replace("chunk-", "chunk").split("-")
    assert (work, number) == ("chunk7.1", "3")
    assert run == name_of(workflow_run_id=RUN, attempt=1).split("-")[0]
    assert run != name_of(workflow_run_id=str(uuid.uuid4()), attempt=1).split("-")[0]


async def test_heartbeats_that_fail_end_the_work_with_their_reason() -> None:
    def details() -> Heartbeat:
        if begun.is_set():
            raise ValueError("the heartbeat cannot be written")
        return Heartbeat(chunk=0)

    async def work() -> None:
        async with send_heartbeats(details):
            begun.set()
            await asyncio.Event().wait()

    begun = asyncio.Event()
    async with asyncio.timeout(30):
        with pytest.raises(ValueError, match="the heartbeat cannot be written"):
            await ActivityEnvironment().run(work)


@pytest.mark.parametrize(("before", "is_last"), [(0, False), (8, False), (9, True)])
async def test_an_unexpected_error_is_retried_a_few_times_whatever_else_is_tried_again(
    before: int, is_last: bool
) -> None:
    async def work() -> None:
        async with activity_edge():
            raise KeyError("codec")

    sent: list[Heartbeat] = []
    # A store was away for half an hour, which Temporal counts too.
    failing = environment(attempt=60, heartbeat_details=details_of(number=59, ended=True, unexpected=before))
    failing.on_heartbeat = lambda beat: sent.append(beat)
    with pytest.raises(ApplicationError, match="unexpected KeyError: 'codec'; see the log of") as failed:
        await failing.run(work)

    assert failed.value.type == ErrorType.UNEXPECTED
    assert failed.value.non_retryable is is_last
    assert (sent[-1].unexpected, sent[-1].number, sent[-1].ended) == (before + 1, 60, True)


def details_of(**fields: object) -> tuple[object, ...]:
    """Return the details of a heartbeat, as the next attempt gets them."""
    return (Heartbeat.model_validate({"chunk": 0, **fields}).model_dump(mode="json"),)


async def test_errors_for_temporal_pass_the_edge_as_they_are() -> None:
    error = ApplicationError("as it is", type=ErrorType.BAD_JOB, non_retryable=True)

    async def work() -> None:
        async with activity_edge():
            raise error

    with pytest.raises(ApplicationError) as failed:
        await ActivityEnvironment().run(work)
    assert failed.value is error


@pytest.mark.parametrize(
    ("attempt", "beat", "losses"),
    [
        (1, None, 2),
        (3, None, 4),
        (2, Heartbeat(chunk=3, losses=1, number=1, ended=True), 1),
        (2, Heartbeat(chunk=3, losses=1, number=1), 2),
        (5, Heartbeat(chunk=3, losses=1, number=2, ended=True), 3),
        (5, Heartbeat(chunk=3, losses=1, number=2), 4),
        (1, Heartbeat(chunk=3, losses=1, number=7), 1),
        (4, Heartbeat(chunk=3, losses=1), 1),
    ],
    ids=[
        "first",
        "lost before a heartbeat",
        "ended in order",
        "lost",
        "two lost before a heartbeat",
        "lost, and two more before a heartbeat",
        "reset",
        "of an older worker",
    ],
)
def test_an_attempt_after_a_lost_one_counts_the_loss(attempt: int, beat: Heartbeat | None, losses: int) -> None:
    order = SpanOrder(ref=REF, start=3, stop=9, failures=1, losses=2)
    details = () if beat is None else (beat.model_dump(mode="json"),)

    tried = environment(attempt=attempt, heartbeat_details=details)
    first = tried.run(lambda: ActivityTry(first_heartbeat(order)).heartbeat)

    assert (first.chunk, first.losses, first.number, first.ended) == (3, losses, attempt, False)
    assert activity.in_activity() is False


@pytest.mark.parametrize(
    ("attempt", "details", "losses"),
    [(5, (), 0), (5, details_of(number=4), 1), (5, details_of(number=2, losses=1), 4), (5, details_of(), 0)],
    ids=["only an older worker sends none", "lost", "three more lost", "of an older worker"],
)
def test_work_that_takes_its_workers_down_is_given_up(attempt: int, details: tuple[object, ...], losses: int) -> None:
    def begin() -> int:
        this = ActivityTry()
        if this.heartbeat.losses < 4:
            this.check_losses(4, "planned it")
            return this.heartbeat.losses
        with pytest.raises(ApplicationError, match=r"^JobFailed: 4 workers were lost while they planned it") as failed:
            this.check_losses(4, "planned it")
        assert failed.value.non_retryable
        return this.heartbeat.losses

    assert environment(attempt=attempt, heartbeat_details=details).run(begin) == losses


async def test_a_worker_that_may_not_use_a_store_leaves_the_job_to_those_that_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker with fewer folders than the others must not fail the job for all of them."""
    monkeypatch.setattr("activities.activity_context._LOOK_SECONDS", 0)
    (tmp_path / "allowed").mkdir()
    allowed = AllowedStores([tmp_path / "allowed"])
    host = Host(None, None, {}, None, tmp_path, make_allowed=lambda: allowed, name="node-1")  # type: ignore[arg-type]
    ref = JobRef(id="job-1", base_dir=str(tmp_path), digest="d")

    with pytest.raises(ApplicationError, match=r"^StoreNotShared: node-1: .*lies outside the folders") as refused:
        await ActivityEnvironment().run(open_job, ref, host)

    assert refused.value.type == ErrorType.STORE_NOT_SHARED
    assert not refused.value.non_retryable
