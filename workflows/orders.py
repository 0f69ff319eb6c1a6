"""What operators want of a job: pure, so that any order of their requests can be tested."""

from longtake.names import Control
from longtake.requests import PauseMode


class Orders:
    """The pause in force, if there is one; requests may come at any time, in any order and twice."""

    def __init__(self) -> None:
        self.pause_mode: PauseMode | None = None
        self._freezes = 0

    @property
    def paused(self) -> bool:
        """Whether nothing new may start."""
        return self.pause_mode is not None

    @property
    def freeze(self) -> int:
        """Number of the freeze in force, by which answers to an earlier one are told apart; 0 when there is none."""
        return self._freezes if self.pause_mode is PauseMode.FREEZE else 0

    @property
    def control(self) -> Control:
        """What workers are told."""
        if self.pause_mode is None:
            return Control.RUN
        return Control.FREEZE if self.freeze else Control.DRAIN

    def pause(self, mode: PauseMode) -> None:
        """Pause, or harden the pause in force; a softer request changes nothing."""
        if self.pause_mode is None or mode.is_harder_than(self.pause_mode):
            self.pause_mode = mode
            self._freezes += mode is PauseMode.FREEZE

    def resume(self) -> None:
        """Take back the pause."""
        self.pause_mode = None
