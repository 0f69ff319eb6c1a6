"""Progress as the number of files that a renderer has finished."""

import os
from pathlib import Path

from longtake.paced import Paced

# Counting 100,000 files takes some 50 ms, as often as progress is asked for a fifth of a core.
_SHARE_OF_A_CORE = 0.02


class FileCount:
    """Counts the files in a folder and below; the newest is taken to be still in the making.

    Args:
        folder: Where finished files appear; it may not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._counting = Paced(lambda: _files_in(str(folder)), share=_SHARE_OF_A_CORE)
        self._counted = 0

    def finished(self) -> int:
        """Return how many files are finished; of a large folder, as of a few seconds ago."""
        counted = self._counting.now()
        self._counted = self._counted if counted is None else counted
        return max(0, self._counted - 1)


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
