"""Between a render and its job: what the one does, and what the other wants of it."""

import math
from collections.abc import Callable

from activities.backends.backend import Progress
from activities.job_watch import JobWatch

# Somebody else renders the same already: what obeys SIGTERM may clean up, the rest must go.
_GRACE_WHEN_CUT_OFF = 2.0


class Watcher:
    """Passes progress on, and orders back; see `RenderWatcher`.

    Args:
        watch: The job.
        hear: Called with how far the render is.
        hear_frozen: Called with the number of a freeze that was carried out; None where nothing can be frozen.
    """

    def __init__(
        self, watch: JobWatch, hear: Callable[[Progress], None], hear_frozen: Callable[[int], None] | None = None
    ) -> None:
        self._watch = watch
        self._hear = hear
        self._hear_frozen = hear_frozen

    @property
    def freeze_order(self) -> int:
        """Number of the freeze that the render must obey now; 0 when it may run."""
        return self._watch.orders.freeze if self._hear_frozen else 0

    @property
    def most_grace_seconds(self) -> float:
        """How long the end of the render may take at most."""
        return _GRACE_WHEN_CUT_OFF if self._watch.is_cut_off() else math.inf

    def frozen(self, order: int) -> None:
        """Hear that no process of the render runs, by this order; or with 0, that they run again."""
        if self._hear_frozen:
            self._hear_frozen(order)

    def progress(self, progress: Progress) -> None:
        """Hear how far the render is."""
        self._hear(progress)
