"""Render of an image sequence: each gap by a command of its own, and each frame kept when it is finished."""

import asyncio
import logging
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from activities.attempts.output_files import replace_links
from activities.backends.backend import Backend, Progress, RenderTask, RenderWatcher
from activities.media.facts import MediaError
from activities.media.images.check import check_image
from activities.media.images.facts import ImageFacts
from activities.media.images.image_formats import ENDS_LAST
from activities.processes.render_process import Usage
from activities.stores.kept_frames import FinishedFrame, KeptFrames, Signature, file_signature
from longtake.chunks import Chunk
from longtake.concurrency import finish_once_begun, run_beside, run_in_thread
from longtake.ranges import Range, RangeSet, format_ranges
from longtake.stores.directory import link_or_copy

_log = logging.getLogger(__name__)

# So long has a file of another kind to rest until it counts as finished; the next one counts as proof, too.
_REST_SECONDS = 2.0

# Often enough that a kill costs a second of work, seldom enough to cost nothing beside it.
_KEEP_SECONDS = 1.0

# The folder of an attempt where its frames come together; its commands write beside it, each in a place of its own,
# so that none of them can write into what another one has finished.
_WHOLE_FOLDER = "whole"


class FinishedFrameScanner:
    """Search for finished frames of a render that runs; may be called from several threads.

    A file whose rendering is under way never counts. Files that were found finished, or found damaged and not
    written to since, are not read again.

    Args:
        files: The expected files, by their numbers in the chunk.
    """

    def __init__(self, files: Mapping[int, Path]) -> None:
        self._open = {path: frame for frame, path in files.items()}
        self._folders = {path.parent for path in self._open}
        self._lock = threading.Lock()
        self._fresh: list[FinishedFrame] = []
        self._newest: dict[Path, int] = {}
        self._seen: dict[Path, tuple[Signature, float]] = {}
        self._refused: dict[Path, Signature] = {}
        self._facts: dict[Path, tuple[Signature, ImageFacts]] = {}

    def take_finished(self, *, writer_is_done: bool = False) -> list[FinishedFrame]:
        """Return the frames that were finished since the last call, in order.

        Args:
            writer_is_done: Whether the renderer has ended well, so that no file is under way any more.
        """
        with self._lock:
            self._look(writer_is_done)
            fresh, self._fresh = self._fresh, []
        return sorted(fresh, key=lambda found: found.frame)

    def is_complete(self) -> bool:
        """Tell whether every expected file is there and finished."""
        with self._lock:
            self._look(writer_is_done=False)
            return not self._open

    def _look(self, writer_is_done: bool) -> None:
        there = {path: status for folder in self._folders for path, status in self._scan(folder)}
        for path, status in there.items():
            self._newest[path.parent] = max(self._newest.get(path.parent, 0), status.st_mtime_ns)
        for path, status in there.items():
            signature = file_signature(status)
            facts = self._sound(path, signature)
            if facts is not None and (writer_is_done or self._is_finished(path, status, facts)):
                self._fresh.append(FinishedFrame(self._open.pop(path), path, facts, signature))
                self._facts.pop(path, None)

    def _scan(self, folder: Path) -> list[tuple[Path, os.stat_result]]:
        """Return the expected files in a folder that are not known to be finished."""
        found = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    path = folder / entry.name
                    if path in self._open and entry.is_file(follow_symlinks=False):
                        found.append((path, entry.stat(follow_symlinks=False)))
        except (FileNotFoundError, PermissionError):
            # The renderer has not begun, or removes what it made, or the permissions of its folder.
            pass
        return found

    def _sound(self, path: Path, signature: Signature) -> ImageFacts | None:
        """Return the facts of a file that passes its check; read once for each state of it."""
        if self._refused.get(path) == signature or signature[1] == 0:
            return None
        known = self._facts.get(path)
        if known is not None and known[0] == signature:
            return known[1]
        try:
            facts = check_image(path)
        except MediaError:
            self._refused[path] = signature
            return None
        except OSError:
            # Gone again, or a share that stutters: the next look tells.
            return None
        self._facts[path] = (signature, facts)
        return facts

    def _is_finished(self, path: Path, status: os.stat_result, facts: ImageFacts) -> bool:
        # Of other formats a half-written file may pass.
        if facts.format in ENDS_LAST:
            return True
        if status.st_mtime_ns < self._newest[path.parent]:
            return True
        # Resting says something only of a file that was decoded: a slow renderer writes a few lines an hour.
        signature = file_signature(status)
        now = time.monotonic()
        seen, since = self._seen.get(path, (None, now))
        if seen != signature:
            self._seen[path] = (signature, now)
            return False
        return facts.width > 0 and now - since >= _REST_SECONDS


class CommandWatcher:
    """The `RenderWatcher` of one command of an attempt: adds what earlier commands have done to its progress.

    Args:
        watcher: The watcher of the whole attempt.
        before: Frames that were there when the command began.
        count: Frames that it renders.
        used: Usage of earlier commands of the attempt.
    """

    def __init__(self, watcher: RenderWatcher, *, before: int, count: int, used: Usage) -> None:
        self._watcher = watcher
        self._before = before
        self._count = count
        self._used = used

    @property
    def freeze_order(self) -> int:
        """Number of the freeze that the command must obey now; 0 when it may run."""
        return self._watcher.freeze_order

    @property
    def most_grace_seconds(self) -> float:
        """How long the end of the command may take at most."""
        return self._watcher.most_grace_seconds

    def on_frozen(self, order: int) -> None:
        """Hear that no process of the command runs, by this order; or with 0, that they run again."""
        self._watcher.on_frozen(order)

    def on_progress(self, progress: Progress) -> None:
        """Hear how far the command is."""
        done = self._before + min(progress.frames_done, self._count)
        self._watcher.on_progress(replace(progress, frames_done=done, usage=self._used + progress.usage))


# Return the task that renders a part of the chunk below this folder.
MakeTask = Callable[[Chunk, Path, FinishedFrameScanner], RenderTask]


class SequenceRender:
    """The commands that render one chunk of images: one for each gap.

    Args:
        backend: Runs the commands.
        chunk: The chunk.
        place: The attempt's own folder.
        names: Path of each file below a folder: all frames of one output, then those of the next.
        kept: The frames of this chunk that are kept, by all attempts; None where only the whole chunk counts.
        make_task: Makes the task of a part of the chunk.
    """

    def __init__(
        self,
        backend: Backend,
        chunk: Chunk,
        place: Path,
        names: list[Path],
        kept: KeptFrames | None,
        make_task: MakeTask,
    ) -> None:
        self._backend = backend
        self._chunk = chunk
        self._place = place
        self._names = names
        self._kept = kept
        self._make_task = make_task
        self._runs: list[tuple[FinishedFrameScanner, bool]] = []
        self._part_places: list[Path] = []
        self._there = RangeSet()
        self.used = Usage()

    @property
    def whole_dir(self) -> Path:
        """Folder that holds all frames when they are rendered."""
        return self._place / _WHOLE_FOLDER

    @property
    def files(self) -> list[Path]:
        """The files of all frames in that folder, in order."""
        return [self.whole_dir / name for name in self._names]

    @property
    def part_places(self) -> tuple[Path, ...]:
        """The folders that commands were given, and the one where the frames come together."""
        return (*self._part_places, self.whole_dir)

    @property
    def expected_files(self) -> frozenset[Path]:
        """The files of all frames, in that folder and in those of commands."""
        folders = (self.whole_dir, *self._part_places)
        return frozenset(folder / name for folder in folders for name in self._names)

    async def render(self, watcher: RenderWatcher) -> None:
        """Render the missing frames, each gap by a command of its own.

        Raises:
            AttemptError: A command has failed.
        """
        stop = threading.Event()
        await run_in_thread(partial(self._begin, stop), stop)
        everything = (0, self._chunk.count)
        gaps = self._there.gaps(*everything).ranges
        if alone := self._chunk.is_frame_by_frame:
            gaps = tuple((frame, frame + 1) for gap in gaps for frame in range(*gap))
        watcher.on_progress(Progress(frames_done=len(self._there)))
        for gap in gaps:
            await self._render_part(gap, watcher)
        if gaps != (everything,) and not alone and await run_in_thread(lambda: any(map(self._has_other_names, gaps))):
            # It numbers its files in a way of its own: only those of the whole chunk get the names that are asked for.
            _log.warning(
                "%s: the command cannot render frames %s of the chunk alone; rendering all",
                *(self._place, format_ranges(gaps)),
            )
            # The same frames again by other names, which nobody misses.
            for gap in gaps:
                await run_in_thread(partial(shutil.rmtree, self._part_place(gap), ignore_errors=True))
            await self._render_part(everything, watcher)

    def keep(self) -> None:
        """Keep all finished frames, also those of a command that was stopped; blocking, and never fails."""
        for finished, ended_well in self._runs:
            self._keep(finished, writer_is_done=ended_well)

    def _begin(self, stop: threading.Event) -> None:
        """Take over what earlier attempts have finished."""
        self._make_folders(self.whole_dir)
        if self._kept is None:
            return
        there = self._kept.verified_files(stop, count=self._chunk.count)
        if len(there) < len(self._names):
            there = self._salvaged(set(there)) | there
        # A frame of which a file is missing is rendered again, and then all its files are of one run.
        whole = [numbers for frame in range(self._chunk.count) if (numbers := self._numbers(frame)) <= there.keys()]
        self._take_over({number: there[number] for numbers in whole for number in numbers})

    def _numbers(self, frame: int) -> set[int]:
        """Return the numbers of the files of a frame, which is counted from 0."""
        return set(range(frame, len(self._names), self._chunk.count))

    def _salvaged(self, kept: set[int]) -> dict[int, Path]:
        """Keep what attempts have finished that could not say so any more; their files stay where they are."""
        found: dict[int, FinishedFrame] = {}
        for folder in self._other_places():
            files = {frame: folder / name for frame, name in enumerate(self._names)}
            found |= {
                frame.frame: frame for frame in FinishedFrameScanner(files).take_finished() if frame.frame not in kept
            }
        if self._kept is not None:
            self._kept.keep(self._place.name, found.values())
        return {number: frame.path for number, frame in found.items()}

    def _other_places(self) -> Iterator[Path]:
        """Return the folders in which commands of other attempts have written, or still do."""
        for attempt in sorted(self._place.parent.iterdir()):
            # A renderer may have taken away the permissions of its own folder.
            with suppress(PermissionError):
                if attempt != self._place and attempt.is_dir():
                    yield from [folder for folder in sorted(attempt.iterdir()) if folder.is_dir()]

    def _take_over(self, found: Mapping[int, Path]) -> None:
        files = self.files
        there = Counter[int]()
        for number, path in found.items():
            # Gone, where another attempt has published the chunk meanwhile, or where the renderer never wrote it.
            with suppress(FileNotFoundError, IndexError):
                link_or_copy(path, files[number])
                there[number % self._chunk.count] += 1
        for frame, count in there.items():
            if count == len(self._numbers(frame)):
                self._there.add(frame, frame + 1)

    async def _render_part(self, frames: Range, watcher: RenderWatcher) -> None:
        start, stop = frames
        part = self._chunk.slice_frames(start, stop)
        place = self._part_place(frames)
        self._part_places.append(place)
        files, finished = await run_in_thread(partial(self._prepare_part, frames, place))
        run = CommandWatcher(watcher, before=len(self._there), count=part.count, used=self.used)
        self._runs.append((finished, False))
        async with run_beside(self._keep_regularly(finished)):
            task = await run_in_thread(partial(self._make_task, part, place, finished))
            self.used += await self._backend.render(task, run)
        # Before their folder is left: links lead elsewhere from another one.
        await run_in_thread(partial(replace_links, files.values(), self._place))
        self._runs[-1] = (finished, True)
        await run_in_thread(partial(self._take_over, files))
        watcher.on_progress(Progress(frames_done=len(self._there), usage=self.used))

    def _prepare_part(self, frames: Range, place: Path) -> tuple[dict[int, Path], FinishedFrameScanner]:
        """Make the folders that a command writes to; return the file of each frame, and what looks for them."""
        numbers = sorted(set().union(*map(self._numbers, range(*frames))))
        files = {number: place / self._names[number] for number in numbers}
        self._make_folders(place)
        return files, FinishedFrameScanner(files)

    def _has_other_names(self, gap: Range) -> bool:
        """Tell whether the command that rendered a gap wrote files, and none of those it was asked for."""
        place = self._part_place(gap)
        return not self._there.within(*gap) and any(path.is_file() for path in place.rglob("*"))

    def _part_place(self, frames: Range) -> Path:
        part = self._chunk.slice_frames(*frames)
        return self._place / f"{part.start}-{part.stop}"

    async def _keep_regularly(self, finished: FinishedFrameScanner) -> None:
        while self._kept is not None:
            await asyncio.sleep(_KEEP_SECONDS)
            await run_in_thread(partial(self._keep, finished, writer_is_done=False))

    def _keep(self, finished: FinishedFrameScanner, *, writer_is_done: bool) -> None:
        if self._kept is None:
            return
        try:
            # What a stop interrupted here would be taken and not kept, and so rendered again.
            with finish_once_begun():
                self._kept.keep(self._place.name, finished.take_finished(writer_is_done=writer_is_done))
        except OSError as error:
            # A full disk ends the render itself, if it matters; what is not kept is rendered again.
            _log.warning("%s: finished frames cannot be kept: %s", self._place, error)

    def _make_folders(self, place: Path) -> None:
        for folder in {(place / name).parent for name in self._names}:
            folder.mkdir(parents=True, exist_ok=True)
