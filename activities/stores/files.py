"""Files that appear whole or not at all, and only once."""

import errno
import os
import secrets
import shutil
from pathlib import Path


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


def link_new(source: Path, target: Path) -> bool:
    """Give a complete file its final name unless that is taken; return whether it was free.

    A hard link either appears whole or fails with EEXIST, on local disks and on NFS alike, which a rename, that
    replaces, does not.
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
    _sync_folder(target.parent)
    return True


def _copy_new(source: Path, target: Path) -> bool:
    """Do the same from another file system: copy beside the target first."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}.partial")
    try:
        shutil.copyfile(source, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        return link_new(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut, as the file's own fsync does not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
