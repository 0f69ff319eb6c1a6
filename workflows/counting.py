"""How far a job is, as far as the workflow itself can know."""

from collections.abc import Sequence
from typing import TypedDict

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from longtake.chunks import ChunkPlan
    from longtake.models.job import RenderJobSpec
    from longtake.models.messages import JobPlan
    from longtake.models.status import ChunkFailure, JobMetrics, RemoteStops
    from longtake.ranges import Range
    from workflows.spans import SpanRunner


class Counts(TypedDict):
    """The fields of a status that count."""

    completed_chunks: int
    completed_frames: int
    failed_chunks: int
    left_out_chunks: int
    running_chunks: int
    frozen_chunks: int
    failures: tuple[ChunkFailure, ...]
    metrics: JobMetrics
    remote_stops: RemoteStops


def counts(job: RenderJobSpec, plan: JobPlan, spans: SpanRunner) -> Counts:
    """Return how far the rendering is."""
    chunks = spans.scheduler
    return {
        "completed_chunks": chunks.done_count,
        "completed_frames": _frames_done(job, plan, chunks.done),
        "failed_chunks": chunks.failed_count,
        "left_out_chunks": chunks.left_out_count,
        "running_chunks": len(chunks.running),
        "frozen_chunks": spans.frozen_count,
        "failures": spans.told_failures,
        "metrics": spans.totals.metrics.model_copy(update={"chunk_seconds": chunks.mean_seconds}),
        "remote_stops": spans.totals.stops,
    }


def _frames_done(job: RenderJobSpec, plan: JobPlan, done: Sequence[Range]) -> int:
    """Return the frames of these chunks: exact, but for lists in files, where chunks count as equally long."""
    if job.chunk_list is None:
        return ChunkPlan(job).frames_in(done)
    chunks = sum(stop - start for start, stop in done)
    return plan.frame_count * chunks // plan.chunk_count
