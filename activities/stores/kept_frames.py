"""Frames of an unfinished chunk, kept so that no later attempt renders them again."""

import logging
import os
import re
import secrets
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from activities.media.facts import MediaError
from activities.media.images.check import check_image
from activities.media.images.facts import ImageFacts, find_odd_ones
from activities.stores.job_folder import JobFolder, KeptBatch, KeptFrame, OpenJob
from longtake.chunks import Chunk
from longtake.stores.directory import file_digest
from longtake.stores.store import OversizedFileError, StoreError, map_parallel

_log = logging.getLogger(__name__)

# The width of a frame's number in the path of an output.
_FRAME_WIDTH = re.compile(r"(?<!\{)\{frame(?::0?(\d+))?\}")
# So many digits stand in two parts of a path for the same reason.
_LEAST_TELLING_DIGITS = 3
_NUMBER = re.compile(r"-?[0-9]{1,20}", re.ASCII)

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
        name: Name of a file that no output declares; then `frame` is the frame that it belongs to, counted from 0.
    """

    frame: int
    path: Path
    facts: ImageFacts
    signature: Signature
    name: str = ""


@dataclass
class KeptFiles:
    """The kept files of a chunk that are whole.

    Args:
        files: Files of outputs, by their numbers in the chunk.
        undeclared: Files that no output declares, by their frames, counted from 0, and names.
        others: Names of files that were seen and not kept, with the digests that those of no frame had.
        is_divisible: Whether frames of the chunk may come from several commands.
    """

    files: dict[int, Path] = field(default_factory=dict)
    undeclared: dict[int, dict[str, Path]] = field(default_factory=dict)
    others: dict[str, set[str]] = field(default_factory=dict)
    is_divisible: bool = True


class FrameNumbers:
    """The numbers in names of files that no output declares: which frame of a chunk a file belongs to.

    A name may hold other numbers, too: those of a version, a layer, a shot. Nearest to the end counts first, then
    those with as many digits as the outputs have. A file that may belong to several frames belongs to none.

    Args:
        job: The job.
        chunk: The chunk.
    """

    def __init__(self, job: OpenJob, chunk: Chunk) -> None:
        self._frames = {number: frame for frame, number in enumerate(chunk.frames)}
        paths = [template.path for template in chunk.templates]
        self._widths = {int(width or 1) for path in paths for width in _FRAME_WIDTH.findall(path)}
        names = {
            job.place_output(first)
            for path, first in zip(paths, chunk.first_outputs, strict=True)
            if "{frame" not in path.rpartition("/")[0]
        }
        homes = {name.rpartition("/")[0] for name in names}
        # The numbers in them are those of the chunk.
        self._homes = sorted((f"{home}/" for home in homes if home), key=len, reverse=True)

    def find_frame(self, name: str) -> tuple[int | None, str]:
        """Find the frame of a file.

        Returns:
            The frame, counted from 0, or None; and the name without its number, which files of one kind share.
        """
        home = next((home for home in self._homes if name.startswith(home)), "")
        rest = name.removeprefix(home)
        stem, dot, extension = rest.rpartition(".")
        # The digit of .mp4 is none of a frame's, unlike all of f.0004.
        is_extension = bool(dot) and "/" not in extension and not extension.isdecimal()
        path, end = (stem, dot + extension) if is_extension else (rest, "")
        parts = path.split("/")
        for index in reversed(range(len(parts))):
            found = [one for text in _NUMBER.findall(parts[index]) for one in self._list_values(text)]
            padded = [(value, text) for value, text in found if self._is_padded(value, text)]
            for candidates in (padded, found):
                if len({value for value, _ in candidates}) == 1:
                    value, text = candidates[0]
                    # In 0004/f_0004.exr both are the frame's; in v2/2.txt the folder is the same for all frames.
                    marked = range(len(parts)) if len(text) >= _LEAST_TELLING_DIGITS else (index,)
                    for place in marked:
                        parts[place] = re.sub(rf"(?<![0-9]){text}(?![0-9])", "#", parts[place])
                    return self._frames[value], home + "/".join(parts) + end
                if candidates:
                    return None, name
        return None, name

    def _list_values(self, text: str) -> list[tuple[int, str]]:
        """Return the frame numbers that a text stands for, each with its own part: a dash may be a minus or none."""
        digits = text.lstrip("-")
        values = {int(digits): digits, int(text): text}
        return [(value, part) for value, part in values.items() if value in self._frames]

    def _is_padded(self, value: int, text: str) -> bool:
        return any(text == f"{value:0{width}}" for width in self._widths)


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

    def keep(
        self, attempt: str, frames: Iterable[FinishedFrame], others: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Keep finished frames of an attempt; one that is written to meanwhile is left out.

        Args:
            attempt: Name of the attempt.
            frames: Their files.
            others: Files that no output declares and that are not kept, with digests of those that are of no frame.
        """
        token = secrets.token_hex(4)
        numbered = enumerate(frames)
        found = [(one, record) for at, one in numbered if (record := _record(one, attempt, token, at)) is not None]
        if not found and not others:
            return
        self._write(attempt, token, KeptBatch(frames=tuple(record for _, record in found), others=dict(others)))
        map_parallel(self._store, lambda one: self._put(*one), found)

    def forbid(self, attempt: str) -> None:
        """Remove all kept frames, and note that the chunk is rendered as a whole until it is published."""
        self.remove()
        self._write(attempt, secrets.token_hex(4), KeptBatch(frames=(), divisible=False))

    def _write(self, attempt: str, token: str, batch: KeptBatch) -> None:
        content = batch.model_dump_json(exclude_defaults=True).encode()
        self._store.create(f"{self.path}/{attempt}.{token}.json", content)

    def _put(self, frame: FinishedFrame, record: KeptFrame) -> None:
        # Gone: another attempt has published the chunk.
        with suppress(FileNotFoundError):
            self._store.put(frame.path, f"{self.path}/{record.file}", sha256=record.sha256)

    def verified_files(self, stop: threading.Event | None = None, *, count: int | None = None) -> KeptFiles:
        """Read all kept files, and return those that are whole.

        Files that are empty, cut, exchanged, unknown or of another size or kind than most are set aside. Of a frame of
        which a file that no output declares is lost, no file is returned.

        Args:
            stop: Ends it when it is set.
            count: How many files each output of the chunk has; those of different outputs may differ.
        """
        batches, names = self._read()
        found = KeptFiles(is_divisible=all(batch.divisible for batch in batches))
        for name, digest in chain.from_iterable(batch.others.items() for batch in batches):
            found.others.setdefault(name, set()).add(digest)
        records = [record for batch in batches for record in batch.frames]
        records.sort(key=lambda record: (record.frame, record.file))
        known = {record.file for record in records}
        for name in sorted(names - known):
            self._set_aside(name, "nothing is known of it")
        sound: dict[tuple[int, str], KeptFrame] = {}
        for record in records:
            if stop is not None and stop.is_set():
                break
            place = (record.frame, record.name)
            if place in sound or record.file not in names:
                continue
            if (problem := self._problem(record)) is None:
                sound[place] = record
            else:
                self._set_aside(record.file, problem)
        files = {number: record for (number, name), record in sound.items() if not name}
        found.files = {number: self._local(record) for number, record in self._alike(files, count).items()}
        for record in records:
            if record.name:
                found.undeclared.setdefault(record.frame, {})[record.name] = self._local(record)
        lost = {record.frame for record in records if record.name and (record.frame, record.name) not in sound}
        for frame in lost:
            del found.undeclared[frame]
            found.files = {number: path for number, path in found.files.items() if count and number % count != frame}
        return found

    def remove(self) -> None:
        """Remove all kept frames of the chunk."""
        self._store.remove_all(self.path)
        with suppress(OSError):
            self._store.local(self.path).parent.rmdir()

    def _read(self) -> tuple[list[KeptBatch], set[str]]:
        """Return all records, and the names of all other files."""
        batches: list[KeptBatch] = []
        names = set()
        for file in self._store.files(self.path):
            if not file.name.endswith(".json"):
                names.add(file.name)
                continue
            try:
                batches.append(KeptBatch.model_validate_json(self._store.read(file.location)))
            except (FileNotFoundError, ValidationError, OversizedFileError):
                self._set_aside(file.name, "it is no record")
        return batches, names

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


def _record(frame: FinishedFrame, attempt: str, token: str, number: int) -> KeptFrame | None:
    """Return what is to be known of a file; None if it has changed since it was looked into."""
    # Files that no output declares may be many of one frame, and end as records do.
    end = f".{number}.file" if frame.name else frame.path.suffix
    try:
        digest = file_digest(frame.path)
        if file_signature(frame.path.stat()) != frame.signature:
            return None
    except FileNotFoundError:
        return None
    return KeptFrame(
        frame=frame.frame,
        name=frame.name,
        file=f"{frame.frame:06}.{attempt}.{token}{end}",
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
    if record.name:
        # Looked into when it was kept, under its own name.
        return None
    try:
        facts = check_image(path)
    except MediaError as error:
        return error.problem
    if (facts.width, facts.height, facts.format) != (record.width, record.height, record.format):
        return "it is another picture than was written down"
    return None
