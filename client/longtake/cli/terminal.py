"""Print results to stdout and messages to stderr, without control characters of others, and show transfers as bars."""

import json
import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.segment import Segment
from rich.text import Text

from longtake.cli.formatting import format_count
from longtake.text import flatten_text, format_bytes, strip_controls
from longtake.transfer.progress import TransferProgress

# Files and pipes have no width: nothing is wrapped or cut for them.
_PIPE_WIDTH = 100_000


class PlainConsole(Console):
    """A console whose texts control no terminal: all that the command line prints for people goes through one.

    Ids, names, paths and errors come from other people's jobs. Colours and movements are Rich's own.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render without the escape sequences and the control characters in texts."""
        for segment in super().render(renderable, options):
            if segment.control or (segment.text.isascii() and segment.text.isprintable()):
                yield segment
            else:
                text = "\n".join(map(strip_controls, segment.text.split("\n")))
                yield Segment(text, segment.style)


def stdout_console() -> Console:
    """Return the console for results."""
    return _make_console(stderr=False)


def stderr_console() -> Console:
    """Return the console for messages and progress."""
    return _make_console(stderr=True)


def print_result(text: str) -> None:
    """Print a result to stdout as one line."""
    stdout_console().print(Text(flatten_text(text)), soft_wrap=True)


def print_message(text: str) -> None:
    """Print a message for a person to stderr as one line."""
    stderr_console().print(Text(flatten_text(text)), soft_wrap=True)


def print_renderable(renderable: RenderableType) -> None:
    """Print a table or a styled text as the result; in files and pipes no line ends in spaces."""
    console = stdout_console()
    if console.is_terminal:
        console.print(renderable)
        return
    with console.capture() as captured:
        console.print(renderable)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()), file=sys.stdout, flush=True)


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print a result as one JSON document; contract models anywhere in it are written as on the wire."""
    # Plain ASCII: control characters of others stay escaped, and any locale can write it.
    text = json.dumps(value, indent=indent, default=lambda model: model.model_dump(mode="json"))
    print(text, file=sys.stdout, flush=True)


def print_json_line(value: object) -> None:
    """Print a result as JSON on one line, for streams of results."""
    print_json(value, indent=None)


def _make_console(*, stderr: bool) -> Console:
    file = sys.stderr if stderr else sys.stdout
    width = None if file.isatty() else _PIPE_WIDTH
    return PlainConsole(file=file, width=width, markup=False, emoji=False, highlight=False)


class TransferView:
    """Show the progress of a transfer as a bar on stderr, from entering the view until leaving it.

    Nothing is shown where stderr is no terminal.

    Args:
        verb: Names what happens to the files, as in `fetching`.
    """

    def __init__(self, verb: str) -> None:
        self._verb = verb
        console = stderr_console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(verb, total=None)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def on_progress(self, progress: TransferProgress) -> None:
        """Show the progress; may be called from any thread."""
        with self._lock:
            self._update(progress)

    def _update(self, progress: TransferProgress) -> None:
        files = f"{self._verb} {progress.done_files:,} of {progress.files:,} files"
        total, completed = progress.size_bytes or None, progress.done_bytes
        self._bar.update(self._task, description=files, total=total, completed=completed)


class UploadView(TransferView):
    """Show the upload of a job's inputs as a bar, and say when it has ended what was sent.

    Most jobs have no inputs to upload: the bar appears with the first progress.
    """

    def __init__(self) -> None:
        super().__init__("inputs")
        self._last: TransferProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._last is None:
            return
        super().__exit__(kind, error, trace)
        if kind is None:
            print_message(_describe_upload(self._last))

    def _update(self, progress: TransferProgress) -> None:
        self._last = progress
        # Each byte is read once, for its digest, and is then in the store or sent there.
        total, completed = 2 * progress.size_bytes, progress.read_bytes + progress.done_bytes
        self._bar.update(self._task, total=total, completed=completed)
        self._bar.start()


def _describe_upload(end: TransferProgress) -> str:
    inputs = f"{format_count(end.files, 'input file')} ({format_bytes(end.size_bytes)})"
    if end.sent_files == 0:
        return f"{inputs} were in the store already"
    return f"{inputs} are in the store; {end.sent_files:,} of them ({format_bytes(end.sent_bytes)}) were sent"
