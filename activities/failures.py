"""What goes wrong with the work itself, before the activity edge turns it into Temporal's errors."""


class AttemptError(Exception):
    """One try of a chunk or a stitch went wrong.

    Args:
        sentence: What happened, with the lines of the log that matter.
        fatal: Whether another try is pointless.
    """

    def __init__(self, sentence: str, *, fatal: bool = False) -> None:
        super().__init__(sentence)
        self.fatal = fatal


class StoreNotSharedError(Exception):
    """This worker does not see the job's folder: the store is not shared with it."""


class RefusedError(Exception):
    """The published files are not what the job needs; trying again changes nothing."""
