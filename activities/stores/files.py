"""Files that appear whole or not at all, and only once."""

import errno
import os
import secrets
import shutil
from pathlib import Path

# No hard link can be had here: another file system, one that knows none, or a file with too many of them.
_UNLINKABLE = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def write_new(path: Path, content: bytes) -> bool:
    """Make a file with this content unless it exists; return whether it was made here."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return link_new(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def link_new(source: Path, target: Path, *, sync: bool = True) -> bool:
    """Give a complete file its final name unless that is taken; return whether it was free.

    A hard link either appears whole or fails with EEXIST, on local disks and on NFS alike, which a rename, that
    replaces, does not.

    Args:
        source: The file.
        target: Its final name.
        sync: Whether the name must survive a power cut; who gives many names syncs their folders once, after all.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _copy_new(source, target)
    if sync:
        sync_folder(target.parent)
    return True


def lend(source: Path, target: Path) -> bool:
    """Give a file a second name, or a copy where no link can be had; return whether the name was free.

    A copy may be torn by a crash: for files that are checked against a digest before they are used.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _UNLINKABLE:
            raise
        with source.open("rb") as readable, target.open("xb") as writable:
            shutil.copyfileobj(readable, writable, 1 << 20)
    return True


def sync_folder(folder: Path) -> None:
    """Make new names survive a power cut, as the files' own fsync does not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_new(source: Path, target: Path) -> bool:
    """Do the same from another file system: copy beside the target first."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}.partial")
    try:
        shutil.copyfile(source, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        # Its time is how a file that was changed after it was published is told.
        known = source.stat()
        os.utime(partial, ns=(known.st_atime_ns, known.st_mtime_ns))
        return link_new(partial, target)
    finally:
        partial.unlink(missing_ok=True)
