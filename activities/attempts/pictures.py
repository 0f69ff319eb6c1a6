"""Leave small pictures of finished chunks in the store: beside the renders, and never in their way."""

import logging
import os
import queue
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Self

from activities.attempts.output_check import Proof
from activities.media.colour import build_picture_request
from activities.media.images import picture_main
from activities.media.images.facts import ImageFacts
from activities.media.images.image_formats import ImageFormat, find_formats
from activities.media.picture import SUFFIX, make_picture
from activities.stores.job_folder import OpenJob
from longtake.chunks import Chunk
from longtake.descriptor_process import DescriptorProcess
from longtake.models.colour import DEFAULT_CONFIG
from longtake.models.pictures import PictureSpec, choose_frames
from longtake.paths import OutputKind, classify_output
from longtake.stores.job_layout import chunk_key

_log = logging.getLogger(__name__)

# Pictures that wait to be made or stored. A host whose chunks come faster for longer leaves some without.
_MOST_WAITING = 64
# What is waited for pictures where an activity ends, or where they need a file that is about to go.
SETTLE_SECONDS = 2.0
# The thread and its decoder end after so long without work.
_IDLE_SECONDS = 20.0
# Longer than the limit on CPU time of the process, which is of the lowest priority on a host that renders.
_MOST_DECODE_SECONDS = 120.0
# Pictures may take this share of the time in which chunks are rendered, and a few come before that has passed: a frame
# of 4K OpenEXR takes 0.45 s to decode.
_MOST_SHARE = 0.01
_FREE_SECONDS = 3.0
# Jobs whose first failure was told, and whose costs are counted.
_MOST_JOBS = 1000


@dataclass(frozen=True)
class _Task:
    """A picture to be made and stored.

    Args:
        job: The job.
        location: Where the picture is stored.
        make: Makes it, with the process that decodes image files; tells also the CPU time of that process.
        descriptor: An open file that it is made of.
    """

    job: OpenJob
    location: str
    make: Callable[["_Decoder"], tuple[bytes, float]]
    descriptor: int | None = None

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


@dataclass
class ChunkPictures:
    """The pictures of one chunk until it is published: what they are made of is held, whoever moves the files.

    Args:
        writer: Makes them; None for no pictures.
        tasks: The pictures.
        is_urgent: Whether they need a file that goes when the chunk is published.
    """

    writer: "PictureWriter | None" = None
    tasks: list[_Task] = field(default_factory=list)
    is_urgent: bool = False

    def submit(self) -> None:
        """Have the pictures made: the chunk is published."""
        if self.writer is None or not self.tasks:
            return
        while self.tasks:
            self.writer.submit(self.tasks.pop(0))
        if self.is_urgent:
            self.writer.settle(SETTLE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self.tasks:
            self.tasks.pop().close()


class PictureWriter:
    """Makes and stores pictures in a thread of its own, one after the other, for all attempts of a host.

    Nothing that happens here fails or holds up a chunk: what goes wrong is logged, once a job, and what does not fit
    into the queue is dropped. So is what would cost more than a hundredth of the time in which chunks are rendered.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[_Task] = queue.Queue(_MOST_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._told: dict[str, None] = {}
        # CPU seconds that pictures of each job may still take.
        self._left: OrderedDict[str, float] = OrderedDict()

    def prepare(
        self,
        job: OpenJob,
        chunk: Chunk,
        made: Sequence[Path],
        proofs: Sequence[Proof],
        workdir: Path,
        render_seconds: float,
    ) -> ChunkPictures:
        """Return the pictures that a chunk is to leave; of a video the first frame is made smaller now.

        Args:
            job: The job.
            chunk: The chunk.
            made: Its files, those of one output after the other.
            proofs: What was found in each output.
            workdir: Where a configuration of colours lies.
            render_seconds: How long the chunk was rendered.
        """
        # A configuration among the inputs of a job in a bucket is laid out for one attempt.
        pictures = ChunkPictures(self, is_urgent=bool(job.job.colour_files) and not job.folder.store.is_local)
        if self._charge(job, -_MOST_SHARE * render_seconds) < 0:
            return pictures
        began = time.thread_time()
        try:
            pictures.tasks.extend(_list_tasks(job, chunk, made, proofs, workdir))
            self._charge(job, time.thread_time() - began)
        except Exception as error:  # whatever goes wrong with a picture, the chunk is sound
            self._tell(job, chunk_key(chunk.index), error)
        return pictures

    def _charge(self, job: OpenJob, cpu_seconds: float) -> float:
        """Count CPU time of the pictures of a job; return what they may still take."""
        with self._lock:
            left = self._left.pop(job.ref.id, _FREE_SECONDS) - cpu_seconds
            self._left[job.ref.id] = left
            if len(self._left) > _MOST_JOBS:
                self._left.popitem(last=False)
            return left

    def settle(self, seconds: float) -> bool:
        """Wait until all pictures are stored, at most so long; return whether they are."""
        with self._queue.all_tasks_done:
            return self._queue.all_tasks_done.wait_for(lambda: not self._queue.unfinished_tasks, seconds)

    @property
    def is_busy(self) -> bool:
        """Whether pictures are waiting or being made."""
        return self._queue.unfinished_tasks > 0

    def submit(self, task: _Task) -> None:
        """Have a picture made and stored, which closes its task; one for which there is no room is dropped."""
        try:
            self._queue.put_nowait(task)
        except queue.Full:
            task.close()
            self._tell(task.job, task.location, "chunks are finished faster than pictures are made of them")
            return
        with self._lock:
            if self._thread is None:
                # A daemon: a share that hangs holds up no worker that ends.
                self._thread = threading.Thread(target=self._run, name="pictures", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        with _Decoder() as decoder:
            while (task := self._take()) is not None:
                try:
                    picture, cpu_seconds = task.make(decoder)
                    self._charge(task.job, cpu_seconds)
                    _store(task, picture)
                except Exception as error:  # a broken file, a store that is away: the next one may do
                    self._tell(task.job, task.location, error)
                finally:
                    task.close()
                    self._queue.task_done()

    def _take(self) -> _Task | None:
        try:
            return self._queue.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            with self._lock:
                # Asked under the lock: what was put before has found a thread, and what comes later starts one.
                if self._queue.empty():
                    self._thread = None
                    return None
            return self._take()

    def _tell(self, job: OpenJob, what: str, problem: object) -> None:
        with self._lock:
            if job.ref.id in self._told:
                return
            self._told[job.ref.id] = None
            if len(self._told) > _MOST_JOBS:
                del self._told[next(iter(self._told))]
        _log.warning("job %s: no picture of %s: %s; further ones are not told", job.ref.id, what, problem)


class PictureProcess(DescriptorProcess):
    """A process that makes pictures of image files.

    Args:
        config: The configuration of OpenColorIO whose transforms it keeps.
    """

    def __init__(self, config: str) -> None:
        super().__init__(picture_main.__file__, config, most_seconds=_MOST_DECODE_SECONDS)

    def make_picture(
        self, descriptor: int, kind: ImageFormat, *, suffix: str, longest: int, colours: dict[str, str] | None
    ) -> tuple[bytes, float]:
        """Make the picture of an open image file, and tell what CPU time that has taken; blocking.

        Args:
            descriptor: The file.
            kind: Its format.
            suffix: The extension of its name.
            longest: Longest side of the picture, in pixels.
            colours: Conversion of its colours, `input`, `output` and `view`; None for a file that is shown as it is.

        Raises:
            ProcessFailedError: No picture could be made.
        """
        read_by = {"suffix": suffix, "reader": kind.reader, "demuxer": kind.demuxer}
        request = {**read_by, "longest": longest, "colours": colours}
        told, picture = self.ask(request, [descriptor])
        return picture, told["cpu_seconds"]


def _store(task: _Task, picture: bytes) -> None:
    folder = task.job.folder
    # A job that was deleted meanwhile would leave a folder with this picture.
    if folder.store.stat(folder.job_file) is not None:
        folder.store.replace(task.location, picture)


class _Decoder:
    """The process that decodes image files, for one configuration of colours after the other."""

    def __init__(self) -> None:
        self._process: PictureProcess | None = None
        self._name: tuple[str, str] | None = None

    def open(self, name: tuple[str, str], config: str) -> PictureProcess:
        """Return a process that has the configuration of a name, wherever its file lay when it was read."""
        if self._process is None or self._name != name:
            self.close()
            self._process, self._name = PictureProcess(config), name
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _list_tasks(
    job: OpenJob, chunk: Chunk, made: Sequence[Path], proofs: Sequence[Proof], workdir: Path
) -> Iterator[_Task]:
    spec = job.job.pictures
    if not isinstance(spec, PictureSpec):
        return
    source = _find_source(job, chunk)
    if source is None:
        return
    number, kind = source
    is_sequence = kind is not None and chunk.kind is OutputKind.FRAMES
    chosen = choose_frames(chunk.index, len(job.chunks), chunk.count, is_sequence=is_sequence)
    for position in chosen:
        locate = partial(job.folder.picture_path, chunk_key(chunk.index), chunk.frames[position], SUFFIX)
        if kind is not None:
            file = made[number * chunk.files_per_output + position]
            yield _plan_image(job, file, kind, proofs[number].images, spec, number, workdir, locate())
        elif (first := proofs[number].first) is not None:
            video = proofs[number].video
            aspect = Fraction(video.sample_aspect_ratio.replace(":", "/")) if video is not None else Fraction(1)
            data = make_picture(first, longest=spec.size, aspect=aspect or Fraction(1))
            yield _Task(job, locate(), lambda _, data=data: (data, 0.0))  # type: ignore[misc]  # a default binds it


def _find_source(job: OpenJob, chunk: Chunk) -> tuple[int, ImageFormat | None] | None:
    """Return the number of the output that pictures show, that of the film if it can be seen, and its image format."""
    numbers = list(range(len(chunk.templates)))
    film = job.job.film_source
    numbers.sort(key=lambda number: number != film)
    for number in numbers:
        path = chunk.templates[number].path
        if classify_output(path) is OutputKind.VIDEO:
            return number, None
        formats = find_formats(Path(path).suffix)
        if formats:
            return number, formats[0]
    return None


def _plan_image(
    job: OpenJob,
    file: Path,
    kind: ImageFormat,
    facts: ImageFacts | None,
    spec: PictureSpec,
    output: int,
    workdir: Path,
    location: str,
) -> _Task:
    films = [film for film in job.job.films if film.film_source == output]
    colour = films[0].colour if films else None
    request = build_picture_request(
        colour, facts or ImageFacts(width=0, height=0, format=kind.name), workdir, DEFAULT_CONFIG
    )
    # Without a conversion any configuration will do.
    config = request.pop("config") if request is not None else DEFAULT_CONFIG
    owner = job.ref.id if colour is not None and colour.config_file is not None else ""
    name = (owner, colour.config if colour is not None else DEFAULT_CONFIG)
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{file.name} is no file")

    def make(decoder: _Decoder) -> tuple[bytes, float]:
        return decoder.open(name, config).make_picture(
            descriptor, kind, suffix=file.suffix.lower(), longest=spec.size, colours=request
        )

    return _Task(job, location, make, descriptor)
