"""Files that a renderer wrote: links become the files they name, and files besides its outputs are set aside."""

import os
import secrets
import stat
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from activities.errors import AttemptError
from activities.stores.job_folder import JobFolder
from activities.stores.kept_frames import Signature, file_signature
from longtake.stores.directory import link_or_copy
from longtake.text import shorten_line

# Names of files in one sentence.
_MOST_NAMES = 2
_LONGEST_NAME = 60

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
                "renderer write the file itself to the path it is given",
                needs_change=True,
            )
        if stat.S_ISLNK(mode):
            _replace_link(file, real)
        elif not stat.S_ISREG(mode):
            raise _not_a_file(file, mode)


def sign_outputs(files: Sequence[Path], place: Path) -> tuple[Signature, ...]:
    """Replace links among outputs, and return the signatures by which only what is checked next is published.

    Returns:
        Nothing where an output is missing, which the check says better.

    Raises:
        AttemptError: An output leads out of the folder of the attempt, is no regular file, or vanishes meanwhile.
    """
    replace_links(files, place)
    if not all(map(os.path.lexists, files)):
        return ()
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
    sentence = f"{file.name} is {kind} and no regular file; let the renderer write a file there"
    return AttemptError(sentence, needs_change=True)


def find_other_files(place: Path, expected: Collection[Path]) -> list[Path]:
    """Return the files in the folder of an attempt that a renderer made besides its outputs, in order of their names.

    Hidden files are left out: renderers and this module write files by such names that are not finished.
    """
    found: list[Path] = []
    for folder, folders, names in os.walk(place):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(folder, name) for name in names if not name.startswith("."))
        found += [path for path in paths if path not in expected and stat.S_ISREG(os.lstat(path).st_mode)]
    return sorted(found)


def describe_files(files: Sequence[Path]) -> str:
    """Return the names of the first files and how many more there are."""
    names = ", ".join(shorten_line(file.name, _LONGEST_NAME) for file in files[:_MOST_NAMES])
    return names if len(files) <= _MOST_NAMES else f"{names} and {len(files) - _MOST_NAMES} more"


def set_files_aside(folder: JobFolder, key: str, place: Path, files: Iterable[Path]) -> None:
    """Move files that a renderer made besides its outputs to the `aside` folder of the job."""
    for file in files:
        name = f"{key}.{'.'.join(file.relative_to(place).parts)}"
        if folder.store.is_local:
            with suppress(FileNotFoundError):
                folder.set_aside(str(file), name)
            continue
        number = 0
        while not folder.store.put(file, f"{folder.aside_dir}/{name}.{number}"):
            number += 1
        file.unlink()
