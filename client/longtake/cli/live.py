"""The live picture of a job on a terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from longtake.cli.happenings import Happenings
from longtake.cli.pace import Pace
from longtake.cli.picture import headline, overall, running_table
from longtake.cli.terminal import one_line
from longtake.models.status import JobStatus

# More rows than this are no picture any more.
_MOST_ROWS = 20

# Lines of the picture beside the rows of the table, and one for the prompt.
_OTHER_LINES = 8


class LiveView:
    """A picture that is drawn again and again at the foot of the terminal; failures scroll by above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: JobStatus | None = None
        self._pace = Pace()
        self._happenings = Happenings()
        self._noted = ""
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def note(self, text: str) -> None:
        if text != self._noted:
            self._console.print(Text(one_line(text), style="yellow"))
        self._noted = text

    def show(self, status: JobStatus) -> None:
        self._noted = ""
        for line, for_good in self._happenings.news(status):
            self._console.print(Text(line, style="red" if for_good else "yellow"))
        self._pace.look(status)
        self._status = status

    def _picture(self) -> RenderableType:
        status = self._status
        if status is None:
            return Text("looking ...", style="dim")
        parts: list[RenderableType] = [headline(status), *overall(status, self._pace)]
        if status.running and not status.state.ended:
            rows = max(1, min(_MOST_ROWS, self._console.height - _OTHER_LINES))
            parts += [Text(""), running_table(status.running, rows, width=self._console.width)]
        # The ^C that a terminal echoes lands on this line; on a full one it would wrap and shift the picture.
        parts.append(Text(""))
        return Group(*parts)
