"""How the handing in of a job's inputs is shown: a bar on a terminal, one line at its end everywhere."""

import threading
from types import TracebackType
from typing import Self

from rich.progress import Progress, TaskID

from longtake.cli.formatting import plural, size
from longtake.cli.terminal import say, stderr
from longtake.cli.transfer import transfer_bar
from longtake.transfer.upload_inputs import HandingIn


class HandingInView:
    """Shows how far the handing in is; entered before it begins and left when it has ended."""

    def __init__(self) -> None:
        self._bar: Progress = transfer_bar(stderr())
        self._lock = threading.Lock()
        self._task: TaskID | None = None
        self._last: HandingIn | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._bar.stop()
        if kind is None and self._last is not None:
            say(_told(self._last))

    def tell(self, now: HandingIn) -> None:
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


def _told(end: HandingIn) -> str:
    all_of_them = f"{plural(end.files, 'input file')} ({size(end.size_bytes)})"
    if end.sent_files == 0:
        return f"{all_of_them} were in the store already"
    return f"{all_of_them} are in the store; {end.sent_files:,} of them ({size(end.sent_bytes)}) were sent"
