"""The folders that the commands of bursts write to: made, used again for later chunks, checked and cleared away."""

import logging
import os
import stat
import threading
from contextlib import suppress
from typing import NamedTuple

from activities.stores.job_folder import JobFolder, Sidecar
from activities.stores.kept_frames import file_signature
from activities.stores.publish import clear_attempts, discard_attempt
from longtake.stores.directory import digest_stream
from longtake.stores.publications import PublishedFile
from longtake.stores.store import StoreError

_log = logging.getLogger(__name__)


class BurstPlace(NamedTuple):
    """The place of a chunk.

    Args:
        key: Key of the chunk.
        folders: Folders that are there for the chunk alone, outermost first.
        made: The only file that its command is to make, in the last of them.
    """

    key: str
    folders: tuple[str, ...]
    made: str


class BurstFolders:
    """The places of the chunks that one attempt at a span renders in bursts; a directory store's. All methods block.

    On a disk the folders of a chunk take longer than all else. So those of a finished chunk stay, empty, and are moved
    to where a later chunk needs them.

    Args:
        folder: The folder of the job.
        attempt: Name of the attempts at all of its chunks.
    """

    def __init__(self, folder: JobFolder, attempt: str) -> None:
        self._folder = folder
        self._attempt = attempt
        # Where attempts lie, also with all links followed.
        self._root = folder.attempts_root
        self._real_root = ""
        # Of a new folder.
        self._mode = 0
        # Keys of finished chunks whose places are empty, until no more burst needs one. Commits release places while
        # bursts take them.
        self._emptied: list[str] = []
        self._is_closed = False
        self._lock = threading.Lock()

    def open(self) -> None:
        """Make the folder of all places.

        Raises:
            OSError: It cannot be made.
        """
        os.makedirs(self._root, exist_ok=True)
        self._real_root = os.path.realpath(self._root)

    def locate(self, key: str, output: str) -> BurstPlace:
        """Return the place of a chunk with the one output that it has, by the path of that inside of a place."""
        folders = [self._folder.attempt_dir(key, self._attempt)]
        made = f"{folders[0]}/{output}"
        for name in output.split("/")[:-1]:
            folders.append(f"{folders[-1]}/{name}")
        return BurstPlace(key, tuple(folders), made)

    def make(self, place: BurstPlace) -> None:
        """Make a place, or move that of a finished chunk there.

        Raises:
            OSError: It cannot be made; nothing of it is left.
        """
        if not self._reuse(place):
            self._make_anew(place)

    def _make_anew(self, place: BurstPlace) -> None:
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(place.folders[0]))
        try:
            for folder in place.folders:
                os.mkdir(folder)
            self._mode = os.stat(place.folders[0]).st_mode
        except OSError:
            self.discard(place)
            raise

    def _reuse(self, place: BurstPlace) -> bool:
        """Move the place of a finished chunk here, if there is one whose folders are as they were."""
        before = self._take_emptied()
        if before is None:
            return False
        root = self._folder.attempts_dir(before)
        own = len(self._folder.attempts_dir(place.key))
        folders = [root + folder[own:] for folder in place.folders]
        expected = [[os.path.basename(folder)] for folder in folders] + [[]]
        try:
            is_clean = all(
                os.listdir(folder) == names for folder, names in zip([root, *folders], expected, strict=True)
            ) and all(os.lstat(folder).st_mode == self._mode for folder in folders)
            if is_clean:
                os.rename(root, self._folder.attempts_dir(place.key))
                return True
        except OSError as error:
            _log.debug("%s is not used again: %s", root, error)
        clear_attempts(self._folder, before)
        return False

    def _take_emptied(self) -> str | None:
        with suppress(IndexError):
            return self._emptied.pop()
        return None

    def prove(self, place: BurstPlace, target: str) -> PublishedFile | None:
        """Read the file that a command has made; None where it is not as it must be, or not alone.

        Args:
            place: The place.
            target: Where the file is published.

        Raises:
            StoreError: The store is away.
        """
        made = place.made
        try:
            # A pipe would be waited for.
            descriptor = os.open(made, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb", buffering=0) as file:
                before = os.fstat(descriptor)
                # The path with all links followed, of which there must be none.
                real = self._real_root + made[len(self._root) :]
                if not stat.S_ISREG(before.st_mode) or not before.st_size or _real_path(descriptor) != real:
                    return None
                digest = digest_stream(file)
            if file_signature(os.lstat(made)) != file_signature(before):
                return None
            if any(len(os.listdir(folder)) > 1 for folder in place.folders):
                return None
        except StoreError:
            raise
        except OSError:
            return None
        return PublishedFile(
            path=target,
            attempt_path=made,
            size_bytes=before.st_size,
            sha256=digest,
            modified_ns=before.st_mtime_ns,
        )

    def release(self, record: Sidecar) -> None:
        """Have the place of a chunk that is finished used again, or clear it away."""
        with self._lock:
            if not self._is_closed:
                with suppress(OSError):
                    os.unlink(record.files[0].attempt_path)
                    self._emptied.append(record.key)
                    return
        clear_attempts(self._folder, record.key)

    def discard(self, place: BurstPlace) -> None:
        """Remove a place that was not begun, or whose command nobody has seen end."""
        try:
            discard_attempt(self._folder, place.key, self._attempt)
        except OSError as error:
            # What is left goes with the chunk's other attempts, when it is published.
            _log.warning("what %s has left cannot be cleared away: %s", place.folders[0], error)

    def close(self) -> None:
        """Remove the places that no burst needs any more, and those that are released from now on at once.

        Raises:
            OSError: They cannot be removed.
        """
        with self._lock:
            self._is_closed = True
        while (key := self._take_emptied()) is not None:
            clear_attempts(self._folder, key)


def _real_path(descriptor: int) -> str:
    """Return the path of an open file, with all links followed; bursts are for Linux alone."""
    return os.readlink(f"/proc/self/fd/{descriptor}")
