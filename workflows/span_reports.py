"""Read the report of a span from how its activity has ended, and add the reports up: time, cost, memory and stops."""

from collections.abc import Iterable

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from longtake.errors import ErrorType
    from longtake.models.continuation import SavedTotals
    from longtake.models.messages import ChunkBill, Heartbeat, SpanReport
    from longtake.models.status import ChunkFailure, JobMetrics, RemoteStop, RemoteStops
    from longtake.ranges import Range, RangeSet
    from workflows.chunk_states import Span
    from workflows.requests import read_result

# Chunks whose bills travel one by one to the next run of a job; see `JobContinuation`.
_MOST_SAVED = 2000

# A status that listed every stop of a large job would not fit a payload.
MOST_STOPS = 20


def read_span_report(
    handle: workflow.ActivityHandle[RawValue],
    span: Span,
    *,
    is_stopped: bool,
    last_heartbeat: Heartbeat | None,
) -> SpanReport:
    """Return the report of a span whose activity has ended, however it ended.

    Args:
        handle: The ended activity.
        span: The span as it was assigned.
        is_stopped: Whether the activity was told to stop.
        last_heartbeat: Last heartbeat of an activity that was cancelled while no worker had it; else None.

    Raises:
        BadResultError: The activity was completed by hand with a result that is no report.
    """
    error = None if handle.cancelled() else handle.exception()
    if handle.cancelled() or (error is not None and is_cancelled_exception(error)):
        return report_interrupted_span(span, last_heartbeat)
    if error is None:
        return read_result(SpanReport, handle.result())
    cause = error.cause if isinstance(error, ActivityError) and error.cause else error
    # Temporal does not retry an activity that was cancelled: a try that failed, or a worker that was lost before the
    # cancel reached it, ends the activity, and does not mean that a chunk has failed.
    if isinstance(cause, ApplicationError) and cause.details and (is_stopped or cause.type == ErrorType.CHUNK_FAILED):
        return read_result(SpanReport, cause.details[0])
    if is_stopped:
        return report_interrupted_span(span, last_heartbeat)
    # Somebody failed it by hand. Chunks of the span may be published: a film must not lack them, so that only the first
    # chunk counts as failed, and those after it are looked at again.
    reason = ChunkFailure(chunk=span.start, error=f"{cause}"[:800])
    return SpanReport(failed=((span.start, span.start + 1),), failures=(reason,))


def report_interrupted_span(span: Span, last_heartbeat: Heartbeat | None) -> SpanReport:
    """Return the report of a span that was stopped: chunks render in order, so that the last heartbeat tells all."""
    if last_heartbeat is None:
        return SpanReport(left_failures=span.tries.failures, left_losses=span.tries.losses)
    given_up = RangeSet(last_heartbeat.given_up)
    return SpanReport(
        done=given_up.gaps(span.start, last_heartbeat.chunk).ranges,
        failed=given_up.ranges,
        failures=last_heartbeat.reasons,
        left_failures=last_heartbeat.failures,
        left_losses=last_heartbeat.losses + (not last_heartbeat.ended and last_heartbeat.number > 0),
        rendered=last_heartbeat.rendered,
        render_seconds=last_heartbeat.render_seconds,
        billed_seconds=last_heartbeat.billed_seconds,
        cost_usd=last_heartbeat.cost_usd,
    )


class Totals:
    """Sums of the reports of a job's spans: time, cost, memory and stops.

    Attributes:
        stops: What became of the chunks that were stopped since the last resume.
    """

    def __init__(self, saved: SavedTotals | None = None) -> None:
        saved = saved or SavedTotals()
        self.stops = saved.stops
        self._sums = saved.sums
        # The latest bill of each chunk that is not published.
        self._open_bills = {bill.chunk: bill for bill in saved.open_bills}

    def save(self) -> SavedTotals:
        """Return the sums; bills beyond the first 2,000 count as those of published chunks."""
        kept: dict[int, ChunkBill] = {}
        others = Totals(SavedTotals(sums=self._sums))
        for number, (chunk, bill) in enumerate(self._open_bills.items()):
            (kept if number < _MOST_SAVED else others._open_bills)[chunk] = bill
        return SavedTotals(sums=others.metrics, stops=self.stops, open_bills=tuple(kept.values()))

    @property
    def metrics(self) -> JobMetrics:
        """The sums; a chunk that is not published counts with its latest bill."""
        seconds = sum(bill.seconds for bill in self._open_bills.values())
        usd = sum(bill.usd for bill in self._open_bills.values())
        return self._sums.model_copy(
            update={
                "billed_seconds": round(self._sums.billed_seconds + seconds, 3),
                "cost_usd": round(self._sums.cost_usd + usd, 9),
            }
        )

    def add_report(self, report: SpanReport) -> None:
        """Add the report of a span."""
        sums = self._sums
        self._sums = sums.model_copy(
            update={
                "render_seconds": sums.render_seconds + report.render_seconds,
                "cpu_seconds": round(sums.cpu_seconds + report.cpu_seconds, 3),
                "peak_memory_bytes": max(sums.peak_memory_bytes, report.peak_memory_bytes),
                "billed_seconds": sums.billed_seconds + report.billed_seconds,
                "cost_usd": sums.cost_usd + report.cost_usd,
            }
        )
        if self._open_bills:
            # The bill of a published chunk contains that of its tries before.
            for start, stop in report.done:
                for chunk in range(start, stop):
                    self._open_bills.pop(chunk, None)
        self._open_bills.update({bill.chunk: bill for bill in report.open_bills})
        if report.stops:
            self.stops = _add_stops(self.stops, report.stops)

    def add_saved(self, saved: SavedTotals, done: Iterable[Range]) -> None:
        """Add the sums of a batch.

        Args:
            saved: What its own totals have saved.
            done: Its published chunks, whose bills contain those of their tries before.
        """
        sums = saved.sums
        stops = saved.stops
        self.add_report(
            SpanReport(
                done=tuple(done),
                render_seconds=sums.render_seconds,
                cpu_seconds=sums.cpu_seconds,
                peak_memory_bytes=sums.peak_memory_bytes,
                billed_seconds=sums.billed_seconds,
                cost_usd=sums.cost_usd,
                open_bills=saved.open_bills,
            )
        )
        self.stops = self.stops.model_copy(
            update={
                "where": stops.where or self.stops.where,
                "confirmed": self.stops.confirmed + stops.confirmed,
                "slowest_seconds": max(self.stops.slowest_seconds, stops.slowest_seconds),
                "unconfirmed_count": self.stops.unconfirmed_count + stops.unconfirmed_count,
                "unconfirmed": (*self.stops.unconfirmed, *stops.unconfirmed)[:MOST_STOPS],
            }
        )

    def reset_stops(self) -> None:
        """Forget the stops, because the job goes on and renders the stopped chunks again."""
        self.stops = RemoteStops()


def _add_stops(stops: RemoteStops, more: Iterable[RemoteStop]) -> RemoteStops:
    more = tuple(more)
    unconfirmed = tuple(stop for stop in more if not stop.confirmed)
    seconds = [stop.seconds for stop in more if stop.confirmed]
    return RemoteStops(
        where=next((stop.where for stop in more if stop.where), stops.where),
        confirmed=stops.confirmed + len(seconds),
        slowest_seconds=round(max([stops.slowest_seconds, *seconds]), 3),
        unconfirmed_count=stops.unconfirmed_count + len(unconfirmed),
        unconfirmed=(*stops.unconfirmed, *unconfirmed)[:MOST_STOPS],
    )
