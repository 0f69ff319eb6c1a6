"""Keep the status of a job, and write it to its memo, its search attributes and its page in the Temporal UI.

The sentences on why a job failed are here too.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypedDict

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from longtake.chunks import ChunkPlan
    from longtake.errors import ErrorType
    from longtake.models.continuation import JobContinuation
    from longtake.models.job import RenderJobSpec
    from longtake.models.messages import JobPlan
    from longtake.models.status import (
        MOST_BY,
        ChunkFailure,
        JobMetrics,
        JobPhase,
        JobState,
        JobStatus,
        PauseMode,
        RemoteStops,
        RenderJobResult,
        RequestRecord,
    )
    from longtake.names import (
        MEMO_CONTROL,
        MEMO_DIGEST,
        MEMO_FREEZE,
        MEMO_SPLIT,
        MEMO_STATUS,
        MEMO_TELLS,
        NAME,
        PROGRESS,
        STATE,
        Control,
        find_job_values,
        job_folder_name,
    )
    from longtake.ranges import Range, format_ranges
    from longtake.text import cut_middle, escape_markdown, shorten_line
    from workflows.farm_control import FarmTeller
    from workflows.notifications import Notifier
    from workflows.scheduling import PauseState
    from workflows.span_reports import Totals
    from workflows.spans import SpanRunner


# Each write of progress is an event of the history: 50 of them for a job at most, and one in five seconds.
_PROGRESS_STEP = 2.0
_PROGRESS_PAUSE = timedelta(seconds=5)

# A skip names few; what lies beyond is counted.
_MOST_LEFT_OUT = 50

# In the memo, which every look at the job brings along.
_MOST_NOTICES = 5
_LONGEST_NOTICE = 300

# The query has the last 20 requests, the memo the last 10: about 1 KB.
_MOST_REQUESTS = 20
_MOST_MEMO_REQUESTS = 10
_MOST_PAGE_REQUESTS = 3
_LONGEST_DETAIL = 80

# Each is an event or two: where each span has one, the others are written with the next change of state or progress.
_MOST_WRITTEN_NOTICES = 20


class StatusBoard:
    """Holds the one status of a job, and writes it where clients and workers read it, at changes only.

    Args:
        before: What the run of the job before has handed over.

    Attributes:
        is_bounded: Whether notices are written with the next change where there are many of them.
        is_silent: Whether changes of state are left to the next run, and all else that is not the end of the job:
            this one has room for the end of what runs. A pause with its resume was 35 events, and no signal can be
            refused.
        farm: Tells workers of orders.
        notifier: Tells receivers of what is shown.
        status: The status, without an estimate of the time to go.
        knows_attributes: Whether it was told whether the namespace has Longtake's search attributes.
    """

    def __init__(self, before: JobContinuation | None = None) -> None:
        info = workflow.info()
        known = {"id": info.workflow_id, "folder": job_folder_name(info.workflow_id)}
        self.status = JobStatus(**known, created_at=info.start_time, updated_at=info.start_time)
        self._control = Control.RUN
        self._freeze = 0
        self.farm = FarmTeller()
        self.notifier = Notifier(before.notifier if before is not None else None)
        self.is_bounded = self.is_silent = False
        self._written_notices = 0
        self.knows_attributes = False
        self._attributes = False
        self._shown_at: datetime | None = None
        self._shown_progress = 0.0
        self._running_since: datetime | None = None
        self._ran = timedelta()
        if before is not None:
            self._restore(before, known)

    def _restore(self, before: JobContinuation, known: dict[str, str]) -> None:
        self.status = before.status.model_copy(update=known)
        pause = PauseState(before.pause_mode, before.freezes)
        # As `save_memo` has written it.
        self._control, self._freeze = pause.control, pause.freeze_number
        self._ran = timedelta(seconds=before.ran_seconds)
        self._shown_at, self._shown_progress = workflow.now(), self.status.progress
        if self.status.phase is JobPhase.RENDERING and self.status.state is JobState.RUNNING:
            self._running_since = workflow.now()
        if before.spans is not None:
            self.knows_attributes, self._attributes = True, before.spans.plan.search_attributes
        workflow.set_current_details(_format_page(self.status))

    def save_status(self) -> JobStatus:
        """Return the status without what is counted anew."""
        unset = {"failures": (), "running": (), "batches": (), "metrics": JobMetrics(), "remote_stops": RemoteStops()}
        return self.status.model_copy(update=unset)

    def save_memo(self, pause: PauseState) -> dict[str, object]:
        """Return the memo that the next run of the job begins with."""
        return {**workflow.memo(), **self._build_memo(pause.control, pause.freeze_number), MEMO_SPLIT: 0}

    @property
    def ran_seconds(self) -> float:
        """How long the job has rendered."""
        ran = self._ran
        if self._running_since is not None:
            ran += workflow.now() - self._running_since
        return ran.total_seconds()

    def show_job(self, job: RenderJobSpec) -> None:
        """Show an accepted job, which is not planned yet."""
        frames = job.frames.count if job.frames else sum(chunk.count for chunk in job.inline_chunks)
        self._set(
            name=job.fill_name(find_job_values(self.status.id, job.started_at)),
            started_at=job.started_at,
            total_chunks=job.chunk_count,
            total_frames=frames,
            max_parallel=job.max_parallel,
            backend=job.backend_kind,
            base_dir=job.store or job.base_dir,
        )
        workflow.upsert_memo({MEMO_DIGEST: job.digest()})
        self.notifier.expect(job.notify)

    def show_plan(self, plan: JobPlan) -> None:
        """Show the frames, the kept chunks and the store that planning found."""
        done = sum(stop - start for start, stop in plan.done)
        self._set(total_frames=plan.frame_count, skipped_chunks=done, base_dir=plan.ref.store_url)
        self.use_search_attributes(available=plan.search_attributes)

    def use_search_attributes(self, *, available: bool) -> None:
        """Write the state to search attributes from now on, where the namespace has them: else the write would fail."""
        self.knows_attributes, self._attributes = True, available
        if available:
            workflow.upsert_search_attributes([NAME.value_set(self.status.name)])

    def update_counts(self, **counts: object) -> None:
        """Set the counts of chunks, and write them at every 2 % of progress at most.

        Args:
            counts: The fields of `Counts`, or others of the status.
        """
        self._set(**counts)
        total = self.status.total_frames or 1
        # 100 % means a proven film, not that all chunks are rendered.
        progress = min(99.0, round(100 * self.status.completed_frames / total, 1))
        self._set(progress=progress, progress_at=workflow.now())
        due = self._shown_at is None or workflow.now() - self._shown_at >= _PROGRESS_PAUSE
        if due and self.status.progress - self._shown_progress >= _PROGRESS_STEP:
            self._write()

    def show_state(
        self,
        state: JobState,
        phase: JobPhase,
        control: Control,
        *,
        mode: PauseMode | None = None,
        freeze: int = 0,
        error: str | None = None,
    ) -> None:
        """Show a change of state, and give workers their order; do nothing where both are shown already.

        A silent board does nothing either, and keeps what it shows, so that the next run finds the change and shows it.

        Args:
            state: State of the job.
            phase: Phase within that state.
            control: Order to the workers that render the job.
            mode: The pause in force, if there is one.
            freeze: Number of the freeze in force; 0 without one.
            error: Why the job holds; None where it does not.
        """
        status = self.status
        shown = (status.state, status.phase, self._control, status.pause_mode, self._freeze, status.error)
        if self.is_silent or (state, phase, control, mode, freeze, error) == shown:
            return
        self._count_time(running=state is JobState.RUNNING and phase is JobPhase.RENDERING)
        self._control, self._freeze = control, freeze
        self._set(state=state, phase=phase, pause_mode=mode, error=error)
        self.farm.tell(control, freeze)
        self._write()
        self.notifier.observe(self.status)

    def add_notice(self, sentence: str) -> None:
        """Show a sentence about a request that was ignored; the last ones stay."""
        self._set(notices=(*self.status.notices, shorten_line(sentence, _LONGEST_NOTICE))[-_MOST_NOTICES:])
        self._written_notices += 1
        if not self.is_bounded or self._written_notices <= _MOST_WRITTEN_NOTICES:
            self._write()

    def add_end_note(self, sentence: str) -> None:
        """Show what could not be done for a job that has ended: with its result, where it has one."""
        result = self.status.result
        if result is None:
            self.add_notice(sentence)
            return
        note = "; ".join(filter(None, (result.note, shorten_line(sentence, _LONGEST_NOTICE))))
        self._set(result=result.model_copy(update={"note": note}))
        self._write()

    def add_request(self, what: str, by: str, detail: str = "") -> None:
        """Take up a request that the job follows, which is written with the change that it makes, if any.

        Args:
            what: Name of the request.
            by: Person or program on whose behalf it was sent; empty where that was not told.
            detail: What it asks for.
        """
        record = RequestRecord(
            what=what, by=shorten_line(by, MOST_BY), detail=shorten_line(detail, _LONGEST_DETAIL), at=workflow.now()
        )
        self._set(requests=(*self.status.requests, record)[-_MOST_REQUESTS:])

    def update_totals(self, totals: Totals) -> None:
        """Set the totals that are known when the last work has stopped; `show_end` writes them."""
        metrics = totals.metrics.model_copy(update={"chunk_seconds": self.status.metrics.chunk_seconds})
        self._set(metrics=metrics, remote_stops=totals.stops)

    def show_end(
        self,
        state: JobState,
        *,
        error: str | None = None,
        needs_change: bool = False,
        result: RenderJobResult | None = None,
    ) -> None:
        """Show the end of the job: its state, and its error or its result."""
        self._count_time(running=False)
        progress = 100.0 if state is JobState.COMPLETED else self.status.progress
        self._set(
            state=state,
            phase=JobPhase.ENDED,
            pause_mode=None,
            error=error,
            needs_change=needs_change,
            result=result,
            progress=progress,
            progress_at=workflow.now(),
            running_chunks=0,
            frozen_chunks=0,
            batches=(),
        )
        self._control = Control.STOP
        self.is_silent = False
        self._write()
        self.notifier.observe(self.status)

    def build_status(self) -> JobStatus:
        """Return the status with an estimate of the time to go, from the chunks finished so far."""
        status = self.status
        finished = status.completed_chunks - status.skipped_chunks
        left = status.total_chunks - status.completed_chunks - status.failed_chunks - status.left_out_chunks
        if finished <= 0 or status.state.has_ended:
            return status
        return status.model_copy(update={"eta_seconds": round(self.ran_seconds / finished * left, 1)})

    def _set(self, **fields: object) -> None:
        self.status = self.status.model_copy(update={**fields, "updated_at": workflow.now()})

    def _count_time(self, *, running: bool) -> None:
        if self._running_since is not None:
            self._ran += workflow.now() - self._running_since
        self._running_since = workflow.now() if running else None

    def _write(self) -> None:
        if self.is_silent:
            return
        self._shown_at, self._shown_progress = workflow.now(), self.status.progress
        workflow.upsert_memo(self._build_memo(self._control, self._freeze))
        if self._attributes:
            workflow.upsert_search_attributes(
                [STATE.value_set(self.status.state.value), PROGRESS.value_set(self.status.progress)]
            )
        workflow.set_current_details(_format_page(self.status))

    def _build_memo(self, control: Control, freeze: int) -> dict[str, object]:
        status = shorten_status(self.status).model_dump(mode="json", exclude_defaults=True)
        orders = {MEMO_CONTROL: control.value, MEMO_FREEZE: freeze, MEMO_TELLS: self.farm.tells}
        return {**orders, MEMO_STATUS: status}


def shorten_status(status: JobStatus) -> JobStatus:
    """Return a status for the memo, which every look at the job brings along: of all failures but the first the names.

    The query has them in full.
    """
    failures = [
        failure if number == 0 else ChunkFailure(chunk=failure.chunk, error=cut_middle(failure.error, 60))
        for number, failure in enumerate(status.failures)
    ]
    stops = status.remote_stops
    return status.model_copy(
        update={
            "failures": tuple(failures),
            "requests": status.requests[-_MOST_MEMO_REQUESTS:],
            "remote_stops": stops.model_copy(update={"unconfirmed": stops.unconfirmed[:5]}),
        }
    )


def _format_page(status: JobStatus) -> str:
    """Return the status as Markdown for the Temporal UI."""
    lines = [
        f"**{escape_markdown(status.name)}**: {status.state} ({status.phase}), {status.progress:g} %",
        # Markdown takes a list for a part of the paragraph above without it.
        "",
        f"- chunks: {status.completed_chunks} of {status.total_chunks}, failed: {status.failed_chunks}",
        f"- frames: {status.completed_frames} of {status.total_frames}",
    ]
    if status.result and status.result.output:
        films = [film.output for film in status.result.films] or [status.result.output]
        lines += [f"- film: {escape_markdown(film)}" for film in films]
    if status.result and status.result.note:
        lines.append(f"- {escape_markdown(status.result.note)}")
    if status.error:
        lines.append(f"- error: {escape_markdown(status.error)}")
    if status.frozen_chunks:
        lines.append(f"- frozen where they stand: {status.frozen_chunks} chunks")
    if status.left_out_chunks:
        lines.append(f"- skipped on request: {status.left_out_chunks} chunks")
    if status.phase is JobPhase.HOLDING:
        lines.append("- the job waits: mend the cause, then signal `resume`; or update `skip_chunks`")
    for request in status.requests[-_MOST_PAGE_REQUESTS:]:
        detail, by = (f" ({request.detail})" if request.detail else ""), (f" by {request.by}" if request.by else "")
        lines.append(f"- {escape_markdown(f'{request.what}{detail}{by}, {request.at:%Y-%m-%d %H:%M:%S} UTC')}")
    lines += [f"- {escape_markdown(notice)}" for notice in status.notices]
    if status.failures:
        lines.append(
            "- failed chunks: " + format_ranges((failure.chunk, failure.chunk + 1) for failure in status.failures)
        )
    return "\n".join(lines)


def describe_unrendered(status: JobStatus) -> str:
    """Return the note on a job all of whose chunks were published before it began; empty for other jobs."""
    done = status.skipped_chunks
    if done < status.total_chunks:
        return ""
    which = f"all {done:,} chunks were" if done > 1 else "its one chunk was"
    return f"nothing was rendered: {which} there already"


class Counts(TypedDict):
    """Fields of a status that change while chunks render."""

    completed_chunks: int
    completed_frames: int
    failed_chunks: int
    left_out_chunks: int
    left_out: tuple[Range, ...]
    running_chunks: int
    frozen_chunks: int
    batches: tuple[str, ...]
    failures: tuple[ChunkFailure, ...]
    metrics: JobMetrics
    remote_stops: RemoteStops


def count_chunks(job: RenderJobSpec, spans: SpanRunner) -> Counts:
    """Return the counts of a job that is rendering."""
    chunks = spans.scheduler
    return {
        "completed_chunks": chunks.done_count,
        "completed_frames": _frames_done(job, spans.plan, chunks.done),
        "failed_chunks": chunks.failed_count,
        "left_out_chunks": chunks.left_out_count,
        "left_out": chunks.left_out[:_MOST_LEFT_OUT],
        "running_chunks": chunks.running_count,
        "frozen_chunks": spans.frozen_count,
        "batches": spans.batches,
        "failures": spans.failures,
        "metrics": spans.totals.metrics.model_copy(update={"chunk_seconds": chunks.mean_seconds}),
        "remote_stops": spans.totals.stops,
    }


def _frames_done(job: RenderJobSpec, plan: JobPlan, done: Sequence[Range]) -> int:
    """Return the number of frames of some chunks; where the list of chunks is a file, all count as equally long."""
    if job.chunk_list is None:
        return ChunkPlan(job).count_frames(done)
    chunks = sum(stop - start for start, stop in done)
    return plan.frame_count * chunks // plan.chunk_count


def describe_failures(spans: SpanRunner) -> str:
    """Return one sentence that names the failed chunks, and the reason of one of them."""
    chunks = spans.scheduler
    failure = next(iter(spans.failures), None)
    if failure is None:
        return f"{chunks.failed_count} chunks failed ({format_ranges(chunks.failed)})"
    tries = "try" if failure.attempts == 1 else "tries"
    reason = f"chunk {failure.chunk} failed after {failure.attempts} {tries}: {failure.error}"
    if chunks.failed_count == 1:
        return reason
    return f"{chunks.failed_count} chunks failed ({format_ranges(chunks.failed)}); {reason}"


def find_failure(spans: SpanRunner) -> ApplicationError | None:
    """Return the error of a job whose rendering has come to its end; None where its chunks suffice."""
    if not spans.has_too_many_failures and (not spans.scheduler.failed or _may_have_gaps(spans)):
        return _describe_others(spans) if spans.lacks_others else None
    needs_change = bool(spans.failures) and all(failure.needs_change for failure in spans.failures)
    type = ErrorType.NEEDS_CHANGE if needs_change else ErrorType.JOB_FAILED
    return ApplicationError(describe_failures(spans), type=type, non_retryable=True)


def _describe_others(spans: SpanRunner) -> ApplicationError:
    """Return the error of a job that has rendered the chunks it was started again for, and lacks others."""
    count, ranges = spans.scheduler.left_out_count, format_ranges(spans.scheduler.left_out)
    chunks = f"1 other is missing ({ranges})" if count == 1 else f"{count:,} others are missing ({ranges})"
    sentence = f"what was asked for is rendered, and {chunks}; `longtake retry {spans.plan.ref.id}` renders all"
    return ApplicationError(sentence, type=ErrorType.JOB_FAILED, non_retryable=True)


def _may_have_gaps(spans: SpanRunner) -> bool:
    """Tell whether the film may lack the chunks that failed: one at least must be there."""
    # Before, a stitch of no chunks was started, and told of none of their failures.
    return spans.allow_gaps and (bool(spans.scheduler.done) or not workflow.patched("fail-without-chunks"))


def build_job_error(error: FailureError) -> ApplicationError:
    """Return the error that ends a job, with the message of the activity and not "Activity task failed"."""
    cause = error.cause if isinstance(error, ActivityError) and error.cause else error
    if isinstance(cause, ApplicationError):
        return ApplicationError(cause.message, type=cause.type, non_retryable=True)
    return ApplicationError(f"{cause}", type=ErrorType.JOB_FAILED, non_retryable=True)
