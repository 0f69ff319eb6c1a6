"""Rendering a span of chunks: the edge between Temporal and the attempts."""

import logging
from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.attempt import ChunkAttempt, Host
from activities.beating import beating
from activities.control import JobControl
from activities.failures import AttemptError, StoreNotSharedError
from activities.stores.job_folder import OpenJob
from activities.stores.records import Sidecar
from longtake.errors import BadJobError, ErrorType
from longtake.names import Control
from longtake.planning import Chunk
from longtake.policies import FailurePolicy
from longtake.ranges import RangeSet
from longtake.status import ChunkFailure
from longtake.work import Heartbeat, SpanOrder, SpanReport

_log = logging.getLogger(__name__)

# Reasons kept of a span's failed chunks: they travel in heartbeats, four times a second.
_MOST_REASONS = 3


class RenderActivities:
    """Renders chunks on this worker."""

    def __init__(self, host: Host, control: JobControl) -> None:
        self._host = host
        self._control = control

    @activity.defn(name="render_span")
    async def render_span(self, order: SpanOrder) -> SpanReport:
        """Render the chunks of a span one after the other and report which are published.

        Chunks that are published already are not touched. Before each chunk the job is asked whether it still
        wants it. A failed try ends the attempt: the next one goes on at this chunk, after the wait that the job's
        retry policy says. A cancel stops all processes before it is confirmed.

        Raises:
            ApplicationError: `AttemptFailed`, retried; `ChunkFailed` with a `SpanReport`, when tries are used up.
        """
        try:
            job = OpenJob.read(order.ref)
        except StoreNotSharedError as error:
            raise ApplicationError(str(error), type=ErrorType.STORE_NOT_SHARED) from error
        span = _Span(self._host, self._control, job, order)
        async with beating(lambda: span.heartbeat):
            await span.render()
        if span.gave_up.ranges:
            raise ApplicationError(
                span.reasons[0].error if span.reasons else "chunks failed",
                span.report(),
                type=ErrorType.CHUNK_FAILED,
                non_retryable=True,
            )
        return span.report()


class _Span:
    """One attempt at a span."""

    def __init__(self, host: Host, control: JobControl, job: OpenJob, order: SpanOrder) -> None:
        self._host = host
        self._control = control
        self._job = job
        self._order = order
        self._before = _last_heartbeat() or Heartbeat(chunk=order.start, failures=order.failures)
        self.heartbeat = self._before
        self.gave_up = RangeSet(self._before.given_up)
        self.reasons = list(self._before.reasons)
        self._done = RangeSet()
        self._left_failures = 0
        self._rendered = 0
        self._seconds = 0.0

    async def render(self) -> None:
        for index in range(self._order.start, self._order.stop):
            if index in self.gave_up:
                continue
            attempt = self._attempt(index)
            sidecar = await attempt.published()
            if sidecar is None:
                if not await self._is_wanted():
                    self._left_failures = self._failures(index)
                    return
                sidecar = await self._try(index, attempt)
            if sidecar is not None:
                self._done.add(index, index + 1)
                self._rendered += 1
                self._seconds += sidecar.render_seconds
            elif self._job.job.on_chunk_failure is FailurePolicy.FAIL:
                return

    def report(self) -> SpanReport:
        return SpanReport(
            done=self._done.ranges,
            failed=self.gave_up.ranges,
            failures=tuple(self.reasons),
            left_failures=self._left_failures,
            rendered=self._rendered,
            render_seconds=round(self._seconds, 3),
        )

    async def _try(self, index: int, attempt: ChunkAttempt) -> Sidecar | None:
        """Return the sidecar, or None when the chunk has used up its tries."""
        chunk = self._job.chunks[index]
        failures = self._failures(index)
        self._beat(chunk, 0, failures)
        try:
            return await attempt.run(lambda frames: self._beat(chunk, min(frames, chunk.count), failures))
        except (AttemptError, BadJobError) as error:
            failures += 1
            sentence = f"chunk {index} (frames {chunk.start}-{chunk.stop - 1}): {error}"
            fatal = isinstance(error, BadJobError) or error.fatal
            if not fatal and failures < self._job.job.retry.attempts:
                self._beat(chunk, 0, failures)
                delay = timedelta(seconds=self._job.job.retry.delay_seconds(failures))
                _log.warning("job %s: %s; next try in %g s", self._order.ref.id, sentence, delay.total_seconds())
                raise ApplicationError(sentence, type=ErrorType.ATTEMPT_FAILED, next_retry_delay=delay) from error
            _log.error("job %s: %s; that was its last try", self._order.ref.id, sentence)
            self._give_up(chunk, failures, f"{error}", attempt)
            return None

    def _give_up(self, chunk: Chunk, failures: int, error: str, attempt: ChunkAttempt) -> None:
        self.gave_up.add(chunk.index, chunk.index + 1)
        if len(self.reasons) < _MOST_REASONS:
            self.reasons.append(
                ChunkFailure(
                    chunk=chunk.index,
                    start=chunk.start,
                    stop=chunk.stop,
                    attempts=failures,
                    error=error[:800],
                    host=self._host.name,
                    log=str(attempt.log),
                )
            )

    def _failures(self, index: int) -> int:
        return self._before.failures if index == self._before.chunk else 0

    def _beat(self, chunk: Chunk, frames_done: int, failures: int) -> None:
        self.heartbeat = Heartbeat(
            chunk=chunk.index,
            frames=chunk.count,
            frames_done=frames_done,
            attempt=failures + 1,
            failures=failures,
            given_up=self.gave_up.ranges,
            reasons=tuple(self.reasons),
            host=self._host.name,
        )

    def _attempt(self, index: int) -> ChunkAttempt:
        info = activity.info()
        name = f"{(info.workflow_run_id or '')[:8]}-{info.activity_id}-{info.attempt}"
        return ChunkAttempt(self._host, self._job, self._job.chunks[index], name)

    async def _is_wanted(self) -> bool:
        info = activity.info()
        return await self._control.read(info.workflow_id or "", info.workflow_run_id or "") is Control.RUN


def _last_heartbeat() -> Heartbeat | None:
    """Return what the attempt before this one said last; heartbeat details come without their type."""
    details = activity.info().heartbeat_details
    return Heartbeat.model_validate(details[0]) if details else None
