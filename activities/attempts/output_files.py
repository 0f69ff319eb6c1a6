"""Files that a renderer wrote: links become the files they name, and files besides its outputs are set aside."""

import heapq
import logging
import os
import secrets
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path

from activities.errors import AttemptError
from activities.processes.child import BoundedLog
from activities.stores.job_folder import JobFolder, OpenJob
from activities.stores.kept_frames import FrameNumbers, Signature, file_signature
from longtake.chunks import Chunk
from longtake.paths import has_control_characters
from longtake.stores.directory import link_or_copy
from longtake.templates import compile_glob
from longtake.text import shorten_line

_log = logging.getLogger(__name__)

# What a job keeps of files that nobody has asked for, and of one try.
_MOST_FILES = 2_000
_MOST_BYTES = 4 << 30
_MOST_FILES_OF_TRY = 500

# Each of them becomes part of the record of its chunk.
_MOST_UNDECLARED = 10_000

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


def find_other_files(place: Path, expected: Collection[Path]) -> Iterator[Path]:
    """Yield the files in the folder of an attempt that a renderer made besides its outputs.

    Hidden files are left out: renderers and this module write files by such names that are not finished. So are the
    caches that Python leaves beside scripts.

    Args:
        place: The folder.
        expected: Files and folders to leave out.
    """
    for folder, folders, names in os.walk(place):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and name != "__pycache__" and Path(folder, name) not in expected
        ]
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") or path in expected:
                continue
            # What a renderer left running is gone by now, and what it removed at its end, too.
            with suppress(FileNotFoundError):
                if stat.S_ISREG(os.lstat(path).st_mode):
                    yield path


class UndeclaredFiles:
    """The files of a chunk that no output declares and that `also` names.

    Args:
        job: The job.
        chunk: The chunk.
    """

    def __init__(self, job: OpenJob, chunk: Chunk) -> None:
        values: dict[str, int | str] = {**chunk.placeholder_values}
        for output in reversed(chunk.place_outputs(job.place_output)):
            folder = output.marked.rpartition("/")[0]
            values |= {"output_dir": folder, **{f"output_dir.{name}": folder for name in output.names}}
        self._patterns = [compile_glob(pattern, values) for pattern in job.job.also]
        self._numbers = FrameNumbers(job, chunk)

    def find(self, root: Path, expected: Collection[Path]) -> dict[str, Path]:
        """Find the files below a folder that a command was given, by their paths there.

        Args:
            root: The folder.
            expected: Files and folders to leave out.

        Raises:
            AttemptError: There are too many to be kept in a record.
        """
        found: dict[str, Path] = {}
        for file in find_other_files(root, expected):
            name = str(file.relative_to(root))
            if any(pattern.fullmatch(name) for pattern in self._patterns) and not has_control_characters(name):
                found[name] = file
                if len(found) > _MOST_UNDECLARED:
                    raise AttemptError(
                        f"also: names more than {_MOST_UNDECLARED:,} files of one chunk; narrow it, name them in "
                        "outputs, or make chunks shorter",
                        needs_change=True,
                    )
        return dict(sorted(found.items()))

    def find_frame(self, name: str) -> tuple[int | None, str]:
        """Find the frame of a file and its kind; see `FrameNumbers`."""
        return self._numbers.find_frame(name)


class OtherFiles:
    """The files that a renderer made besides its outputs: moved to a folder of the job's, and named.

    Bounded by number and bytes: a renderer may write a million, and nobody has asked for them.

    Args:
        folder: The job's.
        key: Key of the chunk or the film.
        place: The attempt's own folder on this host.
        log: Location of the attempt's log.
    """

    def __init__(self, folder: JobFolder, key: str, place: Path, log: str) -> None:
        self._folder = folder
        self._key = key
        self._place = place
        self._log = log
        self._working: Path | None = None
        # What was there before the renderer began, with its inodes: a file that was replaced has another.
        self._laid_out: dict[Path, int] = {}
        # The first of them by name, with the names that people know them by, and how many there are.
        self._files: dict[Path, str] | None = None
        self._count = 0
        self._home = ""
        self._is_blamed = False
        self._sentence = ""

    def watch(self, working: Path) -> None:
        """Look for files in a working folder, too, that come to be there from now on: it is removed with the attempt.

        Args:
            working: The folder that the renderer starts in, with its inputs.
        """
        self._working = working
        self._laid_out = {file: os.lstat(file).st_ino for file in find_other_files(working, ())}

    def note(self, expected: Collection[Path], roots: Collection[Path] = (), fix: str = "") -> str:
        """Set the files aside, say so in the log and return the sentence; empty where there are none. Safe to repeat.

        Args:
            expected: Files and folders that are left out: outputs, and what no renderer made.
            roots: Folders in that of the attempt that commands were given; names are told as below them, and those of
                files beside the outputs alone.
            fix: What has them published.

        Raises:
            StoreError: The store is away.
        """
        said = self._set_aside(expected, roots)
        if said and not self._sentence:
            self._sentence = f"the renderer made files besides its outputs: {said}{fix}"
            log = BoundedLog(str(self._folder.store.local(self._log)))
            log.write(memoryview(f"longtake: {self._sentence}\n".encode(errors="replace")))
            log.close()
        return self._sentence

    def blame(self, error: AttemptError, expected: Collection[Path], roots: Collection[Path] = ()) -> None:
        """Set the files of a failed try aside, and name them in its error, once."""
        if self._is_blamed:
            return
        self._is_blamed = True
        try:
            said = self._set_aside(expected, roots)
        except OSError as away:
            # The try has failed already, and why says more.
            _log.warning("%s: files besides the outputs cannot be kept: %s", self._place, away)
            return
        if said:
            error.add_sentence(f"the renderer wrote {said}")

    @property
    def names(self) -> list[str]:
        """Names of the first files among those that were found, without their folders."""
        return [file.name for file in self._files or ()]

    def has_kind(self, suffix: str) -> bool:
        """Tell whether there are files of this extension among those that were found."""
        return any(file.suffix == suffix for file in self._files or ())

    def _set_aside(self, expected: Collection[Path], roots: Collection[Path]) -> str:
        """Move the files; return the names of some, how many more there are, and where they are kept."""
        if self._files is None:
            self._files = self._find(expected, roots)
        if not self._files:
            return ""
        names = [
            shorten_line(name.removeprefix(self._home), _LONGEST_NAME)
            for name in list(self._files.values())[:_MOST_NAMES]
        ]
        more = self._count - len(names)
        shown = ", ".join(names) + (f" and {more} more" if more else "")
        kept = 0
        files_left, bytes_left = self._measure_room()
        for file, name in self._files.items():
            size_bytes = _size(file)
            if size_bytes is None:
                # Moved by a try of this before the store was away.
                kept += 1
            elif files_left > 0 and size_bytes <= bytes_left:
                self._move(file, name)
                kept, files_left, bytes_left = kept + 1, files_left - 1, bytes_left - size_bytes
        where = self._folder.others_dir
        if kept == self._count:
            return f"{shown}, kept in {where}"
        return f"{shown}, of which {kept} are kept: {where} takes no more"

    def _find(self, expected: Collection[Path], roots: Collection[Path]) -> dict[Path, str]:
        def count_files() -> Iterator[Path]:
            for file in chain(find_other_files(self._place, expected), self._find_new_files()):
                self._count += 1
                yield file

        first = heapq.nsmallest(_MOST_FILES_OF_TRY, count_files())

        def relate(path: Path) -> str:
            if self._working is not None and path.is_relative_to(self._working):
                return f"./{path.relative_to(self._working)}"
            return str(path.relative_to(next(each for each in (*roots, self._place) if path.is_relative_to(each))))

        # Beside the outputs their names alone tell enough, unless each output has a folder of its own.
        homes = {relate(folder) for folder in {file.parent for file in expected}}
        home = homes.pop() if len(homes) == 1 else "."
        self._home = "" if home == "." else f"{home}/"
        return {file: relate(file) for file in first}

    def _find_new_files(self) -> Iterator[Path]:
        """Yield the files in the working folder that were not laid out."""
        if self._working is not None:
            for file in find_other_files(self._working, ()):
                with suppress(FileNotFoundError):
                    if os.lstat(file).st_ino != self._laid_out.get(file):
                        yield file

    def _measure_room(self) -> tuple[int, int]:
        """Return how many files and bytes the folder still takes."""
        there = list(self._folder.store.files(self._folder.others_dir))
        return _MOST_FILES - len(there), _MOST_BYTES - sum(file.size_bytes for file in there)

    def _move(self, file: Path, name: str) -> None:
        store = self._folder.store
        aside = f"{self._folder.others_dir}/{self._key}.{name.removeprefix('./').replace('/', '.')}"
        # In a directory by its name alone, in a bucket by an upload.
        put = partial(store.move, str(file)) if store.is_local else partial(store.put, file)
        with suppress(FileNotFoundError):
            number = 0
            while not put(f"{aside}.{number}"):
                number += 1
            if not store.is_local:
                file.unlink()


def _size(file: Path) -> int | None:
    try:
        return os.lstat(file).st_size
    except FileNotFoundError:
        return None
