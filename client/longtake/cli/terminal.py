"""Write results to stdout and messages to stderr, without control characters of others, and show progress bars."""

import json
import sys
import threading
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from longtake.cli.formatting import format_bytes, format_count
from longtake.text import strip_controls
from longtake.transfer.progress import TransferProgress

# Files and pipes have no width: nothing is wrapped or cut for them.
_PIPE_WIDTH = 100_000


def one_line(text: str) -> str:
    """Return text of any shape as one clean line."""
    return strip_controls(" ".join(text.split()))


def shortened(text: str, most: int = 240) -> str:
    """Return a line cut in its middle: what went wrong stands at the beginning and at the end."""
    line = one_line(text)
    return line if len(line) <= most else f"{line[: most // 3]} ... {line[-(most - most // 3) :]}"


def stdout_console() -> Console:
    """Return the console for results."""
    return _make_console(stderr=False)


def stderr_console() -> Console:
    """Return the console for messages and progress."""
    return _make_console(stderr=True)


def print_message(text: str) -> None:
    """Write a message for a person, as one line."""
    stderr_console().print(Text(one_line(text)), soft_wrap=True)


def print_result(text: str) -> None:
    """Write a result as one line."""
    stdout_console().print(Text(one_line(text)), soft_wrap=True)


def print_table(what: RenderableType) -> None:
    """Write a table or the like as the result; in files and pipes its lines end where their text does."""
    console = stdout_console()
    if console.is_terminal:
        console.print(what)
        return
    with console.capture() as written:
        console.print(what)
    print("\n".join(line.rstrip() for line in written.get().splitlines()), file=sys.stdout, flush=True)


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Write a result as one JSON document; contract models anywhere in it are written as on the wire."""
    # Plain ASCII: control characters of others stay escaped, and any locale can write it.
    text = json.dumps(value, indent=indent, default=lambda model: model.model_dump(mode="json"))
    print(text, file=sys.stdout, flush=True)


def print_json_line(value: object) -> None:
    """Write a result as JSON on one line, for streams of them."""
    print_json(value, indent=None)


def _make_console(*, stderr: bool) -> Console:
    file = sys.stderr if stderr else sys.stdout
    width = None if file.isatty() else _PIPE_WIDTH
    return Console(file=file, width=width, markup=False, emoji=False, highlight=False)


def transfer_bar(console: Console) -> Progress:
    """Return a bar of bytes, to be started; it is gone when it is stopped."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class TransferView:
    """Shows how far the work is; entered before it begins and left when it has ended.

    Args:
        doing: What is done to the files.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._bar = transfer_bar(stderr_console())
        self._task = self._bar.add_task(doing, total=None)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def tell(self, now: TransferProgress) -> None:
        """Take in how far it is, from any thread."""
        with self._lock:
            files = f"{self._doing} {now.done_files:,} of {now.files:,} files"
            self._bar.update(self._task, description=files, total=now.size_bytes or None, completed=now.done_bytes)


class UploadView:
    """Shows how far the handing in is; entered before it begins and left when it has ended."""

    def __init__(self) -> None:
        self._bar: Progress = transfer_bar(stderr_console())
        self._lock = threading.Lock()
        self._task: TaskID | None = None
        self._last: TransferProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._bar.stop()
        if kind is None and self._last is not None:
            print_message(_describe_upload(self._last))

    def tell(self, now: TransferProgress) -> None:
        """Take in how far it is, from any thread."""
        with self._lock:
            self._last = now
            if not self._bar.console.is_terminal:
                return
            if self._task is None:
                # Each byte is read once, for its digest, and is then in the store or sent there.
                self._task = self._bar.add_task("inputs", total=2 * now.size_bytes)
                self._bar.start()
            self._bar.update(self._task, completed=now.read_bytes + now.done_bytes)


def _describe_upload(end: TransferProgress) -> str:
    all_of_them = f"{format_count(end.files, 'input file')} ({format_bytes(end.size_bytes)})"
    if end.sent_files == 0:
        return f"{all_of_them} were in the store already"
    return f"{all_of_them} are in the store; {end.sent_files:,} of them ({format_bytes(end.sent_bytes)}) were sent"
