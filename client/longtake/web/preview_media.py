"""Make what a growing preview is played from: fragmented MP4 of finished chunks, kept in a bounded folder."""

import json
import math
import os
import shutil
import struct
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from longtake.chunks import ChunkPlan
from longtake.descriptor_process import MOST_FILES, DescriptorProcess, ProcessFailedError
from longtake.models.job import RenderJobSpec
from longtake.models.status import JobState, JobStatus
from longtake.paths import OutputKind
from longtake.ranges import RangeSet
from longtake.stores.job_layout import chunk_key
from longtake.stores.job_records import JobRecords
from longtake.stores.publications import PublishedFile, path_in_store
from longtake.stores.store import map_parallel
from longtake.stores.stored_file import OutsideError, open_stored
from longtake.web import preview_main
from longtake.web.problems import ProblemError

# Segments are about this long, but no chunk of video is cut.
_SEGMENT_SECONDS = 2
MOST_SEGMENTS = 5_000
# Longest side of a small copy.
_SMALL = 640

# Requests that are made at once, and how long the next one waits for its turn.
_MOST_AT_ONCE = 2
_PATIENCE_SECONDS = 60.0
# Longer than the CPU time of one request, at the lowest priority.
_MOST_SECONDS = 300.0
_MOST_KEPT_BYTES = 1 << 30
_MOST_FILMS = 100


@dataclass(frozen=True)
class PreviewSegment:
    """A piece of a preview: frames of a chunk, or of several that follow each other.

    Args:
        chunk: Its first chunk.
        skip: Frames of that chunk that come before.
        frames: How many frames it has.
        at: Frames of the preview that come before.
    """

    chunk: int
    skip: int
    frames: int
    at: int


@dataclass(frozen=True)
class PreviewFragment:
    """Fragmented MP4 of a piece of a film.

    Args:
        init: The init segment.
        media: The fragment; its time begins at 0.
        tick: Duration of a frame, in ticks of its clock.
    """

    init: bytes
    media: bytes
    tick: int

    def begin_at(self, frames: int) -> bytes:
        """Return the fragment as it stands in a preview behind so many frames."""
        media = bytearray(self.media)
        # ISO 14496-12, sections 8.8.5 and 8.8.12.
        struct.pack_into(">I", media, media.index(b"mfhd") + 8, frames + 1)
        place = media.index(b"tfdt") + 4
        struct.pack_into(">Q" if media[place] else ">I", media, place + 4, frames * self.tick)
        return bytes(media)


class PreviewFilm:
    """What of a job can be watched, as it was known at one moment.

    Args:
        job: The job.
        plan: Its chunks.
        finished: Those that are finished.
        is_over: Whether there will not be more.
    """

    def __init__(self, job: RenderJobSpec, plan: ChunkPlan, finished: RangeSet, *, is_over: bool) -> None:
        self.rate = job.rate
        self.source = max(0, job.film_source)
        self.is_sequence = job.film_kind is OutputKind.FRAMES
        self.can_be_seen = self.is_sequence or job.film_kind is OutputKind.VIDEO
        self.plan = plan
        self.finished = finished
        self._is_over = is_over

    @property
    def first(self) -> int | None:
        """The first chunk that is finished."""
        return next(iter(self.finished), None)

    def list_segments(self, start: int) -> tuple[list[PreviewSegment], bool]:
        """Return the segments of the run of finished chunks from one on, and whether there will not be more.

        The last ones are told once they cannot grow any more, so that a list only ever gets longer.
        """
        stop = next((first for first, _ in self.finished.gaps(start, len(self.plan)).ranges), len(self.plan))
        is_over = self._is_over or stop == len(self.plan)
        least = math.ceil(_SEGMENT_SECONDS * self.rate)
        cut = self._cut_frames if self.is_sequence else self._cut_chunks
        found: list[PreviewSegment] = []
        for segment, is_whole in cut(range(start, stop), min(least, MOST_FILES) if self.is_sequence else least):
            if len(found) == MOST_SEGMENTS:
                return found, True
            if is_whole or is_over:
                found.append(segment)
        return found, is_over

    def _cut_chunks(self, chunks: range, least: int) -> Iterator[tuple[PreviewSegment, bool]]:
        first, frames, at = chunks.start, 0, 0
        for chunk in chunks:
            frames += self.plan[chunk].count
            if frames >= least:
                yield PreviewSegment(first, 0, frames, at), True
                first, frames, at = chunk + 1, 0, at + frames
        if frames:
            yield PreviewSegment(first, 0, frames, at), False

    def _cut_frames(self, chunks: range, least: int) -> Iterator[tuple[PreviewSegment, bool]]:
        first, skip, frames, at = chunks.start, 0, 0, 0
        for chunk in chunks:
            count, taken = self.plan[chunk].count, 0
            while taken < count:
                if not frames:
                    first, skip = chunk, taken
                step = min(count - taken, least - frames)
                frames, taken = frames + step, taken + step
                if frames == least:
                    yield PreviewSegment(first, skip, frames, at), True
                    frames, at = 0, at + least
        if frames:
            yield PreviewSegment(first, skip, frames, at), False

    def walk(self, segment: PreviewSegment) -> Iterator[tuple[int, int, int]]:
        """Yield the chunks of a segment, with the first of their frames that is of it and the one behind the last.

        Raises:
            ProblemError: There is no such segment, or one of its chunks is not finished.
        """
        left, skip, chunk = segment.frames, segment.skip, segment.chunk
        while left > 0:
            if chunk >= len(self.plan) or chunk not in self.finished:
                raise ProblemError(404, f"chunk {chunk} is not finished", kind="nothing-finished")
            count = self.plan[chunk].count
            if skip >= count or (not self.is_sequence and (skip or count > left)):
                raise ProblemError(404, "there is no such segment", kind="no-such-segment")
            taken = min(count - skip, left)
            yield chunk, skip, skip + taken
            left, skip, chunk = left - taken, 0, chunk + 1


class Previews:
    """Make previews of jobs for one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_MOST_AT_ONCE)
        self._folders: list[Path] = []
        self._idle: list[DescriptorProcess] = []
        # Also when the interpreter ends.
        self.close = weakref.finalize(self, _clean_up, self._idle, self._folders)
        self._kept: OrderedDict[str, int] = OrderedDict()
        self._films: OrderedDict[str, tuple[tuple[int, JobState, datetime | None], PreviewFilm]] = OrderedDict()

    def find_film(self, records: JobRecords, status: JobStatus) -> PreviewFilm:
        """Return what of a job can be watched; the store is asked again when chunks have been finished since. Blocking.

        Raises:
            ProblemError: The job has no pictures.
        """
        state = (status.completed_chunks, status.state, status.started_at)
        with self._lock:
            known = self._films.get(records.path)
        if known is not None and known[0] == state:
            return known[1]
        job = records.find_job()
        if job is None:
            raise ProblemError(404, f"{status.id} has no record in its store", kind="no-preview")
        # Chunks are cut once, when a job is started.
        is_same = known is not None and known[0][2] == state[2]
        plan = known[1].plan if known is not None and is_same else records.read_plan(job)
        film = PreviewFilm(job, plan, records.finished_chunks(), is_over=status.state.has_ended)
        if not film.can_be_seen:
            raise ProblemError(404, f"the chunks of {status.id} are no pictures", kind="no-preview")
        with self._lock:
            self._films[records.path] = state, film
            if len(self._films) > _MOST_FILMS:
                self._films.popitem(last=False)
        return film

    def make(
        self, records: JobRecords, film: PreviewFilm, segment: PreviewSegment, folders: Sequence[str], *, small: bool
    ) -> list[PreviewFragment]:
        """Return the fragments of a segment; blocking.

        Args:
            records: The job.
            film: What of it can be watched.
            segment: The segment.
            folders: Folders that files must lie in.
            small: Whether to encode a small copy.

        Raises:
            ProblemError: A file is gone or damaged, or no browser plays it as it is.
        """
        if film.is_sequence and not small:
            raise _needs_proxy("image files")
        parts = list(islice(film.walk(segment), MOST_FILES + 1))
        if len(parts) > MOST_FILES or (film.is_sequence and segment.frames > MOST_FILES):
            raise ProblemError(404, "there is no such segment", kind="no-such-segment")
        files = [list(_find_files(records, film, *part)) for part in parts]
        if film.is_sequence:
            # One encoder for all of them.
            files = [[file for part in files for file in part]]
        return [self._make(records, film.rate, part, folders, small=small) for part in files]

    def _make(
        self, records: JobRecords, rate: Fraction, files: list[PublishedFile], folders: Sequence[str], *, small: bool
    ) -> PreviewFragment:
        request = {
            "suffix": Path(files[0].path).suffix.lower(),
            "rate": [rate.numerator, rate.denominator],
            "longest": _SMALL if small else 0,
        }
        key = sha256(json.dumps([request, *(file.sha256 for file in files)]).encode()).hexdigest()
        content = self._read_kept(key)
        if content is None:
            with self._open(records, files, folders) as descriptors:
                content = self._ask(request, descriptors)
            self._keep(key, content)
        head, _, data = content.partition(b"\n")
        told = json.loads(head)
        if "unplayable" in told:
            raise _needs_proxy(told["unplayable"])
        return PreviewFragment(data[: told["init_bytes"]], data[told["init_bytes"] :], told["tick"])

    @contextmanager
    def _open(self, records: JobRecords, files: Sequence[PublishedFile], folders: Sequence[str]) -> Iterator[list[int]]:
        """Open published files, those of a bucket from copies that are gone afterwards."""
        store = records.store
        with ExitStack() as stack:
            if store.is_local:
                descriptors = []
                for file in files:
                    opened = _open_local(records, file, folders)
                    stack.callback(os.close, opened)
                    descriptors.append(opened)
                yield descriptors
                return
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._make_folder())))

            def download(each: tuple[int, PublishedFile]) -> Path:
                return store.download(each[1].path, place / str(each[0]), sha256=each[1].sha256)

            try:
                copies = map_parallel(store, download, enumerate(files))
            except FileNotFoundError as error:
                raise _is_gone(error) from error
            descriptors = []
            for copy in copies:
                descriptors.append(os.open(copy, os.O_RDONLY | os.O_CLOEXEC))
                stack.callback(os.close, descriptors[-1])
            yield descriptors

    def _ask(self, request: dict[str, Any], descriptors: Sequence[int]) -> bytes:
        if not self._turns.acquire(timeout=_PATIENCE_SECONDS):
            raise ProblemError(503, "many previews are being made; try again in a minute", kind="busy")
        try:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            process = process or DescriptorProcess(preview_main.__file__, most_seconds=_MOST_SECONDS)
            try:
                told, data = process.ask(request, descriptors)
            finally:
                with self._lock:
                    self._idle.append(process)
        except ProcessFailedError as error:
            raise ProblemError(409, f"no preview can be made: {error}", kind="unreadable") from error
        finally:
            self._turns.release()
        return json.dumps(told).encode() + b"\n" + data

    def _make_folder(self) -> Path:
        with self._lock:
            if not self._folders:
                self._folders.append(Path(tempfile.mkdtemp(prefix="longtake-preview-")))
            return self._folders[0]

    def _read_kept(self, key: str) -> bytes | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
        try:
            return (self._make_folder() / key).read_bytes()
        except FileNotFoundError:
            return None

    def _keep(self, key: str, content: bytes) -> None:
        folder = self._make_folder()
        coming = folder / f"{key}.{threading.get_ident()}"
        coming.write_bytes(content)
        coming.replace(folder / key)
        with self._lock:
            self._kept[key] = len(content)
            self._kept.move_to_end(key)
            while sum(self._kept.values()) > _MOST_KEPT_BYTES and len(self._kept) > 1:
                old, _ = self._kept.popitem(last=False)
                (folder / old).unlink(missing_ok=True)


def _clean_up(processes: list[DescriptorProcess], folders: list[Path]) -> None:
    """End processes that are idle, and remove what was kept."""
    while processes:
        processes.pop().close()
    while folders:
        shutil.rmtree(folders.pop(), ignore_errors=True)


def _find_files(records: JobRecords, film: PreviewFilm, chunk: int, start: int, stop: int) -> Iterator[PublishedFile]:
    """Yield the published files of frames of a chunk, or that of all of its frames."""
    publication = records.find_publication(chunk_key(chunk))
    each = film.plan[chunk].files_per_output
    files = () if publication is None else publication.files[film.source * each : (film.source + 1) * each]
    files = files[start:stop] if film.is_sequence else files
    if len(files) != (stop - start if film.is_sequence else 1):
        raise ProblemError(404, f"chunk {chunk} is not finished", kind="nothing-finished")
    for file in files:
        if path_in_store(records.store, file.path) is None:
            raise ProblemError(404, f"the files of chunk {chunk} lie outside of its store", kind="no-such-file")
        yield file


def _open_local(records: JobRecords, file: PublishedFile, folders: Sequence[str]) -> int:
    try:
        opened = open_stored(records.store, file.path, folders)
    except OutsideError as error:
        raise ProblemError(404, "the files of this chunk lie outside of its store", kind="no-such-file") from error
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise _is_gone(error) from error
    assert opened.descriptor is not None
    if opened.size_bytes != file.size_bytes:
        opened.close()
        raise ProblemError(409, f"{Path(file.path).name} is not what was published", kind="changed-file")
    return opened.descriptor


def _is_gone(error: OSError) -> ProblemError:
    return ProblemError(409, f"{Path(str(error.filename)).name} is not there any more", kind="changed-file")


def _needs_proxy(what: str) -> ProblemError:
    detail = f"no browser plays {what} as it is; ask with proxy=1 for a small copy that is made meanwhile"
    return ProblemError(409, detail, kind="needs-proxy")
