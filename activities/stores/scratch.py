"""What killed workers have left where this host works for buckets."""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from longtake.paths import BOOKKEEPING_FOLDER

_log = logging.getLogger(__name__)

# Where the cache of inputs lies in the scratch folder.
INPUTS_FOLDER = "inputs"

# A render may write nothing for days, and another worker of this host may be at it.
_OLD_SECONDS = 14 * 24 * 3600.0


def clear_scratch(scratch: Path, *, older_than_seconds: float = _OLD_SECONDS) -> int:
    """Remove what was not written to for so long; return how many folders of attempts and files of logs that were.

    Younger ones stay: the next attempt at their chunk on this host takes finished frames from them.
    """
    limit = time.time() - older_than_seconds
    old = [path for path in _leftovers(scratch) if _written_at(path) < limit]
    for path in old:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if old:
        _log.info("removed %d leftovers of killed workers from %s", len(old), scratch)
    return len(old)


def _leftovers(scratch: Path) -> Iterator[Path]:
    """Return the folders of attempts, and the logs; fetched inputs are their cache's own business."""
    buckets = (place for place in scratch.glob("*") if place.name != INPUTS_FOLDER)
    for bookkeeping in (found for bucket in buckets for found in bucket.rglob(BOOKKEEPING_FOLDER)):
        yield from bookkeeping.glob("*/attempts/*/*")
        yield from bookkeeping.glob("*/frames/*")
        yield from bookkeeping.glob("*/logs/*")


def _written_at(path: Path) -> float:
    """Return when anything in a folder was written last."""
    newest = 0.0
    for place, _, names in os.walk(path):
        for each in (place, *(os.path.join(place, name) for name in names)):
            try:
                newest = max(newest, os.stat(each).st_mtime)
            except FileNotFoundError:
                # Somebody is at work there.
                return time.time()
    return newest or path.lstat().st_mtime
