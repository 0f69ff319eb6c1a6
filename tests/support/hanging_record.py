"""A record of a store that takes until the end of a test to read."""

import os
from contextlib import suppress
from pathlib import Path


class HangingRecord:
    """A pipe in place of a record of the store: to read it takes until the test ends it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
        self._writer: int | None = None

    @property
    def is_read(self) -> bool:
        """Whether a thread hangs here."""
        if self._writer is None:
            with suppress(OSError):
                # Kept open, because the reader would come to an end when it is closed.
                self._writer = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        return self._writer is not None

    def end(self) -> None:
        """Let all threads that hang here go on."""
        ended = self.path.rename(self.path.with_name("ended"))
        os.close(os.open(ended, os.O_RDWR) if self._writer is None else self._writer)
