"""What lost workers have left at work elsewhere: ended before a job says that it rests."""

from collections.abc import Callable, Sequence

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.stop_agents import StopActivities
    from longtake.models.messages import JobRef, StopAgentsOrder, StopAgentsReport
    from longtake.models.status import RemoteStop
    from longtake.ranges import RangeSet
    from workflows import options

# Each is a look into the store, and an order that is waited for.
_MOST_AT_ONCE = 500


class Leftovers:
    """Looks after chunks whose activities ended without a word of their agents, one activity at a time.

    Args:
        ref: The job.
        heard: Called with what became of agents that were told to stop.
    """

    def __init__(self, ref: JobRef, heard: Callable[[Sequence[RemoteStop]], None]) -> None:
        self._ref = ref
        self._heard = heard
        self._unsure = RangeSet()
        self._looking: workflow.ActivityHandle[StopAgentsReport] | None = None

    @property
    def idle(self) -> bool:
        """Whether there is nothing to be looked after."""
        return self._looking is None and not self._unsure

    def add(self, start: int, stop: int) -> None:
        """Look after the chunks `[start, stop)`: their agents are told to stop, if there are any."""
        self._unsure.add(start, stop)
        self._look()

    def forget(self) -> None:
        """Leave all of them to the attempts that come next, which join what is at work."""
        self._unsure = RangeSet()
        if self._looking is not None:
            self._looking.cancel()

    def _look(self) -> None:
        if self._looking is not None or not self._unsure:
            return
        chunks = RangeSet()
        while self._unsure and len(chunks) < _MOST_AT_ONCE:
            chunks.add(*self._unsure.take(_MOST_AT_ONCE - len(chunks)))
        self._looking = workflow.start_activity_method(
            StopActivities.stop_agents,
            StopAgentsOrder(ref=self._ref, chunks=chunks.ranges),
            **options.orchestration(),
        )
        self._looking.add_done_callback(self._looked)

    def _looked(self, handle: workflow.ActivityHandle[StopAgentsReport]) -> None:
        self._looking = None
        # Asked for in any case: an exception that nobody has seen is reported as lost.
        answered = not handle.cancelled() and handle.exception() is None
        self._look()
        self._heard(handle.result().stops if answered else ())
