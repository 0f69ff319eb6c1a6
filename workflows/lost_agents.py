"""Stop remote agents that may still render chunks of a job whose activities have ended without a word of them."""

from collections.abc import Callable, Iterable
from functools import partial

from temporalio import workflow
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from longtake.models.messages import JobRef, SpanReport, StopAgentsOrder, StopAgentsReport
    from longtake.models.status import RemoteStop
    from longtake.names import STOP_AGENTS
    from longtake.ranges import RangeSet
    from workflows import options
    from workflows.chunk_states import Span
    from workflows.requests import find_result
    from workflows.span_reports import Totals

# Each is a look into the store, and perhaps a stop order whose confirmation is waited for.
_MOST_CHUNKS_AT_ONCE = 500

# What is to be settled in the workflow's main coroutine: see `SpanRunner.settle`.
OnEnded = Callable[[Callable[[], None]], None]


class LostAgents:
    """Stops agents that may still render, one activity at a time.

    An activity that is cut off while it waits for the confirmation of a stop is taken over by its own next attempt: the
    job is at rest when each agent has confirmed, or is named in the status as one that has not.

    Args:
        ref: The job.
        totals: Sums of the job, which count the stops.
        on_ended: Called when one of these activities has ended, with the call that settles it.
    """

    def __init__(self, ref: JobRef, totals: Totals, on_ended: OnEnded) -> None:
        self._ref = ref
        self._totals = totals
        self._on_ended = on_ended
        self._chunks = RangeSet()
        self._reported = RangeSet()
        self._batch = RangeSet()
        # Orders to stop in the store are told by their time from those of a pause before. Clocks that are apart cost a
        # count in the status, and no stop.
        self._since = workflow.now()
        self._activity: workflow.ActivityHandle[RawValue] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no agent of these chunks can be at work."""
        return self._activity is None and not self._chunks

    def stop_agents(self, span: Span, stops: Iterable[RemoteStop]) -> None:
        """Stop the agents of a span, if there are any, but those whose stop is reported already."""
        self._chunks.add(span.start, span.stop)
        for stop in stops:
            self._reported.add(stop.chunk, stop.chunk + 1)
        self._start_batch()

    def leave_running(self) -> None:
        """Let the agents render on: the next attempts of their chunks join them."""
        self._chunks, self._reported, self._batch = RangeSet(), RangeSet(), RangeSet()
        self._since = workflow.now()
        if self._activity is not None:
            self._activity.cancel()

    def _start_batch(self) -> None:
        if self._activity is not None or not self._chunks:
            return
        chunks = RangeSet()
        while self._chunks and len(chunks) < _MOST_CHUNKS_AT_ONCE:
            chunks.add(*self._chunks.take(_MOST_CHUNKS_AT_ONCE - len(chunks)))
        reported = RangeSet(part for low, high in chunks.ranges for part in self._reported.within(low, high).ranges)
        self._batch = chunks
        self._activity = workflow.start_activity(
            STOP_AGENTS,
            StopAgentsOrder(ref=self._ref, chunks=chunks.ranges, reported=reported.ranges, since=self._since),
            result_type=RawValue,
            summary="stop agents",
            **options.control_options(),
        )
        self._activity.add_done_callback(lambda handle: self._on_ended(partial(self._settle_batch, handle)))

    def _settle_batch(self, handle: workflow.ActivityHandle[RawValue]) -> None:
        chunks, self._activity = self._batch, None
        report = find_result(StopAgentsReport, handle)
        self._start_batch()
        if report is None:
            # Given up after errors, or ended by hand: agents may work on, and the status must say so.
            unknown = (RemoteStop(chunk=chunk) for chunk in chunks if chunk not in self._reported)
            report = StopAgentsReport(stops=tuple(unknown))
        self._totals.add_report(SpanReport(stops=report.stops))
