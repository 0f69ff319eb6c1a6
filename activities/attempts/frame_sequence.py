"""Render of an image sequence: each gap by a command of its own, and each frame kept when it is finished."""

import asyncio
import logging
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from activities.attempts.finished_frames import FinishedFrameScanner, WholeFrameScanner
from activities.attempts.output_files import UndeclaredFiles, replace_links
from activities.backends.backend import Backend, Progress, RenderTask, RenderWatcher
from activities.errors import AttemptError
from activities.processes.render_process import Usage
from activities.stores.kept_frames import FinishedFrame, KeptFiles, KeptFrames
from longtake.chunks import Chunk
from longtake.concurrency import finish_once_begun, run_beside, run_in_thread
from longtake.ranges import Range, RangeSet, format_ranges
from longtake.stores.directory import file_digest, link_or_copy

_log = logging.getLogger(__name__)

# Often enough that a kill costs a second of work, seldom enough to cost nothing beside it.
_KEEP_SECONDS = 1.0

# The folder of an attempt where its frames come together; its commands write beside it, each in a place of its own,
# so that none of them can write into what another one has finished.
_WHOLE_FOLDER = "whole"


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
MakeTask = Callable[[Chunk, Path, WholeFrameScanner], RenderTask]


class SequenceRender:
    """The commands that render one chunk of images: one for each gap.

    Args:
        backend: Runs the commands.
        chunk: The chunk.
        place: The attempt's own folder.
        names: Path of each file below a folder: all frames of one output, then those of the next.
        kept: The frames of this chunk that are kept, by all attempts; None where only the whole chunk counts.
        make_task: Makes the task of a part of the chunk.
        undeclared: The files that no output declares and that the job asks for; None where it asks for none.
    """

    def __init__(
        self,
        backend: Backend,
        chunk: Chunk,
        place: Path,
        names: list[Path],
        kept: KeptFrames | None,
        make_task: MakeTask,
        undeclared: UndeclaredFiles | None = None,
    ) -> None:
        self._backend = backend
        self._chunk = chunk
        self._place = place
        self._names = names
        self._kept = kept
        self._make_task = make_task
        self._undeclared = undeclared
        self._runs: list[tuple[WholeFrameScanner, bool]] = []
        self._part_places: list[Path] = []
        self._there = RangeSet()
        self._least_done = 0
        # What was taken over of earlier attempts.
        self._earlier = KeptFiles()
        self.used = Usage()
        # Files that no output declares, by their names: those that are published, and all that were found.
        self.undeclared: dict[str, Path] = {}
        self.undeclared_found: set[Path] = set()

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
        watcher.on_progress(Progress(frames_done=len(self._there)))
        await self._render_gaps(gaps, watcher)
        problem = await run_in_thread(partial(self._find_problem, gaps))
        if problem and gaps != (everything,):
            _log.warning("%s: %s; rendering all frames of the chunk", self._place, problem)
            await run_in_thread(self._begin_anew)
            await self._render_gaps((everything,), watcher)
            problem = await run_in_thread(partial(self._find_problem, (everything,)))
        if problem:
            raise AttemptError(
                f"also: {problem}; have the renderer number such files, or narrow also", needs_change=True
            )

    async def _render_gaps(self, gaps: Sequence[Range], watcher: RenderWatcher) -> None:
        if self._chunk.is_frame_by_frame:
            gaps = [(frame, frame + 1) for gap in gaps for frame in range(*gap)]
        for gap in gaps:
            await self._render_part(gap, watcher)

    def _find_problem(self, gaps: Sequence[Range]) -> str | None:
        """Find why frames of several commands do not make this chunk, and settle what no output declares."""
        is_whole = tuple(gaps) == ((0, self._chunk.count),)
        if not is_whole and not self._chunk.is_frame_by_frame and any(map(self._has_other_names, gaps)):
            # It numbers its files in a way of its own: only those of the whole chunk get the names that are asked for.
            return f"the command cannot render frames {format_ranges(gaps)} of the chunk alone"
        return self._settle_undeclared(self._undeclared) if self._undeclared else None

    def _settle_undeclared(self, undeclared: UndeclaredFiles) -> str | None:
        """Choose the files that no output declares; return what parts the result from that of one command."""
        chosen = {name: self.whole_dir / name for own in self._earlier.undeclared.values() for name in own}
        expected = self.expected_files
        for place in self._part_places:
            for name, file in undeclared.find(place, expected).items():
                self.undeclared_found.add(file)
                first = chosen.setdefault(name, file)
                if first is not file and file_digest(first) != file_digest(file):
                    return f"commands of several frames have written {name}, each with another content"
        self.undeclared = dict(sorted(chosen.items()))
        if not self._earlier.files:
            return None
        kinds: defaultdict[int, set[str]] = defaultdict(set)
        for name, file in chosen.items():
            frame, kind = undeclared.find_frame(name)
            if frame is not None:
                kinds[frame].add(kind)
            elif self._earlier.others.get(name) != {file_digest(file)}:
                return f"{name} is of no frame, and another file when other frames are rendered"
        if lost := self._earlier.others.keys() - chosen.keys():
            return f"{min(lost)} was written by a command before and is not written again"
        every = set[str]().union(*kinds.values())
        if any(kinds[number % self._chunk.count] != every for number in self._earlier.files):
            return "frames of a command before lack files that others have"
        return None

    def _begin_anew(self) -> None:
        """Forget all frames, of this attempt and of those before."""
        if self._kept is not None and self._undeclared is not None:
            self._kept.forbid(self._place.name)
            self._kept = None
        for place in self.part_places:
            shutil.rmtree(place, ignore_errors=True)
        self._make_folders(self.whole_dir)
        # Progress never goes back.
        self._least_done = len(self._there)
        self._runs, self._part_places, self._there = [], [], RangeSet()
        self._earlier, self.undeclared_found = KeptFiles(), set()

    def keep(self) -> None:
        """Keep all finished frames, also those of a command that was stopped; blocking, and never fails."""
        for finished, ended_well in self._runs:
            self._keep(finished, writer_is_done=ended_well)

    def _begin(self, stop: threading.Event) -> None:
        """Take over what earlier attempts have finished."""
        self._make_folders(self.whole_dir)
        if self._kept is None:
            return
        kept = self._kept.verified_files(stop, count=self._chunk.count)
        if kept.is_divisible and len(kept.files) < len(self._names):
            self._salvage(self._kept, kept)
        if self._undeclared is not None and not (kept.is_divisible and self._is_settled(kept, self._undeclared)):
            self._kept.forbid(self._place.name)
            self._kept = None
            return
        # A frame of which a file is missing is rendered again, and then all its files are of one run.
        frames = range(self._chunk.count)
        whole = [numbers for frame in frames if (numbers := self._numbers(frame)) <= kept.files.keys()]
        self._take_over({number: kept.files[number] for numbers in whole for number in numbers})
        self._take_over_undeclared(kept)

    def _is_settled(self, kept: KeptFiles, undeclared: UndeclaredFiles) -> bool:
        """Tell whether files of no frame stayed what they were while frames were rendered."""
        shared = [digests for name, digests in kept.others.items() if undeclared.find_frame(name)[0] is None]
        return all(len(digests) == 1 and digests != {""} for digests in shared)

    def _take_over_undeclared(self, kept: KeptFiles) -> None:
        """Take over the files that no output declares of the frames that were taken over."""
        self._earlier = KeptFiles(others=kept.others)
        for frame in range(self._chunk.count):
            if frame not in self._there:
                continue
            self._earlier.files |= {number: kept.files[number] for number in self._numbers(frame)}
            self._earlier.undeclared[frame] = kept.undeclared.get(frame, {})
            for name, path in self._earlier.undeclared[frame].items():
                target = self.whole_dir / name
                target.parent.mkdir(parents=True, exist_ok=True)
                # Gone: another attempt has published the chunk meanwhile.
                with suppress(FileNotFoundError):
                    link_or_copy(path, target)

    def _numbers(self, frame: int) -> set[int]:
        """Return the numbers of the files of a frame, which is counted from 0."""
        return set(range(frame, len(self._names), self._chunk.count))

    def _salvage(self, keeper: KeptFrames, kept: KeptFiles) -> None:
        """Keep what attempts have finished that could not say so any more; their files stay where they are."""
        salvaged: dict[tuple[int, str], FinishedFrame] = {}
        seen: dict[str, set[str]] = {}
        for folder in self._other_places():
            files = {number: folder / name for number, name in enumerate(self._names)}
            found, others = self._scan(files, folder).take_finished()
            for name, digest in others.items():
                seen.setdefault(name, set()).add(digest)
            lacking = {one.frame for one in found if not one.name and one.frame not in kept.files}
            frames = {number % self._chunk.count for number in lacking}
            # Of a frame that is kept already nothing is added.
            salvaged |= {
                (one.frame, one.name): one
                for one in found
                if (one.frame in frames if one.name else one.frame in lacking)
            }
        keeper.keep(self._place.name, salvaged.values(), {name: min(digests) for name, digests in seen.items()})
        for (number, name), one in salvaged.items():
            if name:
                kept.undeclared.setdefault(number, {})[name] = one.path
            else:
                kept.files[number] = one.path
        for name, digests in seen.items():
            kept.others.setdefault(name, set()).update(digests)

    def _other_places(self) -> Iterator[Path]:
        """Return the folders in which commands of other attempts have written, or still do."""
        for attempt in sorted(self._place.parent.iterdir()):
            # A renderer may have taken away the permissions of its own folder.
            with suppress(PermissionError):
                if attempt != self._place and attempt.is_dir():
                    yield from [folder for folder in sorted(attempt.iterdir()) if self._is_place(folder)]

    def _is_place(self, folder: Path) -> bool:
        # Where frames came together, files that no output declares are missing.
        return folder.is_dir() and (self._undeclared is None or folder.name != _WHOLE_FOLDER)

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
        files, scan = await run_in_thread(partial(self._prepare_part, frames, place))
        before = max(len(self._there), self._least_done)
        run = CommandWatcher(watcher, before=before, count=min(part.count, self._chunk.count - before), used=self.used)
        self._runs.append((scan, False))
        async with run_beside(self._keep_regularly(scan)):
            task = await run_in_thread(partial(self._make_task, part, place, scan))
            self.used += await self._backend.render(task, run)
        # Before their folder is left: links lead elsewhere from another one.
        await run_in_thread(partial(replace_links, files.values(), self._place))
        self._runs[-1] = (scan, True)
        await run_in_thread(partial(self._take_over, files))
        watcher.on_progress(Progress(frames_done=max(len(self._there), self._least_done), usage=self.used))

    def _prepare_part(self, frames: Range, place: Path) -> tuple[dict[int, Path], WholeFrameScanner]:
        """Make the folders that a command writes to; return the file of each frame, and what looks for them."""
        numbers = sorted(set().union(*map(self._numbers, range(*frames))))
        files = {number: place / self._names[number] for number in numbers}
        self._make_folders(place)
        return files, self._scan(files, place)

    def _scan(self, files: Mapping[int, Path], place: Path) -> WholeFrameScanner:
        outputs = len(self._names) // self._chunk.count
        expected = {place / name for name in self._names}
        finished = FinishedFrameScanner(files)
        return WholeFrameScanner(finished, self._undeclared, place, expected, outputs, self._chunk.count)

    def _has_other_names(self, gap: Range) -> bool:
        """Tell whether the command that rendered a gap wrote files, and none of those it was asked for."""
        place = self._part_place(gap)
        return not self._there.within(*gap) and any(path.is_file() for path in place.rglob("*"))

    def _part_place(self, frames: Range) -> Path:
        part = self._chunk.slice_frames(*frames)
        return self._place / f"{part.start}-{part.stop}"

    async def _keep_regularly(self, finished: WholeFrameScanner) -> None:
        while self._kept is not None:
            await asyncio.sleep(_KEEP_SECONDS)
            await run_in_thread(partial(self._keep, finished, writer_is_done=False))

    def _keep(self, finished: WholeFrameScanner, *, writer_is_done: bool) -> None:
        if self._kept is None:
            return
        try:
            # What a stop interrupted here would be taken and not kept, and so rendered again.
            with finish_once_begun():
                self._kept.keep(self._place.name, *finished.take_finished(writer_is_done=writer_is_done))
        except (OSError, AttemptError) as error:
            # A full disk ends the render itself, if it matters; what is not kept is rendered again.
            _log.warning("%s: finished frames cannot be kept: %s", self._place, error)

    def _make_folders(self, place: Path) -> None:
        for folder in {(place / name).parent for name in self._names}:
            folder.mkdir(parents=True, exist_ok=True)
