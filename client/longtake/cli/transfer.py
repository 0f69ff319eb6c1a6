"""How work on many files is shown: a bar on a terminal, nothing elsewhere."""

import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from longtake.cli.terminal import stderr
from longtake.transfer.progress import Transfer


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
        self._bar = transfer_bar(stderr())
        self._task = self._bar.add_task(doing, total=None)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def tell(self, now: Transfer) -> None:
        """Take in how far it is, from any thread."""
        with self._lock:
            files = f"{self._doing} {now.done_files:,} of {now.files:,} files"
            self._bar.update(self._task, description=files, total=now.size_bytes or None, completed=now.done_bytes)
