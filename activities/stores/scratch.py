"""Scratch folder of a host that works for buckets: removal of old files, and file locks."""

import fcntl
import logging
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from longtake.errors import LongtakeError
from longtake.paths import BOOKKEEPING_FOLDER

_log = logging.getLogger(__name__)

# Where the cache of inputs lies in the scratch folder.
INPUTS_FOLDER = "inputs"

# A render may write nothing for days, and another worker of this host may be at it.
_OLD_SECONDS = 14 * 24 * 3600.0

# Between two looks at a lock that another has: it may be fetching gigabytes, and nobody says when it has done.
_LOOK_SECONDS = 0.05


def open_scratch(scratch: Path, *, readers: int | None = None) -> Path:
    """Make the scratch folder, which this account alone may use, and return it.

    Its default name in `/tmp` can be guessed. Whoever makes the folder first, or may write to it, chooses what renders
    read: a planted file was rendered as a job's scene.

    Args:
        scratch: The folder.
        readers: Group of the account of renders, which may reach files in it by their names; None where it is ours.

    Raises:
        LongtakeError: The folder is a link, of another account, or others may write to it.
    """
    scratch.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        scratch.mkdir(mode=0o700)
    found = scratch.lstat()
    problem = ""
    if stat.S_ISLNK(found.st_mode):
        problem = "is a symbolic link"
    elif not stat.S_ISDIR(found.st_mode):
        problem = "is no folder"
    elif found.st_uid != os.getuid():
        problem = f"belongs to the account {found.st_uid}, and not to {os.getuid()}"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = f"has the mode {stat.S_IMODE(found.st_mode):04o}, so that others may write to it"
    if problem:
        raise LongtakeError(f"LONGTAKE_SCRATCH: {scratch} {problem}; remove it, or name a folder of this account alone")
    if readers is not None:
        os.chown(scratch, -1, readers)
    scratch.chmod(0o700 if readers is None else 0o710)
    return scratch


def clear_scratch(scratch: Path, *, older_than_seconds: float = _OLD_SECONDS) -> int:
    """Remove old folders of attempts and old logs of buckets; return how many were removed.

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
    """Yield the folders of attempts and the logs; the cache of inputs removes its own files."""
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


@contextmanager
def file_lock(path: Path, stop: threading.Event | None = None) -> Iterator[None]:
    """Hold a lock while the block runs; its file is there only while somebody has it or waits for it.

    Args:
        path: The file.
        stop: Ends the wait for the lock when it is set.

    Raises:
        InterruptedError: `stop` was set.
    """
    stop = stop or threading.Event()
    while (descriptor := _try(path)) is None:
        if stop.wait(_LOOK_SECONDS):
            raise InterruptedError(f"told to stop while waiting for {path}")
    try:
        yield
    finally:
        # Removed while it is held: who has opened it meanwhile finds that it is not the file of this name any more.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _try(path: Path) -> int | None:
    """Return a descriptor that holds the lock, or None where another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None
