"""Several commands of one attempt, told as the progress of one."""

from dataclasses import replace

from activities.backends.backend import Progress, RenderWatcher
from activities.processes.usage import Usage


class RunWatcher:
    """Passes on what one command of an attempt does, with what was done before it; see `RenderWatcher`.

    Args:
        watcher: Whoever waits for the attempt.
        before: Frames that were there when the command began.
        count: Frames that it renders.
        used: What earlier commands of the attempt used.
    """

    def __init__(self, watcher: RenderWatcher, *, before: int, count: int, used: Usage) -> None:
        self._watcher = watcher
        self._before = before
        self._count = count
        self._used = used

    @property
    def freeze_order(self) -> int:
        """Number of the freeze that the command must obey now; 0 when it may run."""
        return self._watcher.freeze_order

    @property
    def most_grace_seconds(self) -> float:
        """How long the end of the command may take at most."""
        return self._watcher.most_grace_seconds

    def frozen(self, order: int) -> None:
        """Hear that no process of the command runs, by this order; or with 0, that they run again."""
        self._watcher.frozen(order)

    def progress(self, progress: Progress) -> None:
        """Hear how far the command is."""
        done = self._before + min(progress.frames_done, self._count)
        self._watcher.progress(replace(progress, frames_done=done, usage=self._used + progress.usage))
