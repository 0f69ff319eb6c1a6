"""Hand over from one run of a job to the next, whose history is empty: nothing of the job may be lost between them."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from longtake.errors import BadJobError
    from longtake.jobfile.loader import read_job
    from longtake.models.continuation import CONTINUES, JobContinuation, SavedSpans
    from longtake.models.job import RenderJobSpec
    from longtake.ranges import MOST_NUMBERS
    from longtake.text import describe_invalid
    from workflows.film_trial import TrialRunner
    from workflows.requests import HOW_TO_START
    from workflows.scheduling import PauseState
    from workflows.spans import SpanRunner
    from workflows.status_board import StatusBoard


def read_continuation(inputs: tuple[object, ...], job_id: str) -> tuple[JobContinuation, RenderJobSpec] | None:
    """Return what the run of a job before has handed over, and the job; None where the input is none of that kind.

    Args:
        inputs: The inputs of the workflow, decoded.
        job_id: Its id.

    Raises:
        BadJobError: It does not fit.
    """
    given = inputs[0] if len(inputs) == 1 else None
    if not isinstance(given, dict) or CONTINUES not in given:
        return None
    try:
        if len(given) > 1:
            raise ValueError("has other keys beside it")
        before = JobContinuation.model_validate(given[CONTINUES])
        if before.spans is not None:
            _check_spans(before.spans, job_id)
    except ValueError as error:
        why = describe_invalid(error) if isinstance(error, ValidationError) else f"{error}"
        raise BadJobError(
            f"{CONTINUES}: {why}; only a run of a job writes it for the next one: {HOW_TO_START}"
        ) from error
    return before, read_job(dict(before.job)).model_copy(update={"started_at": before.started_at})


def _check_spans(spans: SavedSpans, job_id: str) -> None:
    """Raise a `ValueError` where a hand-over is not one of this job."""
    if spans.plan.ref.id != job_id:
        raise ValueError("is of another job")
    count = spans.plan.chunk_count
    for chunks in (spans.chunks.done, spans.chunks.failed, spans.chunks.left_out):
        if not 0 < count <= MOST_NUMBERS or any(start < 0 or stop > count for start, stop in chunks):
            raise ValueError("names chunks that the job does not have")


def build_continuation(
    document: Mapping[str, Any],
    job: RenderJobSpec,
    board: StatusBoard,
    spans: SpanRunner | None,
    trial: TrialRunner | None,
    pause: PauseState,
    *,
    max_parallel: int | None,
    runs: int,
) -> dict[str, Any]:
    """Return the input of the next run of a job of which nothing runs.

    Args:
        document: The job as it was submitted.
        job: The job as accepted.
        board: Its status.
        spans: What its render has come to; None before it is planned.
        trial: The trial of its film.
        pause: The pause in force, if there is one.
        max_parallel: The limit as an update has set it.
        runs: Runs so far.
    """
    assert job.started_at is not None  # it was set when the job was accepted
    after = JobContinuation(
        job=dict(document),
        started_at=job.started_at,
        status=board.save_status(),
        ran_seconds=board.ran_seconds,
        spans=spans.save(film_is_tried=trial is not None and trial.is_tried) if spans is not None else None,
        max_parallel=max_parallel,
        pause_mode=pause.mode,
        freezes=pause.freezes,
        runs=runs,
        notifier=board.notifier.save(),
    )
    return {CONTINUES: after.model_dump(mode="json")}
