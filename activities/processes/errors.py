"""What can go wrong with processes, beside the renderer's own failing."""

from collections.abc import Sequence


class ProcessSurvivedError(Exception):
    """Processes are still there long after SIGKILL: they sleep uninterruptibly, until a disk or driver answers."""

    def __init__(self, pids: Sequence[int], seconds: float) -> None:
        self.pids = tuple(pids)
        super().__init__(f"processes {', '.join(map(str, pids))} are still there {seconds:g} s after SIGKILL")


class KeeperLostError(Exception):
    """The process that kept a render was killed; every process of the render is dead by now."""


class SupervisorError(Exception):
    """The process that starts renders cannot be started."""
