"""Progress as the number of files that a renderer has finished."""

import os
import time
from collections.abc import Callable
from pathlib import Path

# Counting may take this share of one core, however many files there are. 100,000 files take some 40 ms to count.
_MOST_OF_A_CORE = 0.02
# Below this it is not worth waiting: four looks a second are within the share.
_CHEAP_SECONDS = 0.004


class FileCount:
    """Counts the files in a folder and below; the newest is taken to be still in the making.

    Args:
        folder: Where finished files appear; it may not be there yet.
        clock: Seconds that never go back.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._finished = 0
        self._again_at = 0.0

    def finished(self) -> int:
        """Return how many files are finished; of a large folder, as of a few seconds ago."""
        began = self._clock()
        if began >= self._again_at:
            self._finished = max(0, _files_in(str(self._folder)) - 1)
            took = self._clock() - began
            self._again_at = began + (took / _MOST_OF_A_CORE if took > _CHEAP_SECONDS else 0.0)
        return self._finished


def _files_in(root: str) -> int:
    """Count without looking into the files: what kind an entry is comes with the listing."""
    count, folders = 0, [root]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        count += 1
        except OSError:
            # Not there yet, or taken away by the renderer.
            continue
    return count
