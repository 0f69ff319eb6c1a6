"""Check the kind of files that a renderer wrote: a link becomes the file it names, what is no file is refused."""

import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from activities.errors import AttemptError
from activities.stores.kept_frames import Signature, file_signature
from longtake.stores.directory import link_or_copy

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def replace_links(files: Iterable[Path], place: Path) -> None:
    """Replace outputs that are symbolic links by the files they name; outputs that are missing are left out.

    Published as a link, an output would be gone as soon as the folder of its attempt is removed.

    Args:
        files: The outputs of a renderer that has ended.
        place: The folder of the attempt.

    Raises:
        AttemptError: An output leads out of the folder of the attempt, or is no regular file.
    """
    root = Path(os.path.realpath(place))
    for file in files:
        try:
            mode = os.lstat(file).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        real = Path(os.path.realpath(file))
        if not real.is_relative_to(root):
            raise AttemptError(
                f"{file.name} leads by a symbolic link to {real}, outside of the attempt's own folder; let the "
                "renderer write the file itself to the path it is given"
            )
        if stat.S_ISLNK(mode):
            _replace_link(file, real)
        elif not stat.S_ISREG(mode):
            raise _not_a_file(file, mode)


def sign_outputs(files: Iterable[Path]) -> tuple[Signature, ...]:
    """Return the signatures of outputs before their check, so that only what was checked is published.

    Raises:
        AttemptError: An output is missing.
    """
    signatures = []
    for file in files:
        try:
            signatures.append(file_signature(os.lstat(file)))
        except FileNotFoundError as error:
            raise AttemptError(f"{file.name} is missing: it was removed while it was checked") from error
    return tuple(signatures)


def _replace_link(link: Path, real: Path) -> None:
    try:
        mode = os.lstat(real).st_mode
    except FileNotFoundError as error:
        raise AttemptError(f"{link.name} is a symbolic link to {real}, and there is no such file") from error
    if not stat.S_ISREG(mode):
        raise _not_a_file(link, mode)
    copy = link.with_name(f".{link.name}.{secrets.token_hex(8)}.partial")
    try:
        # Of the file and not of the link's own name: Linux would make a second link.
        link_or_copy(real, copy)
        os.replace(copy, link)
    finally:
        with suppress(FileNotFoundError):
            copy.unlink()


def _not_a_file(file: Path, mode: int) -> AttemptError:
    kind = _KINDS.get(stat.S_IFMT(mode), "no file")
    return AttemptError(f"{file.name} is {kind} and no regular file; let the renderer write a file there")
