"""Frames of an unfinished chunk, kept so that no later attempt renders them again."""

import logging
import os
import secrets
import threading
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from activities.media.facts import MediaError
from activities.media.images.check import check_image
from activities.media.images.facts import ImageFacts, find_odd_ones
from activities.stores.job_folder import JobFolder, KeptBatch, KeptFrame
from longtake.stores.directory import file_digest
from longtake.stores.store import OversizedFileError, StoreError, map_parallel

_log = logging.getLogger(__name__)

# Inode, size and time of a file: it was not written to while they stay.
Signature = tuple[int, int, int]


@dataclass(frozen=True)
class FinishedFrame:
    """An image file that its renderer has finished.

    Args:
        frame: Which file of the chunk it is, counted from 0; all frames of one output come first.
        path: The file.
        facts: What was found in it.
        signature: Signature of the file from before the file was read.
    """

    frame: int
    path: Path
    facts: ImageFacts
    signature: Signature


def file_signature(status: os.stat_result) -> Signature:
    """Return the signature of a file, which changes when the file is written to."""
    return status.st_ino, status.st_size, status.st_mtime_ns


class KeptFrames:
    """The kept frames of one chunk, by all of its attempts.

    ```
    frames/<chunk>/<attempt>.<number>.json   what was verified together: size, digest, picture
                   <frame>.<attempt>.<token>.png   a second name of the attempt's own file
    ```

    Nothing is trusted because it exists: files are read again, and those that are not what was written down of them
    are set aside. Records are written before files appear, so that a crash between the two leaves no file unknown.
    """

    def __init__(self, folder: JobFolder, key: str) -> None:
        self._folder = folder
        self._store = folder.store
        self._key = key
        self.path = folder.frames_dir(key)

    def keep(self, attempt: str, frames: Iterable[FinishedFrame]) -> None:
        """Keep finished frames of an attempt; one that is written to meanwhile is left out."""
        token = secrets.token_hex(4)
        found = [(frame, record) for frame in frames if (record := _record(frame, attempt, token)) is not None]
        if not found:
            return
        batch = KeptBatch(frames=tuple(record for _, record in found))
        self._store.create(f"{self.path}/{attempt}.{token}.json", batch.model_dump_json().encode())
        map_parallel(self._store, lambda one: self._put(*one), found)

    def _put(self, frame: FinishedFrame, record: KeptFrame) -> None:
        # Gone: another attempt has published the chunk.
        with suppress(FileNotFoundError):
            self._store.put(frame.path, f"{self.path}/{record.file}", sha256=record.sha256)

    def verified_files(self, stop: threading.Event | None = None, *, count: int | None = None) -> dict[int, Path]:
        """Read all kept files, and return those that are whole, by their numbers.

        Files that are empty, cut, exchanged, unknown or of another size or kind than most are set aside.

        Args:
            stop: Ends it when it is set.
            count: How many files each output of the chunk has; those of different outputs may differ.
        """
        records, names = self._read()
        known = {record.file for record in records}
        for name in sorted(names - known):
            self._set_aside(name, "nothing is known of it")
        sound: dict[int, KeptFrame] = {}
        for record in records:
            if stop is not None and stop.is_set():
                break
            if record.frame in sound or record.file not in names:
                continue
            if (problem := self._problem(record)) is None:
                sound[record.frame] = record
            else:
                self._set_aside(record.file, problem)
        return {frame: self._local(record) for frame, record in self._alike(sound, count).items()}

    def remove(self) -> None:
        """Remove all kept frames of the chunk."""
        self._store.remove_all(self.path)
        with suppress(OSError):
            self._store.local(self.path).parent.rmdir()

    def _read(self) -> tuple[list[KeptFrame], set[str]]:
        """Return all records in the order of frames, and the names of all other files."""
        records: list[KeptFrame] = []
        names = set()
        for file in self._store.files(self.path):
            if not file.name.endswith(".json"):
                names.add(file.name)
                continue
            try:
                records += KeptBatch.model_validate_json(self._store.read(file.location)).frames
            except (FileNotFoundError, ValidationError, OversizedFileError):
                self._set_aside(file.name, "it is no record")
        return sorted(records, key=lambda record: (record.frame, record.file)), names

    def _local(self, record: KeptFrame) -> Path:
        return self._store.local(f"{self.path}/{record.file}")

    def _problem(self, record: KeptFrame) -> str | None:
        """Return what is wrong with a kept file, if anything is."""
        location = f"{self.path}/{record.file}"
        try:
            known = self._store.stat(location)
            if known is not None and known.size_bytes != record.size_bytes:
                return f"it has {known.size_bytes} bytes instead of {record.size_bytes}"
            return _problem(self._store.download(location, self._local(record), sha256=record.sha256), record)
        except StoreError as error:
            if error.is_temporary:
                raise
            return error.sentence
        except OSError as error:
            return error.strerror or "it cannot be read"

    def _alike(self, sound: dict[int, KeptFrame], count: int | None) -> dict[int, KeptFrame]:
        """Return the frames that have the size and kind of most: hosts may differ, a sequence must not."""
        outputs: defaultdict[int, dict[int, ImageFacts]] = defaultdict(dict)
        for frame, record in sound.items():
            outputs[frame // count if count else 0][frame] = record.facts
        for facts in outputs.values():
            for frame, problem in find_odd_ones(facts).items():
                self._set_aside(sound.pop(frame).file, f"it {problem}, as most have")
        return sound

    def _set_aside(self, name: str, why: str) -> None:
        # Another attempt of this chunk may have done so, or published the chunk.
        with suppress(FileNotFoundError):
            place = self._folder.set_aside(f"{self.path}/{name}", f"{self._key}.{name}")
            _log.warning("job %s: %s is no kept frame, %s: moved to %s", self._folder.job_id, name, why, place)


def _record(frame: FinishedFrame, attempt: str, token: str) -> KeptFrame | None:
    """Return what is to be known of a file; None if it has changed since it was looked into."""
    try:
        digest = file_digest(frame.path)
        if file_signature(frame.path.stat()) != frame.signature:
            return None
    except FileNotFoundError:
        return None
    return KeptFrame(
        frame=frame.frame,
        file=f"{frame.frame:06}.{attempt}.{token}{frame.path.suffix}",
        attempt=attempt,
        size_bytes=frame.signature[1],
        sha256=digest,
        width=frame.facts.width,
        height=frame.facts.height,
        format=frame.facts.format,
        channels=frame.facts.channels,
        depth=frame.facts.depth,
        colour=frame.facts.colour,
    )


def _problem(path: Path, record: KeptFrame) -> str | None:
    """Return what is wrong with the content of a kept file, if anything is."""
    if file_digest(path) != record.sha256:
        return "its content is another"
    try:
        facts = check_image(path)
    except MediaError as error:
        return error.problem
    if (facts.width, facts.height, facts.format) != (record.width, record.height, record.format):
        return "it is another picture than was written down"
    return None
