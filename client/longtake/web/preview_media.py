"""Make what a growing preview is played from: fragmented MP4 of finished chunks, kept in a bounded folder."""

import json
import os
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from longtake.descriptor_process import MOST_FILES, DescriptorProcess, ProcessFailedError
from longtake.models.colour import DEFAULT_CONFIG
from longtake.models.status import JobState, JobStatus
from longtake.stores.job_layout import chunk_key
from longtake.stores.job_records import JobRecords
from longtake.stores.publications import PublishedFile, path_in_store
from longtake.stores.store import map_parallel
from longtake.stores.stored_file import OutsideError, open_stored
from longtake.web import preview_main
from longtake.web.preview_cache import PreviewCache
from longtake.web.preview_film import MOST_PICTURES, PreviewFilm, PreviewFragment, PreviewSegment, PreviewSound
from longtake.web.preview_inputs import OpenInput, PreviewInputs
from longtake.web.preview_sound import DEMUXERS
from longtake.web.problems import ProblemError

# Longest side of a small copy.
_SMALL = 640

# Requests that are made at once, and how long the next one waits for its turn.
_MOST_AT_ONCE = 2
_PATIENCE_SECONDS = 60.0
# Longer than the CPU time of one request, at the lowest priority.
_MOST_SECONDS = 300.0
_MOST_FILMS = 100


class _Configuration(NamedTuple):
    """A configuration of OpenColorIO: its name or its file, and the version of that."""

    name: str = DEFAULT_CONFIG
    version: str = ""


_USUAL = _Configuration()


@dataclass(frozen=True)
class _Colours:
    """Conversion of image files: what the job names, and the configuration that has these names."""

    names: dict[str, str] | None
    config: _Configuration = _USUAL


class Previews:
    """Make previews of jobs for one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_MOST_AT_ONCE)
        self._cache = PreviewCache()
        self._inputs = PreviewInputs(self._cache)
        # Each with the configuration of colours that it has read.
        self._idle: list[tuple[_Configuration, DescriptorProcess]] = []
        # Also when the interpreter ends.
        self._end = weakref.finalize(self, _end_processes, self._idle)
        self._films: OrderedDict[str, tuple[tuple[int, JobState, datetime | None], PreviewFilm]] = OrderedDict()

    def close(self) -> None:
        """End processes, and remove what was kept."""
        self._end()
        self._cache.close()

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

    def find_sound(
        self, records: JobRecords, film: PreviewFilm, segment: PreviewSegment, folders: Sequence[str]
    ) -> PreviewSound | None:
        """Return the form of the sound that is heard with a segment; None where there is none. Blocking.

        What cannot be read is no sound: the pictures can be watched all the same.
        """
        with self._open_sound(records, film, folders) as track:
            is_known = track.suffix in DEMUXERS if track else film.has_own_sound
            if not is_known:
                return None
            files = [] if track else list(_find_files(records, film, *next(iter(film.walk(segment)))))
            suffix = track.suffix if track else Path(files[0].path).suffix.lower()
            request = {"suffix": suffix, "looks_for_sound": True}
            try:
                told = json.loads(self._find_or_make(records, request, files, track, folders))["sound"]
            except ProblemError as error:
                if error.kind == "busy":
                    raise
                return None
            return PreviewSound(**told) if told else None

    def make(
        self,
        records: JobRecords,
        film: PreviewFilm,
        segment: PreviewSegment,
        folders: Sequence[str],
        *,
        small: bool,
        sound: PreviewSound | None = None,
    ) -> list[PreviewFragment]:
        """Return the fragments of a segment; blocking.

        Args:
            records: The job.
            film: What of it can be watched.
            segment: The segment.
            folders: Folders that files must lie in.
            small: Whether to encode a small copy.
            sound: What it is heard with.

        Raises:
            ProblemError: A file is gone or damaged, or no browser plays it as it is.
        """
        if film.is_sequence and not small:
            raise _needs_proxy("image files")
        parts = list(islice(film.walk(segment), MOST_FILES + 1))
        # The sound of a whole film is a file, too.
        if len(parts) > MOST_FILES or (film.is_sequence and segment.frames > MOST_PICTURES):
            raise ProblemError(404, "there is no such segment", kind="no-such-segment")
        files = [list(_find_files(records, film, *part)) for part in parts]
        counts = [stop - start for _, start, stop in parts]
        if film.is_sequence:
            # One encoder for all of them.
            files, counts = [[file for part in files for file in part]], [segment.frames]
        colours = self._find_colours(records, film, folders) if film.is_sequence else None
        with self._open_sound(records, film, folders) if sound else nullcontext() as track:
            made, before = [], film.count_frames_before(segment) if sound else 0
            for part, count in zip(files, counts, strict=True):
                request: dict[str, Any] = {
                    "suffix": Path(part[0].path).suffix.lower(),
                    "rate": [film.rate.numerator, film.rate.denominator],
                    "longest": _SMALL if small else 0,
                    "sound": sound and _describe_sound(sound, film, track, before, before + count),
                }
                if colours is not None:
                    request["colours"] = colours.names
                made.append(_read_fragment(self._find_or_make(records, request, part, track, folders, colours)))
                before += count
            return made

    def _find_or_make(
        self,
        records: JobRecords,
        request: dict[str, Any],
        files: list[PublishedFile],
        track: OpenInput | None,
        folders: Sequence[str],
        colours: "_Colours | None" = None,
    ) -> bytes:
        """Return what is told of a request, a line of JSON, and its bytes."""
        known = [request, *(file.sha256 for file in files), track and track.version, colours and colours.config]
        key = sha256(json.dumps(known).encode()).hexdigest()
        content = self._cache.read(key)
        if content is None:
            with self._open(records, files, folders) as descriptors:
                with_track = [*descriptors, track.descriptor] if track else descriptors
                made = self._ask(request, with_track, colours.config if colours else None)
            self._cache.keep(key, lambda path: path.write_bytes(made))
            return made
        return content

    def _open_sound(
        self, records: JobRecords, film: PreviewFilm, folders: Sequence[str]
    ) -> AbstractContextManager[OpenInput | None]:
        """Open the sound of a whole film; None where there is none that can be read."""
        if film.track is None:
            return nullcontext()
        return self._inputs.open(records, film.job, film.track.file, folders)

    def _find_colours(self, records: JobRecords, film: PreviewFilm, folders: Sequence[str]) -> "_Colours":
        """Find the conversion of image files; one whose configuration cannot be read is that of a job that has none."""
        colour = film.job.colour
        if colour is None:
            return _Colours(None)
        names = {"input": colour.input, "output": colour.output, "view": colour.view or ""}
        if colour.config_file is None:
            return _Colours(names, _Configuration(colour.config))
        with self._inputs.open(records, film.job, colour.config_file, folders) as config:
            return _Colours(None) if config is None else _Colours(names, _Configuration(config.path, config.version))

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
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._cache.folder)))

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

    def _take_process(self, config: _Configuration | None) -> tuple[_Configuration, DescriptorProcess]:
        """Return an idle process with a configuration of colours, or with any where none is needed, or a new one."""
        with self._lock:
            fit = next((each for each in self._idle if config in (None, each[0])), None)
            if fit is not None:
                self._idle.remove(fit)
                return fit
        config = config or _USUAL
        return config, DescriptorProcess(preview_main.__file__, config.name, most_seconds=_MOST_SECONDS)

    def _give_back(self, config: _Configuration, process: DescriptorProcess) -> None:
        """Keep a process for the next request, and no more than may be at work at once."""
        with self._lock:
            self._idle.append((config, process))
            old = self._idle.pop(0) if len(self._idle) > _MOST_AT_ONCE else None
        if old is not None:
            old[1].close()

    def _ask(self, request: dict[str, Any], descriptors: Sequence[int], wanted: _Configuration | None) -> bytes:
        if not self._turns.acquire(timeout=_PATIENCE_SECONDS):
            raise ProblemError(503, "many previews are being made; try again in a minute", kind="busy")
        try:
            config, process = self._take_process(wanted)
            try:
                told, data = process.ask(request, descriptors)
            finally:
                self._give_back(config, process)
        except ProcessFailedError as error:
            raise ProblemError(409, f"no preview can be made: {error}", kind="unreadable") from error
        finally:
            self._turns.release()
        return json.dumps(told).encode() + b"\n" + data


def _end_processes(processes: list[tuple[_Configuration, DescriptorProcess]]) -> None:
    while processes:
        processes.pop()[1].close()


def _read_fragment(content: bytes) -> PreviewFragment:
    head, _, data = content.partition(b"\n")
    told = json.loads(head)
    if "unplayable" in told:
        raise _needs_proxy(told["unplayable"])
    return PreviewFragment(data[: told["init_bytes"]], data[told["init_bytes"] :], told["tick"], tuple(told["clocks"]))


def _describe_sound(
    sound: PreviewSound, film: PreviewFilm, track: OpenInput | None, before: int, stop: int
) -> dict[str, Any]:
    """Describe the sound of some frames of a job for the program; where `track` is its file, by their place in it."""
    first = sound.count_samples(before, film.rate)
    start = 0
    if film.track is not None:
        start = first - round(Fraction(film.track.offset_seconds) * sound.rate)
    return {
        "suffix": track.suffix if track else "",
        "is_own": film.has_own_sound,
        "rate": sound.rate,
        "channels": sound.channels,
        "start": start,
        "count": sound.count_samples(stop, film.rate) - first,
    }


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
