"""Locks between processes of one host, and between the threads of each: given up when their process dies."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Between two looks at a lock that another has: it may be fetching gigabytes, and nobody says when it has done.
_LOOK_SECONDS = 0.05


@contextmanager
def locked(path: Path, stop: threading.Event | None = None) -> Iterator[None]:
    """Hold a lock while the block runs; its file is there only while somebody has it or waits for it.

    Args:
        path: The file.
        stop: Ends the wait for the lock when it is set.

    Raises:
        InterruptedError: The wait was ended.
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


def hold(folder: Path) -> int | None:
    """Return a descriptor that holds a lock on a folder until it is closed; None where another holds it."""
    with suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
    return None


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
