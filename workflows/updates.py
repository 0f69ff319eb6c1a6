"""What a job answers to updates that it cannot carry out: one sentence, before anything is changed."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from longtake.ranges import RangeSet, shown
    from longtake.requests import RetryFailed, SkipChunks
    from workflows.spans import SpanRunner


def check_rendering(spans: SpanRunner | None) -> SpanRunner:
    """Return the spans of a job that renders.

    Raises:
        ValueError: It does not.
    """
    if spans is None:
        raise ValueError("the job is not rendering yet; try again in a moment")
    if spans.closed:
        raise ValueError("the job has come to the end of its rendering; `longtake retry` is for when it has ended")
    return spans


def check_retry(request: RetryFailed, spans: SpanRunner | None) -> None:
    """Pass when all chunks that are named can be taken up again.

    Raises:
        ValueError: One cannot, or no chunk has failed.
    """
    chunks = check_rendering(spans).scheduler
    if not request.chunks and not chunks.failed:
        raise ValueError("no chunk has failed; there is nothing to retry")
    there = RangeSet((*chunks.failed, *chunks.left_out))
    _check_within(request.chunks, there, "neither failed nor skipped; only such chunks can be retried")


def check_skip(request: SkipChunks, spans: SpanRunner | None) -> None:
    """Pass when all chunks that are named can be left out.

    Raises:
        ValueError: One is published or not of this job, or the film must not have gaps.
    """
    running = check_rendering(spans)
    chunks = running.scheduler
    _check_within(request.chunks, RangeSet([(0, chunks.chunk_count)]), f"not among the job's {chunks.chunk_count}")
    unfinished = RangeSet(chunks.done).gaps(0, chunks.chunk_count)
    _check_within(request.chunks, unfinished, "finished already; only others can be skipped")
    if running.makes_film and not (request.allow_gaps or running.allow_gaps):
        raise ValueError("the film would have gaps; say that it may (allow_gaps, or `longtake skip --allow-gaps`)")


def _check_within(asked: tuple[tuple[int, int], ...], there: RangeSet, problem: str) -> None:
    for start, stop in asked:
        if start >= stop:
            raise ValueError(f"chunks: [{start}, {stop}) is empty; give the first chunk and the one after the last")
        if lacking := there.gaps(start, stop).ranges:
            one = sum(high - low for low, high in lacking) == 1
            raise ValueError(
                f"chunk {shown(lacking)} is {problem}" if one else f"chunks {shown(lacking)} are {problem}"
            )
