"""What goes wrong with the work itself, before the activity edge turns it into Temporal's errors."""


class AttemptError(Exception):
    """One try of a chunk or a stitch went wrong.

    Args:
        sentence: What happened, with the lines of the log that matter.
        fatal: Whether another try is pointless.
        wait_seconds: How long to wait before the next one, where a rule of the job says so.
        another_host: Whether the next one should be made on another host.
        suspect: Whether what it said of itself makes even sound outputs worthless.
    """

    def __init__(
        self,
        sentence: str,
        *,
        fatal: bool = False,
        wait_seconds: float | None = None,
        another_host: bool = False,
        suspect: bool = False,
    ) -> None:
        super().__init__(sentence)
        self.fatal = fatal
        self.wait_seconds = wait_seconds
        self.another_host = another_host
        self.suspect = suspect


class AttemptLostError(Exception):
    """A try ended through no fault of its renderer and does not count: what kept it was killed, or Temporal is away."""


class ThrottledError(Exception):
    """A service that renders has no room now; nothing was begun, and the try does not count.

    Args:
        sentence: What it answered.
        wait_seconds: How long it asks to wait; None where it does not say.
    """

    def __init__(self, sentence: str, *, wait_seconds: float | None = None) -> None:
        super().__init__(sentence)
        self.wait_seconds = wait_seconds


class StoreNotSharedError(Exception):
    """This worker does not see the job's folder: the store is not shared with it."""


class RefusedError(Exception):
    """The published files are not what the job needs; trying again changes nothing."""
