"""What a run hands over to the next is whole, small, and refused where it is no such thing."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from longtake.data_converter import data_converter
from longtake.describe import read_document
from longtake.errors import BadJobError
from longtake.models.continuation import CONTINUES, JobContinuation, SavedSpans
from longtake.models.messages import JobPlan, JobRef
from longtake.models.status import JobStatus, PauseMode
from workflows.chunk_states import Tries
from workflows.handover import read_continuation
from workflows.scheduling import Scheduler

MILLION = 1_000_000
JOB = {
    "frames": {"count": MILLION, "per_chunk": 1}, "command": ["render", "{output}"], "chunk_output": "{chunk}.exr",
    "base_dir": "/farm",
}  # fmt: skip


def continuation(**chunks: Any) -> dict[str, Any]:
    plan = JobPlan(ref=JobRef(id="job", base_dir="/farm", digest="d"), chunk_count=MILLION, frame_count=MILLION)
    before = JobContinuation(
        job=JOB, started_at=datetime(2025, 6, 1, tzinfo=UTC), status=JobStatus(id="job"), pause_mode=PauseMode.FREEZE,
        freezes=7, max_parallel=3, spans=SavedSpans.model_validate({"plan": plan, "chunks": chunks}),
    )  # fmt: skip
    return {CONTINUES: before.model_dump(mode="json")}


def with_chunks(chunks: object) -> dict[str, Any]:
    given = continuation()
    given[CONTINUES]["spans"]["chunks"] = chunks
    return given


def test_a_million_chunks_with_a_hole_at_every_other_one_are_handed_over_in_a_small_input() -> None:
    scheduler = Scheduler(MILLION, limit=500, done=[(chunk, chunk + 1) for chunk in range(0, MILLION, 2)], passes=9)
    for span in scheduler.assign_spans():
        scheduler.finish_span(span, tries=Tries(3, 1))
    given = continuation(**scheduler.save().model_dump())
    assert len(json.dumps(given)) < 50_000

    found = read_continuation((given,), "job")
    assert found is not None
    before, job = found
    assert job.started_at == before.started_at
    assert (before.pause_mode, before.freezes, before.max_parallel) == (PauseMode.FREEZE, 7, 3)
    assert before.spans is not None
    again = Scheduler(MILLION, limit=500, saved=before.spans.chunks)
    assert (again.done, again.pending) == (scheduler.done, scheduler.pending)
    assert [span.tries for span in again.assign_spans(5)] == 5 * [Tries(3, 1)]


def test_a_job_file_is_none() -> None:
    assert read_continuation((JOB,), "job") is None
    assert read_continuation((), "job") is None
    assert read_continuation((None, 7), "job") is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({CONTINUES: 7}, "object"),
        ({CONTINUES: {}}, "job"),
        ({**continuation(), "name": "film"}, "has other keys beside it"),
        (continuation(done=((0, MILLION + 1),)), "names chunks that the job does not have"),
        (continuation(failed=((-4, 2),)), "names chunks that the job does not have"),
        (with_chunks({"done": "7"}), "bitmap"),
        (with_chunks({"done": [[1]]}), "spans.chunks.done"),
    ],
    ids=["no object", "empty", "other keys", "more chunks", "chunks below 0", "no bitmap", "no range"],
)
def test_what_is_no_hand_over_is_refused_in_one_sentence(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadJobError) as refused:
        read_continuation((given,), "job")

    assert problem in str(refused.value)
    assert str(refused.value).startswith(f"{CONTINUES}: ")
    assert "start the job with one JSON object, the keys of a job file" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_hand_over_of_another_job_is_refused() -> None:
    with pytest.raises(BadJobError, match="is of another job"):
        read_continuation((continuation(),), "another")


async def test_a_client_reads_the_job_as_it_was_submitted() -> None:
    converter = data_converter({})

    assert await read_document(await converter.encode([continuation()]), converter, job_id="job") == JOB
