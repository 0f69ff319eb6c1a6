"""How a job is shown while it is followed: a live picture, plain lines, or JSON lines."""

from types import TracebackType
from typing import Protocol, Self

from longtake.cli.formatting import asides, duration, plural, standing
from longtake.cli.happenings import Happenings
from longtake.cli.live import LiveView
from longtake.cli.terminal import answer_json_line, say, stderr
from longtake.models.status import JobStatus

# A line each 5 %: a log of a job that takes days stays readable.
_STEP_PERCENT = 5

_MOVING = {"frames_done": 0, "message": "", "cpu_seconds": 0.0, "memory_bytes": 0, "io_bytes": 0}


class View(Protocol):
    """Shows the looks at one job; entered before the first and left after the last."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, status: JobStatus) -> None:
        """Show a look at the job."""

    def note(self, text: str) -> None:
        """Show a message once, however often it is given in a row."""


def view_for(*, json: bool) -> View:
    """Return the view for where messages go: a terminal, or a log."""
    if json:
        return JsonView()
    console = stderr()
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else LineView()


class _WrittenView:
    """What views without a picture share: nothing to set up, and each note said once."""

    def __init__(self) -> None:
        self._noted = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def note(self, text: str) -> None:
        if text != self._noted:
            say(text)
        self._noted = text


class LineView(_WrittenView):
    """One plain line on stderr for each thing that happens."""

    def __init__(self) -> None:
        super().__init__()
        self._standing = ""
        self._step = 0
        self._happenings = Happenings()

    def show(self, status: JobStatus) -> None:
        self._noted = ""
        for line, _ in self._happenings.news(status):
            say(line)
        now, step = standing(status), int(status.progress // _STEP_PERCENT)
        if now != self._standing or step > self._step:
            self._standing, self._step = now, step
            say(f"{status.id} {now}: {self._progress(status)}")

    def _progress(self, status: JobStatus) -> str:
        parts = [f"{status.progress:.0f} %", f"{status.completed_frames:,} of {plural(status.total_frames, 'frame')}"]
        parts.append(f"{status.completed_chunks:,} of {plural(status.total_chunks, 'chunk')}")
        if status.failed_chunks:
            parts.append(f"{status.failed_chunks:,} failed")
        parts += asides(status)
        if status.eta_seconds:
            parts.append(f"{duration(status.eta_seconds)} to go")
        return ", ".join(parts)


class JsonView(_WrittenView):
    """One JSON object a line on stdout for each change."""

    def __init__(self) -> None:
        super().__init__()
        self._last: JobStatus | None = None

    def show(self, status: JobStatus) -> None:
        # Times, partial frames and measurements move all the while; they travel along with real changes.
        running = tuple(chunk.model_copy(update=_MOVING) for chunk in status.running)
        essence = status.model_copy(update={"running": running, "updated_at": None, "eta_seconds": None})
        if essence != self._last:
            self._last = essence
            answer_json_line(status)
