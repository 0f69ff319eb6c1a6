"""Ownership of the files of attempts, where renders have an account of their own (`LONGTAKE_RENDER_USER`)."""

import logging
import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from activities.errors import AttemptError
from longtake.render_user import RenderUser

_log = logging.getLogger(__name__)

# Outputs lie less deep; a renderer may make folders without end.
_DEEPEST = 100

# Access lists of files and folders (acl(5)). One that a render sets outlives a change of owner and mode.
_ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")


def grant_folders(folders: Iterable[Path], user: RenderUser) -> None:
    """Let a render write into folders of its attempt: give them and all folders in them to its account.

    Files in them stay the worker's: inputs are second names of files that other renders read too.

    Raises:
        AttemptError: The account may not enter a folder above, or folders cannot be given away here.
    """
    # A merge command that makes no film has no folder of its own.
    for folder in filter(Path.is_dir, folders):
        check_reach(folder, user)
        try:
            # From below: the account can change nothing before it has the topmost folder.
            for _, _, _, descriptor in os.fwalk(folder, topdown=False):
                os.fchown(descriptor, user.uid, user.gid)
        except OSError as error:
            raise AttemptError(
                f"{folder} cannot be given to {user.name}, the account of renders ({error.strerror}); let the file "
                "system change owners there, or leave LONGTAKE_RENDER_USER out",
                another_host=True,
            ) from error


def check_reach(path: Path, user: RenderUser, what: str = "") -> None:
    """Raise unless the account of renders may enter all folders above a path.

    Raises:
        AttemptError: It may not; the sentence has the fix.
    """
    for parent in reversed(path.parents):
        if not user.may_enter(os.stat(parent)):
            raise AttemptError(
                f"{user.name}, the account of renders, may not enter {parent}{what}; `chmod o+x {parent}` lets it",
                another_host=True,
            )


def reclaim_folders(folders: Iterable[Path], user: RenderUser) -> None:
    """Take back folders with all that a render has left in them; never fails.

    Before anything in them is checked: other renders of that account could still write to it.
    """
    for folder in folders:
        try:
            _reclaim_below(folder, user)
        except OSError as error:
            _log.warning("%s cannot be taken back from %s whole: %s", folder, user.name, error)


def reclaim_file(descriptor: int) -> None:
    """Make an open file the worker's own, so that no render can write to what is published."""
    status = os.fstat(descriptor)
    if status.st_uid == os.geteuid():
        return
    # Without the right to, as on a share that maps all accounts to one, it stays as it is.
    with suppress(PermissionError):
        _take(descriptor, status)


def _reclaim_below(folder: Path, user: RenderUser) -> None:
    with suppress(FileNotFoundError):
        descriptor = _open_folder(folder)
        try:
            _reclaim_folder(descriptor, user, _DEEPEST)
        finally:
            os.close(descriptor)


def _reclaim_folder(folder: int, user: RenderUser, deeper: int) -> None:
    """Take back an open folder, then what is in it: in what was taken back the account can exchange no name."""
    status = os.fstat(folder)
    if status.st_uid == user.uid:
        _take(folder, status)
    for name in os.listdir(folder):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode) and deeper:
            child = _open_folder(name, folder)
            try:
                _reclaim_folder(child, user, deeper - 1)
            finally:
                os.close(child)
        elif found.st_uid == user.uid:
            os.chown(name, os.geteuid(), os.getegid(), dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
                try:
                    _take(file, found)
                finally:
                    os.close(file)


def _take(descriptor: int, status: os.stat_result) -> None:
    """Make an open file or folder the worker's own, whatever its account has granted to itself."""
    os.fchown(descriptor, os.geteuid(), os.getegid())
    if sys.platform == "linux":
        for access_list in _ACCESS_LISTS:
            # Most have none, and some file systems know none.
            with suppress(OSError):
                os.removexattr(descriptor, access_list)
    os.fchmod(descriptor, _own_mode(status))


def _open_folder(path: Path | str, parent: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)


def _own_mode(status: os.stat_result) -> int:
    """Return the mode of what was taken back: the worker's to read and write, and not everybody's to write."""
    mode = stat.S_IMODE(status.st_mode) & ~0o002
    return mode | 0o700 if stat.S_ISDIR(status.st_mode) else mode & ~0o6000 | 0o600
