"""Decide when a run of a job has no room for more, and goes on in a new one whose history is empty.

Pure: counts of events in, decisions out.
"""

# Of each workflow of a job, whatever happens. Temporal suggests a new run at 4,096 events and terminates one at 51,200.
MOST_EVENTS = 4000

# A span costs its three events and at most one workflow task of three more; one that runs has all but the first ahead.
EVENTS_A_SPAN = 6
_EVENTS_OF_RUNNING = 5

# No span is started that would not fit below this: the rest is for pauses, updates and the end of the job.
_FULL = 3300

# What one that is ended still costs at most: that it is asked to, besides.
_EVENTS_OF_ENDED = 6

# If all that runs were ended, below that: from here on the job goes on in a new run as soon as it can; from here on
# updates are refused until it has.
_DRAIN = 3700
_REFUSE = 3750

# Signals cannot be refused: what runs is ended, and rendered again. The rest is for its end, which may take a while.
_STOP = 3900

# A job that is at rest anyway goes on in a new run from here on: that costs ten events and loses nothing.
_WORTHWHILE = 1000


class HistoryBudget:
    """The room in the history of one run.

    Attributes:
        is_bounded: Whether it counts; False for jobs that began when runs did not hand over.
        is_closing: Whether no more spans are started, and those that run are asked to come back at their next chunk.
    """

    def __init__(self) -> None:
        self.is_bounded = False
        self.is_closing = False
        self._events = 0
        self._running = 0

    def count(self, events: int, running: int, *, has_more: bool = False, is_suggested: bool = False) -> None:
        """Take up how long the history is.

        Args:
            events: Events so far.
            running: Activities that run.
            has_more: Whether spans are to be started.
            is_suggested: Whether Temporal suggests a new run.
        """
        if not self.is_bounded:
            return
        self._events, self._running = events, running
        full = has_more and self.spans_left < 1
        self.is_closing = self.is_closing or full or is_suggested or self._needed_to_end > _DRAIN

    @property
    def spans_left(self) -> int:
        """How many spans may be started; 0 where the run is closing."""
        if not self.is_bounded:
            return MOST_EVENTS
        return 0 if self.is_closing else max(0, (_FULL - self._needed) // EVENTS_A_SPAN)

    @property
    def must_stop(self) -> bool:
        """Whether what runs has no time to come to its end."""
        return self._needed_to_end > _STOP

    @property
    def may_continue(self) -> bool:
        """Whether a job of which nothing runs goes on in a new run."""
        return self.is_closing or self._events > _WORTHWHILE

    @property
    def _needed(self) -> int:
        return self._events + _EVENTS_OF_RUNNING * self._running

    @property
    def _needed_to_end(self) -> int:
        return self._events + _EVENTS_OF_ENDED * self._running

    def check_room(self, events: int, running: int) -> None:
        """Refuse a request that can be made again where there is no room for it; a refusal is not in the history.

        Args:
            events: Events so far.
            running: Activities that run.

        Raises:
            ValueError: There is no room until running chunks have ended.
        """
        if self.is_bounded and events + _EVENTS_OF_ENDED * running > _REFUSE:
            raise ValueError(
                "the history of this run is full, and the job goes on in a new one when its running chunks have ended; "
                "ask again in a moment"
            )
