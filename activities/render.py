"""The activity `render_span`: render the chunks of a span."""

import asyncio
import logging
from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError, FailureError

from activities.activity_context import ActivityTry, activity_edge, open_job, send_heartbeats
from activities.attempts.attempt import MakeAttempt
from activities.attempts.host import Host
from activities.attempts.span_attempt import RetryError, SpanAttempt
from activities.errors import AttemptLostError, describe_unexpected
from activities.job_watch import JobWatches, OtherHosts
from activities.stores.job_folder import OpenJob
from longtake.errors import ErrorType
from longtake.models.messages import Heartbeat, SpanOrder, SpanReport
from longtake.names import RENDER_SPAN

_log = logging.getLogger(__name__)

# A worker that has just lost Temporal may lose it again as fast.
_RETRY_DELAY_AFTER_LOSS = timedelta(seconds=1)


class RenderActivities:
    """The activity that renders chunks, on this worker or by a service.

    Args:
        host: This worker's host.
        make_attempt: Makes the attempt at a chunk.
        watches: The jobs that have work here.
        others: Hosts that could take a chunk that fails here; None where the host makes no difference.
    """

    def __init__(self, host: Host, make_attempt: MakeAttempt, watches: JobWatches, others: OtherHosts | None) -> None:
        self._host = host
        self._make_attempt = make_attempt
        self._watches = watches
        self._others = others

    @activity.defn(name=RENDER_SPAN)
    async def render_span(self, order: SpanOrder) -> SpanReport:
        """Render the chunks of a span one after the other and report which are published.

        Chunks that are published already are not touched. Before the first chunk the job is asked whether it still
        wants it; before later ones the answer may be a second old. A failed try ends the attempt: the next one goes on
        at this chunk, after the wait that the job's retry policy says. A cancel stops all processes before it is
        confirmed, and asks what runs elsewhere to stop; what was published until then, and what became of that order,
        is reported all the same.

        Raises:
            ApplicationError: `AttemptFailed`, `AnotherHost`, `Throttled` and `AttemptLost`, retried; `ChunkFailed`,
                when tries are used up. Each has a `SpanReport` in its details.
        """
        async with activity_edge(first_heartbeat(order)) as this:
            async with send_heartbeats(lambda: this.heartbeat):
                job = await open_job(order.ref, self._host)
            return await self._render(job, order, this)

    async def _render(self, job: OpenJob, order: SpanOrder, this: ActivityTry) -> SpanReport:
        span = SpanAttempt(
            self._host,
            self._make_attempt,
            self._others,
            job,
            order,
            this.heartbeat,
            is_after_loss=this.is_after_loss,
        )
        progress = span.progress
        try:
            async with (
                self._watches.watch() as watch,
                send_heartbeats(
                    lambda: progress.heartbeat,
                    running=lambda: watch.orders.running,
                    orders=lambda: watch.orders.ends_work,
                ),
            ):
                try:
                    await span.render(watch)
                finally:
                    this.heartbeat = progress.heartbeat
        except RetryError as error:
            _log.warning("job %s: %s; next try in %g s", order.ref.id, error, error.wait_seconds)
            # A delay of zero would mean none was given, and the waits for lost workers would apply.
            wait = max(timedelta(seconds=error.wait_seconds), timedelta(milliseconds=1))
            raise ApplicationError(
                str(error), progress.report_of_try(), type=error.type, next_retry_delay=wait
            ) from error
        except AttemptLostError as error:
            # Temporal was away, or the watch of the job was.
            raise ApplicationError(
                str(error),
                progress.report_of_try(),
                type=ErrorType.ATTEMPT_LOST,
                next_retry_delay=_RETRY_DELAY_AFTER_LOSS,
            ) from error
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            # Only a cancel by the workflow takes an answer: paused, reset and released attempts are given out again,
            # and go on from their last heartbeat.
            if details is None or not details.cancel_requested or not progress.has_news:
                raise
        except Exception as error:
            if isinstance(error, OSError | FailureError) or this.may_fail_again:
                raise
            # Told here, it blames the chunk at hand: the workflow knows only where the span begins.
            _log.exception("job %s: an unexpected error, for the last time", order.ref.id)
            span.give_up_chunk(describe_unexpected(error))
        if progress.gave_up.ranges:
            raise ApplicationError(
                progress.reasons[0].error if progress.reasons else "chunks failed",
                progress.report(),
                type=ErrorType.CHUNK_FAILED,
                non_retryable=True,
            )
        return progress.report()


def first_heartbeat(order: SpanOrder) -> Heartbeat:
    """Return the heartbeat of a span that no attempt has begun."""
    return Heartbeat(chunk=order.start, failures=order.failures, losses=order.losses)
