"""Render chunks of a span in bursts: those of one file each, which a command that says nothing makes in no time.

What is not as usual is left to `ChunkAttempt`, which goes on where the burst has come to.
"""

import asyncio
import logging
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

from activities.attempts.chunk_attempt import ChunkAttempt
from activities.attempts.host import Host, attempt_tag
from activities.attempts.store_io import make_log_folder, retry_while_store_is_away
from activities.backends.backend import RenderTask
from activities.backends.local import LocalBackend
from activities.errors import AttemptError
from activities.media.images.image_formats import find_formats
from activities.processes.render_process import EndedCommand
from activities.processes.supervisor import SupervisorError
from activities.stores.job_folder import OpenJob, Sidecar
from activities.stores.kept_frames import file_signature
from activities.stores.publish import clear_attempts, discard_attempt
from activities.stores.segment_writer import SegmentWriter
from longtake.chunks import Chunk
from longtake.concurrency import clean_up_in_thread, run_in_thread
from longtake.errors import BadJobError
from longtake.models.pictures import PictureSpec
from longtake.paths import OutputKind
from longtake.stores.directory import digest_stream
from longtake.stores.job_records import PublishedFile, chunk_key
from longtake.stores.store import StoreError

_log = logging.getLogger(__name__)

# Commands that are given to a keeper at once, and how long they may take together.
MOST_COMMANDS = 32
_FIRST_COMMANDS = 4
_BURST_SECONDS = 0.2

# A command that takes longer is watched: for progress, limits and freezes.
LONGEST_SECONDS = 0.1

# An order of the job reaches the keeper after this time at most.
_ORDER_SECONDS = 0.05

# After a command that was not as usual so many are started alone, twice as many after each further one.
_MOST_ALONE = 64


class _Planned(NamedTuple):
    """A chunk of a burst: its command, the file that it makes, and where that is published."""

    chunk: Chunk
    task: RenderTask
    # Folders that were made for it, outermost first, and the only file in them.
    folders: tuple[str, ...]
    made: str
    target: str


class ChunkBursts:
    """The bursts of one attempt at a span.

    Args:
        host: The host that renders.
        backend: Its backend.
        segment: Its segment.
        job: The job.
        name: Name of the attempts at all of its chunks.
    """

    def __init__(self, host: Host, backend: LocalBackend, segment: SegmentWriter, job: OpenJob, name: str) -> None:
        self._host = host
        self._backend = backend
        self._segment = segment
        self._job = job
        self.name = name
        self._store = job.folder.store
        self._common: RenderTask | None = None
        # Where attempts lie, also with all links followed.
        self._attempts, self._real_attempts = f"{job.folder.path}/attempts", ""
        # Of a new folder.
        self._mode = 0
        self._programs: dict[str, str] = {}
        self._begun: set[int] = set()
        self._size = _FIRST_COMMANDS
        self._alone = self._alone_next = 0

    @classmethod
    def find(cls, host: Host, job: OpenJob, name: str, *, is_after_loss: bool) -> Self | None:
        """Return the bursts of an attempt, where the host can run them and nothing of the job needs more.

        Args:
            host: The host that renders.
            job: The job.
            name: Name of the attempt.
            is_after_loss: Whether a worker was lost at chunks of the span. Those that it may have begun are rendered
                alone, and told of one by one, so that the right one is blamed.
        """
        spec, backend = job.job, host.backend
        needs_more = spec.also or spec.check is not None or spec.session is not None or spec.retry.rules
        if not job.folder.store.is_local or host.segment is None or needs_more:
            return None
        if not isinstance(backend, LocalBackend) or not backend.takes_bursts:
            return None
        bursts = cls(host, backend, host.segment, job, name)
        bursts._alone = _MOST_ALONE if is_after_loss else 0
        return bursts

    def has_begun(self, index: int) -> bool:
        """Tell whether a chunk was begun in a burst, and is to be rendered to its end by a `ChunkAttempt`."""
        return index in self._begun

    async def render(
        self,
        indices: Sequence[int],
        *,
        is_interrupted: Callable[[], bool],
        most_grace_seconds: Callable[[], float],
        on_ended: Callable[[int], None],
        on_wait: Callable[[str], None],
    ) -> None:
        """Render some of the next chunks and hand them in to the segment; it may be none.

        Args:
            indices: The next chunks of the span.
            is_interrupted: Returns whether the job wants something else than that further chunks begin.
            most_grace_seconds: Returns the longest grace for the end of a render.
            on_ended: Called with the number of those that are rendered, each time when there are more.
            on_wait: Called with the cause before each wait for a store that is away.

        Raises:
            StoreError: The store is away, or this is another one.
        """
        if self._alone > 0:
            self._alone -= 1
            return
        planned = await run_in_thread(partial(self._plan, indices[: self._size]))
        if not planned:
            return
        count = proven = 0
        began = asyncio.get_running_loop().time()
        try:
            async with AsyncExitStack() as stack:
                opening = self._backend.open_burst(
                    [each.task for each in planned],
                    longest_seconds=LONGEST_SECONDS,
                    most_grace_seconds=most_grace_seconds,
                )
                try:
                    burst = await stack.enter_async_context(opening)
                except (OSError, SupervisorError):
                    # Started alone, the first one tells more.
                    return
                while count < burst.count_ended or not burst.is_over:
                    if ended := await burst.wait(_ORDER_SECONDS):
                        part = list(zip(planned[count:], ended, strict=False))
                        count += len(part)
                        unproven = await retry_while_store_is_away(partial(self._prove, part), on_wait)
                        for each, end in unproven:
                            self._begun.add(each.chunk.index)
                            self._backend.take_up(each.task, end)
                        proven += len(part) - len(unproven)
                        on_ended(count)
                    if not burst.is_over and is_interrupted():
                        await burst.recall()
            if burst.kept is not None:
                self._begun.add(planned[count].chunk.index)
        finally:
            if left := [each for each in planned if not self._is_left_to_others(each)]:
                await clean_up_in_thread(partial(self._clear, left))
        self._adapt(proven, asyncio.get_running_loop().time() - began, is_usual=proven == len(planned))

    def _adapt(self, proven: int, seconds: float, *, is_usual: bool) -> None:
        """Choose the size of the next burst by how the last one went."""
        if is_usual:
            self._alone_next //= 2
            fitting = int(_BURST_SECONDS * proven / max(seconds, 1e-3))
            self._size = max(1, min(4 * self._size, fitting, MOST_COMMANDS))
        else:
            self._alone_next = min(_MOST_ALONE, 2 * self._alone_next or 1)
            self._alone, self._size = self._alone_next - 1, _FIRST_COMMANDS

    def _plan(self, indices: Sequence[int]) -> list[_Planned]:
        """Make the places of chunks, up to the first one that needs more than a burst does, or cannot have one."""
        self._job.folder.check_store()
        planned: list[_Planned] = []
        try:
            for index in indices:
                chunk = self._job.chunks[index]
                if not self._is_plain(chunk) or not self._segment.is_free(chunk_key(index)):
                    break
                planned.append(self._plan_chunk(chunk))
        except StoreError:
            raise
        except (OSError, AttemptError, BadJobError) as error:
            _log.debug("chunk %d is rendered alone, which tells more: %s", index, error)
        if not self._may_publish(planned):
            self._clear(planned)
            return []
        return planned

    def _is_plain(self, chunk: Chunk) -> bool:
        """Tell whether a chunk is one file, of which nothing else is made."""
        if chunk.kind is not OutputKind.FILE or len(chunk.templates) > 1 or chunk.writes_in_place:
            return False
        leaves_pictures = self._host.pictures is not None and isinstance(self._job.job.pictures, PictureSpec)
        return not (leaves_pictures and find_formats(Path(chunk.output_template).suffix))

    def _may_publish(self, planned: Sequence[_Planned]) -> bool:
        """Tell whether chunks may be published where they belong; a render may have put a link in a folder's place."""
        targets = {os.path.dirname(each.target): each.target for each in planned}
        try:
            self._host.check_targets(self._job, list(targets.values()))
        except BadJobError:
            return False
        return True

    def _plan_chunk(self, chunk: Chunk) -> _Planned:
        """Make the place of a chunk, and return what renders it there.

        Raises:
            OSError: It cannot be made.
            BadJobError: The program may not run here.
        """
        key = chunk_key(chunk.index)
        place = f"{self._attempts}/{key}/{self.name}"
        (path,) = chunk.outputs()
        made = f"{place}/{self._job.place_output(path)}"
        places = chunk.place_outputs(lambda path: f"{place}/{self._job.place_output(path)}")
        command = chunk.expand_command(chunk.command_template, places)
        if self._common is None:
            os.makedirs(self._attempts, exist_ok=True)
            self._real_attempts = os.path.realpath(self._attempts)
            self._common = ChunkAttempt(self._host, self._job, chunk, self.name).make_plain_task()
            make_log_folder(self._store, self._job.folder.log_path(key, self.name))
        task = replace(
            self._common,
            command=(self._find_program(command[0]), *command[1:]),
            tag=attempt_tag(self._job, chunk=str(chunk.index), attempt=self.name),
            log=Path(self._job.folder.log_path(key, self.name)),
        )
        folders = [place]
        for name in made[len(place) + 1 :].split("/")[:-1]:
            folders.append(f"{folders[-1]}/{name}")
        planned = _Planned(chunk, task, tuple(folders), made, self._job.target(path))
        if not self._reuse_place(planned):
            self._make_place(planned)
        return planned

    def _make_place(self, planned: _Planned) -> None:
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(planned.folders[0]))
        try:
            for folder in planned.folders:
                os.mkdir(folder)
            self._mode = os.stat(planned.folders[0]).st_mode
        except OSError:
            self._clear([planned])
            raise

    def _reuse_place(self, planned: _Planned) -> bool:
        """Move the place of a finished chunk here, if there is one whose folders are as they were."""
        before = self._segment.take_emptied()
        if before is None:
            return False
        key = chunk_key(planned.chunk.index)
        root = f"{self._attempts}/{before}"
        folders = [root + folder[len(self._attempts) + 1 + len(key) :] for folder in planned.folders]
        expected = [[os.path.basename(folder)] for folder in folders] + [[]]
        try:
            is_clean = all(
                os.listdir(folder) == names for folder, names in zip([root, *folders], expected, strict=True)
            ) and all(os.lstat(folder).st_mode == self._mode for folder in folders)
            if is_clean:
                os.rename(root, f"{self._attempts}/{key}")
                return True
        except OSError as error:
            _log.debug("%s is not used again: %s", root, error)
        clear_attempts(self._job.folder, before)
        return False

    def _find_program(self, name: str) -> str:
        """Return the path of a program; what has come to be there since is found by the next bursts."""
        if name not in self._programs:
            self._programs[name] = self._host.programs.resolve(
                (name,), base_dir=Path(self._store.url), field="command"
            )[0]
        return self._programs[name]

    def _prove(self, ended: Sequence[tuple[_Planned, EndedCommand]]) -> list[tuple[_Planned, EndedCommand]]:
        """Hand in the chunks whose files are as they must be, and return the others."""
        self._job.folder.check_store()
        may_publish = self._may_publish([planned for planned, _ in ended])
        proven, unproven = [], []
        for planned, end in ended:
            file = self._read_output(planned) if may_publish else None
            if file is None:
                unproven.append((planned, end))
            else:
                proven.append(self._make_record(planned, end, file))
        self._segment.publish_plain(proven)
        return unproven

    def _read_output(self, planned: _Planned) -> PublishedFile | None:
        """Read the file that a command has made; None where it is not as it must be, or not alone."""
        made = planned.made
        try:
            # A pipe would be waited for.
            descriptor = os.open(made, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb", buffering=0) as file:
                before = os.fstat(descriptor)
                # The path with all links followed, of which there must be none.
                real = self._real_attempts + made[len(self._attempts) :]
                if not stat.S_ISREG(before.st_mode) or not before.st_size or _real_path(descriptor) != real:
                    return None
                digest = digest_stream(file)
            if file_signature(os.lstat(made)) != file_signature(before):
                return None
            if any(len(os.listdir(folder)) > 1 for folder in planned.folders):
                return None
        except StoreError:
            raise
        except OSError:
            return None
        return PublishedFile(
            path=planned.target,
            attempt_path=made,
            size_bytes=before.st_size,
            sha256=digest,
            modified_ns=before.st_mtime_ns,
        )

    def _make_record(self, planned: _Planned, ended: EndedCommand, file: PublishedFile) -> Sidecar:
        key = chunk_key(planned.chunk.index)
        return Sidecar(
            key=key,
            digest=self._job.ref.digest,
            chunk_digest=self._job.compute_digest(key),
            attempt=self.name,
            host=self._host.name,
            frames=planned.chunk.count,
            files=(file,),
            render_seconds=round(ended.seconds, 3),
            cpu_seconds=round(ended.cpu_seconds, 3),
            peak_memory_bytes=ended.peak_memory_bytes,
            log=self._job.folder.log_path(key, self.name),
        )

    def _is_left_to_others(self, planned: _Planned) -> bool:
        """Tell whether the segment or a `ChunkAttempt` goes on with what a command has made."""
        return planned.chunk.index in self._begun or self._segment.has(chunk_key(planned.chunk.index))

    def _clear(self, planned: Sequence[_Planned]) -> None:
        """Remove the places of chunks that were not begun, or whose end nobody has seen."""
        for each in planned:
            try:
                discard_attempt(self._job.folder, chunk_key(each.chunk.index), self.name)
            except OSError as error:
                # What is left goes with the chunk's other attempts, when it is published.
                _log.warning("what %s has left cannot be cleared away: %s", each.folders[0], error)


def _real_path(descriptor: int) -> str:
    """Return the path of an open file, with all links followed; bursts are for Linux alone."""
    return os.readlink(f"/proc/self/fd/{descriptor}")
