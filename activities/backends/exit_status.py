"""How a render came to its end, and what is known of it then."""

import signal
from dataclasses import dataclass, field

from activities.backends.movement import Movement
from activities.processes.usage import Usage
from activities.progress.reader import Reading


@dataclass(frozen=True)
class Ending:
    """The end of one render.

    Args:
        code: Its exit code, minus the signal if one ended it; None when it was stopped.
        stopped_for: Why it was stopped, with the evidence; empty when its outputs were whole.
        reading: What it said last of its progress.
    """

    code: int | None = None
    stopped_for: str = ""
    reading: Reading = field(default_factory=Reading)

    @property
    def has_failed(self) -> bool:
        """Whether the try has failed, unless a rule of the job says otherwise."""
        return self.code not in (0, None) or bool(self.stopped_for) or self.reading.fatal is not None

    def told_of(self, program: str, usage: Usage) -> str:
        """Return what happened, in words that begin with the program."""
        if self.stopped_for:
            return f"{program} {self.stopped_for}"
        if self.code == -signal.SIGKILL:
            peak = f" (this render had up to {in_bytes(usage.peak_memory_bytes)})" if usage.peak_memory_bytes else ""
            how = f"was ended by a SIGKILL that Longtake did not send; the system may have run out of memory{peak}"
        elif self.code is None:
            how = "made its outputs"
        elif self.code < 0:
            how = f"was ended by {_signal_name(-self.code)}"
        else:
            how = f"exited with code {self.code}"
        return f"{program} {how}" if self.reading.fatal is None else f"{program} {how}, and said that it had failed"


def course(reading: Reading, frames: int, movement: Movement, usage: Usage, now: float) -> str:
    """Return what is known of a render that is stopped, as evidence for an error.

    Args:
        reading: How far it says it is.
        frames: How many frames it has to render; 0 when it renders none.
        movement: What it did.
        usage: What it has used.
        now: By the clock of the render.
    """
    far = f"{reading.frames_done} of {frames} frames done, " if frames else ""
    return (
        f"{far}no progress or output for {movement.silent_seconds(now):.1f} s; CPU time {usage.cpu_seconds:.1f} s and "
        f"I/O {in_bytes(usage.io_bytes)} in all, {movement.cpu_seconds:.2f} s and {in_bytes(movement.io_bytes)} of it "
        f"in the last {movement.still_seconds(now):.1f} s; processes: {usage.processes}"
    )


def in_bytes(count: float) -> str:
    """Return an amount of bytes as people read it."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
