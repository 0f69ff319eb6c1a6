"""The requests that a job takes while it runs: signals, updates and the query; what they change, or why not."""

from collections import deque
from contextlib import suppress

from temporalio import workflow
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from longtake.models.batches import BatchRest
    from longtake.models.continuation import JobContinuation
    from longtake.models.status import (
        JobStatus,
        PauseMode,
        PauseRequest,
        ResumeRequest,
        RetryFailed,
        SetMaxParallel,
        SkipChunks,
    )
    from longtake.names import BATCH_REST
    from longtake.ranges import RangeSet, format_ranges
    from workflows.film_trial import TrialRunner
    from workflows.history import HistoryBudget
    from workflows.requests import describe_chunks, read_cancel_reason, read_request, read_resume
    from workflows.scheduling import PauseState
    from workflows.spans import SpanRunner
    from workflows.status_board import StatusBoard

# An update and the signal that stands in for it come in one workflow task, or seconds apart.
_MOST_UPDATE_IDS = 100


class RequestedJob:
    """A job as requests find and change it; `RenderJob` is one, and does the work.

    Handlers note what is asked for and wake the main coroutine, which does it. Each request that is followed is told in
    the status, with on whose behalf it was sent.

    Args:
        before: What the run of the job before has handed over.
    """

    def __init__(self, before: JobContinuation | None) -> None:
        self._is_woken = False
        self._spans: SpanRunner | None = None
        self._trial: TrialRunner | None = None
        self._step: workflow.ActivityHandle[RawValue] | None = None
        self._max_parallel: int | None = None
        self._was_resumed = False
        self._is_cancel_noted = False
        self._update_ids: deque[str] = deque(maxlen=_MOST_UPDATE_IDS)
        self._history = HistoryBudget()
        self._pause = PauseState()
        self._board = StatusBoard(before)

    @workflow.signal
    def pause(self, *inputs: object) -> None:
        """Start no more chunks, and finish, freeze or end those that run; a pause in force is only hardened.

        Takes a `PauseRequest`. One that cannot be read is ignored, and the status says so.
        """
        try:
            request = read_request(PauseRequest, inputs)
        except ValueError as error:
            self._note(f"a signal pause was ignored: {error}")
        else:
            self._apply_pause(request, request.update_id)

    @workflow.signal
    def resume(self, *inputs: object) -> None:
        """Render the missing chunks again after a pause, and the failed ones of a job that holds."""
        request = read_resume(inputs)
        self._apply_resume(request, request.update_id)

    @workflow.signal(name=BATCH_REST)
    def hear_batch(self, *inputs: object) -> None:
        """Hear that a batch of the job stands frozen; what cannot be read is ignored."""
        with suppress(ValueError):
            rest = read_request(BatchRest, inputs)
            if self._spans is not None:
                self._spans.hear_batch(rest)
                self._wake()

    @workflow.update(name="pause")
    def pause_job(self, *inputs: object) -> PauseMode:
        """Pause as the signal does, and return the mode that is in force; refuse a request that cannot be read."""
        request = read_request(PauseRequest, inputs)
        self._apply_pause(request, _find_update_id())
        return self._pause.mode or request.mode

    @pause_job.validator
    def _may_pause(self, *inputs: object) -> None:
        read_request(PauseRequest, inputs)
        self._check_room()

    @workflow.update(name="resume")
    def resume_job(self, *inputs: object) -> bool:
        """Resume as the signal does; return whether the job was paused or held."""
        was_waiting = self._pause.is_paused or (self._spans is not None and self._spans.is_holding)
        self._apply_resume(read_resume(inputs), _find_update_id())
        return was_waiting

    @resume_job.validator
    def _may_resume(self, *inputs: object) -> None:
        self._check_room()

    @workflow.query
    def status(self) -> JobStatus:
        """Return the status of the job, with an estimate of the time to go."""
        return self._board.build_status()

    @workflow.update
    def set_max_parallel(self, *inputs: object) -> int:
        """Set how many chunks render at once, and return that number.

        Running chunks are not stopped; those that stand in a queue are taken back where there are too many.
        """
        request = read_request(SetMaxParallel, inputs)
        self._max_parallel = request.max_parallel
        self._board.add_request("set_max_parallel", request.by, f"{request.max_parallel}")
        if self._spans is not None:
            self._spans.set_limit(self._max_parallel)
        self._board.update_counts(max_parallel=self._max_parallel)
        self._wake()
        return self._max_parallel

    @set_max_parallel.validator
    def _may_set_max_parallel(self, *inputs: object) -> None:
        read_request(SetMaxParallel, inputs)
        if self._spans is not None:
            _check_rendering(self._spans)
        self._check_room()

    @workflow.update
    def retry_failed(self, *inputs: object) -> int:
        """Render failed chunks again, and skipped ones that the request names; return how many."""
        request = read_request(RetryFailed, inputs)
        count = self._active_spans.retry(request.chunks)
        self._board.add_request("retry", request.by, describe_chunks(request.chunks))
        self._wake()
        return count

    @retry_failed.validator
    def _may_retry_failed(self, *inputs: object) -> None:
        _check_retry(read_request(RetryFailed, inputs), self._spans)
        self._check_room()

    @workflow.update
    def skip_chunks(self, *inputs: object) -> int:
        """Leave chunks out of the job; return how many that changes. Published chunks stay."""
        request = read_request(SkipChunks, inputs)
        count = self._active_spans.leave_out(request)
        self._board.add_request("skip", request.by, describe_chunks(request.chunks))
        self._wake()
        return count

    @skip_chunks.validator
    def _may_skip_chunks(self, *inputs: object) -> None:
        _check_skip(read_request(SkipChunks, inputs), self._spans)
        self._check_room()

    @property
    def _active_spans(self) -> SpanRunner:
        # Validators refuse updates, and no stitch starts, before the rendering has begun.
        assert self._spans is not None
        return self._spans

    def _count_activities(self) -> int:
        others = (self._step is not None and not self._step.done(), self._trial is not None and not self._trial.is_idle)
        spans = self._spans.activity_count if self._spans is not None else 0
        return sum(others) + spans + self._board.notifier.open_count

    def _check_room(self) -> None:
        self._history.check_room(workflow.info().get_current_history_length(), self._count_activities())

    def _wake(self) -> None:
        self._is_woken = True

    def _is_repeated(self, update_id: str) -> bool:
        """Tell whether a request was followed already: the update, or the signal that its sender left in its place."""
        is_repeated = update_id in self._update_ids
        if update_id and not is_repeated:
            self._update_ids.append(update_id)
        return is_repeated

    def _apply_pause(self, request: PauseRequest, update_id: str) -> None:
        if self._is_repeated(update_id):
            return
        self._pause.pause(request.mode)
        self._board.add_request("pause", request.by, request.mode)
        self._wake()

    def _apply_resume(self, request: ResumeRequest, update_id: str) -> None:
        if self._is_repeated(update_id):
            return
        self._board.add_request("resume", request.by)
        self._was_resumed = True
        if self._spans is not None:
            self._spans.resume(paused=self._pause.is_paused)
        self._pause.resume()
        self._wake()

    def _note(self, sentence: str) -> None:
        workflow.logger.warning("%s", sentence)
        self._board.add_notice(sentence)

    def _note_cancel(self) -> None:
        if (reason := workflow.cancellation_reason()) is not None and not self._is_cancel_noted:
            self._is_cancel_noted = True
            self._board.add_request("cancel", *read_cancel_reason(reason))


def _find_update_id() -> str:
    update = workflow.current_update_info()
    return update.id if update is not None else ""


def _check_rendering(spans: SpanRunner | None) -> SpanRunner:
    """Return the spans of a job that is rendering.

    Raises:
        ValueError: The job is not rendering yet, or not any more.
    """
    if spans is None:
        raise ValueError("the job is not rendering yet; try again in a moment")
    if spans.is_closed:
        raise ValueError("the job has come to the end of its rendering; `longtake retry` is for when it has ended")
    return spans


def _check_retry(request: RetryFailed, spans: SpanRunner | None) -> None:
    """Check that all chunks that a retry names have failed or are left out.

    Raises:
        ValueError: One is neither, or no chunk has failed.
    """
    chunks = _check_rendering(spans).scheduler
    if not request.chunks and not chunks.failed:
        raise ValueError("no chunk has failed; there is nothing to retry")
    there = RangeSet((*chunks.failed, *chunks.left_out))
    _check_within(request.chunks, there, "neither failed nor skipped; only such chunks can be retried")


def _check_skip(request: SkipChunks, spans: SpanRunner | None) -> None:
    """Check that all chunks that a skip names can be left out.

    Raises:
        ValueError: One is published or not a chunk of this job, or the film must not have gaps.
    """
    running = _check_rendering(spans)
    chunks = running.scheduler
    _check_within(request.chunks, RangeSet([(0, chunks.chunk_count)]), f"not among the job's {chunks.chunk_count}")
    unfinished = RangeSet(chunks.done).gaps(0, chunks.chunk_count)
    _check_within(request.chunks, unfinished, "finished already; only others can be skipped")
    if running.has_film and not (request.allow_gaps or running.allow_gaps):
        raise ValueError("the film would have gaps; say that it may (allow_gaps, or `longtake skip --allow-gaps`)")


def _check_within(asked: tuple[tuple[int, int], ...], there: RangeSet, problem: str) -> None:
    for start, stop in asked:
        if start >= stop:
            raise ValueError(f"chunks: [{start}, {stop}) is empty; give the first chunk and the one after the last")
        if lacking := there.gaps(start, stop).ranges:
            one = sum(high - low for low, high in lacking) == 1
            raise ValueError(
                f"chunk {format_ranges(lacking)} is {problem}"
                if one
                else f"chunks {format_ranges(lacking)} are {problem}"
            )
