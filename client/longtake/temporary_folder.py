"""Keep files that nobody needs after the process: its folder goes with it, however it ends."""

import os
import shutil
import tempfile
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType


class TemporaryFolder:
    """A folder below the system's for temporary files, which this account alone may use.

    It is removed by `close`, at the end of the block, or when the interpreter ends. What a killed process leaves is
    removed by the next one that makes a folder for the same purpose.

    Args:
        purpose: Word in its name, `longtake-PURPOSE-...`.
    """

    def __init__(self, purpose: str) -> None:
        prefix = f"longtake-{purpose}-"
        if os.name == "posix":
            _sweep(prefix)
            while (made := _make(prefix)) is None:
                pass
            self.path, lock = made
        else:
            # Windows has no locks of folders; what a killed process leaves there is its user's to remove.
            self.path, lock = Path(tempfile.mkdtemp(prefix=prefix)), None
        self.close = weakref.finalize(self, _remove, self.path, lock)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _make(prefix: str) -> tuple[Path, int] | None:
    """Make a folder and lock it; None where a sweep has come between the two."""
    path = Path(tempfile.mkdtemp(prefix=prefix))
    lock = lock_folder(path)
    return None if lock is None else (path, lock)


def lock_folder(path: Path) -> int | None:
    """Lock a folder; return a descriptor that holds the lock until it is closed, or None where another holds it.

    The kernel gives the lock of a killed process back. A number of a process in the name would not do: in another
    container that shares the folder the number is another's, or nobody's.

    Args:
        path: The folder; None is returned where it is gone, too.

    Raises:
        OSError: It is no folder, or its file system has no locks.
    """
    import fcntl  # noqa: PLC0415  # not on Windows, where commands run too

    with suppress(FileNotFoundError, BlockingIOError), ExitStack() as opened:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        opened.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Removed since it was opened, it has no name any more.
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            opened.pop_all()
            return descriptor
    return None


def _sweep(prefix: str) -> None:
    """Remove what killed processes of this account have left."""
    with os.scandir(tempfile.gettempdir()) as entries:
        left = [Path(entry.path) for entry in entries if entry.name.startswith(prefix)]
    for path in left:
        with suppress(OSError):
            if path.lstat().st_uid == os.getuid() and (lock := lock_folder(path)) is not None:
                _remove(path, lock)


def _remove(path: Path, lock: int | None) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if lock is not None:
        os.close(lock)
