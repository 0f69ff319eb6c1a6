"""The memory of this process, watched while something goes on."""

import threading
from types import TracebackType

import psutil

_LOOK_SECONDS = 0.02


class Memory:
    """How much this process grew at most, in a `with` block."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._most = 0
        self._before = 0

    def __enter__(self) -> "Memory":
        self._most = self._before = self._process.memory_info().rss
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watcher.join()

    @property
    def growth_bytes(self) -> int:
        """How much more it held at most than at the beginning of the block."""
        return self._most - self._before

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self._most = max(self._most, self._process.memory_info().rss)
