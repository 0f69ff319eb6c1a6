"""Render chunks of a span in bursts: those of one file each, which a command that says nothing makes in no time.

What is not as usual is left to `ChunkAttempt`, which goes on where the burst has come to.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from activities.attempts.attempt import Attempt, Bill, MakeAttempt
from activities.attempts.burst_folders import BurstFolders, BurstPlace
from activities.attempts.chunk_attempt import ChunkAttempt
from activities.attempts.host import Host, attempt_tag
from activities.attempts.output_check import PICTURE_SUFFIXES
from activities.attempts.span_progress import SpanProgress
from activities.attempts.store_io import make_log_folder, retry_while_store_is_away
from activities.backends.backend import RenderTask, RenderWatcher
from activities.backends.local import LocalBackend
from activities.errors import AttemptError
from activities.media.images.image_formats import find_formats
from activities.processes.render_process import EndedCommand
from activities.processes.supervisor import SupervisorError
from activities.stores.job_folder import OpenJob, Sidecar
from activities.stores.segment_writer import SegmentWriter
from longtake.chunks import Chunk
from longtake.concurrency import clean_up_in_thread, run_in_thread
from longtake.errors import BadJobError
from longtake.models.pictures import PictureSpec
from longtake.models.status import RemoteStop
from longtake.paths import OutputKind
from longtake.stores.job_layout import chunk_key
from longtake.stores.publications import PublishedFile
from longtake.stores.store import StoreError

_log = logging.getLogger(__name__)

# Commands that are given to a keeper at once, and how long they may take together.
MOST_COMMANDS = 32
_FIRST_COMMANDS = 4
_BURST_SECONDS = 10.0

# A command that takes longer is watched, for progress and limits; or a share of these, where they are short.
LONGEST_SECONDS = 2.0
_LIMIT_SHARE = 0.1

# An order of the job reaches the keeper after this time at most.
_ORDER_SECONDS = 0.05

# After a command that was not as usual so many are started alone, twice as many after each further one.
_MOST_ALONE = 64


@asynccontextmanager
async def open_bursts(
    host: Host,
    job: OpenJob,
    name: str,
    make_alone: MakeAttempt,
    progress: SpanProgress,
    is_interrupted: Callable[[], bool],
) -> AsyncIterator[MakeAttempt]:
    """Yield what makes the attempts at the chunks of a span: in bursts, where the host has them and the job allows.

    Args:
        host: The host that renders, with the segment of the span.
        job: The job.
        name: Name of the attempts in bursts.
        make_alone: Makes the attempt at a chunk that is rendered alone.
        progress: State of the span.
        is_interrupted: Returns whether the job wants something else than that further chunks begin.
    """
    spec, backend, segment = job.job, host.backend, host.segment
    needs_more = spec.also or spec.check is not None or spec.session is not None or spec.retry.rules
    if not job.folder.store.is_local or segment is None or needs_more:
        yield make_alone
        return
    if not isinstance(backend, LocalBackend) or not backend.takes_bursts:
        yield make_alone
        return
    bursts = ChunkBursts(host, backend, segment, job, name, progress, is_interrupted)

    def make(host: Host, job: OpenJob, chunk: Chunk, name: str) -> Attempt:
        return BurstAttempt(bursts, chunk, name, lambda name: make_alone(host, job, chunk, name))

    try:
        yield make
    finally:
        try:
            await clean_up_in_thread(bursts.folders.close)
        except OSError as error:
            # They go with the next attempt at a span of these chunks, or with the job.
            _log.warning("places of finished chunks cannot be removed: %s", error)


class BurstAttempt:
    """One attempt at a chunk, which begins a burst of it and the chunks after it.

    It goes on as an attempt alone where no burst can be begun, or where the chunk is not finished in one.

    Args:
        bursts: The bursts of the span.
        chunk: The chunk.
        name: Name of the attempt where it renders alone.
        make_alone: Makes the attempt at the chunk alone, by its name.
    """

    def __init__(self, bursts: "ChunkBursts", chunk: Chunk, name: str, make_alone: Callable[[str], Attempt]) -> None:
        self._bursts = bursts
        self._chunk = chunk
        self._make_alone = make_alone
        self._alone = make_alone(bursts.name if self.is_begun else name)

    @property
    def name(self) -> str:
        """Name of the attempt."""
        return self._alone.name

    @property
    def is_begun(self) -> bool:
        """Whether the chunk was begun in a burst, and is not finished by that."""
        return self._bursts.has_begun(self._chunk.index)

    @property
    def log(self) -> str:
        """Location of the renderer's log."""
        return self._alone.log

    @property
    def stop(self) -> RemoteStop | None:
        """None: nothing renders elsewhere."""
        return self._alone.stop

    async def published(self) -> Sidecar | None:
        """Return the sidecar if the chunk is finished, by whomever; a burst has looked for it before it began."""
        return None if self.is_begun else await self._alone.published()

    async def run(self, watcher: RenderWatcher) -> Sidecar:
        """Render, check and publish the chunk, and hand in those that are rendered along with it; see `Attempt.run`."""
        if not self.is_begun:
            if (sidecar := await self._bursts.render(self._chunk, watcher)) is not None:
                return sidecar
            if self.is_begun:
                self._alone = self._make_alone(self._bursts.name)
        return await self._alone.run(watcher)

    async def bill(self) -> Bill:
        """Return the bill of all attempts at this chunk so far."""
        return await self._alone.bill()


class _Planned(NamedTuple):
    """A chunk of a burst: its command, where that writes, and where the file is published."""

    chunk: Chunk
    task: RenderTask
    place: BurstPlace
    target: str


class ChunkBursts:
    """The bursts of one attempt at a span.

    Args:
        host: The host that renders.
        backend: Its backend.
        segment: Its segment.
        job: The job.
        name: Name of the attempts at all of its chunks.
        progress: State of the span.
        is_interrupted: Returns whether the job wants something else than that further chunks begin.
    """

    def __init__(
        self,
        host: Host,
        backend: LocalBackend,
        segment: SegmentWriter,
        job: OpenJob,
        name: str,
        progress: SpanProgress,
        is_interrupted: Callable[[], bool],
    ) -> None:
        self._host = host
        self._backend = backend
        self._segment = segment
        self._job = job
        self.name = name
        self._progress = progress
        self._is_interrupted = is_interrupted
        self._store = job.folder.store
        self.folders = BurstFolders(job.folder, name)
        self._common: RenderTask | None = None
        self._programs: dict[str, str] = {}
        self._begun: set[int] = set()
        self._size = _FIRST_COMMANDS
        # Chunks that a lost worker may have begun are rendered alone, and told of one by one, so that the right one is
        # blamed.
        self._alone = _MOST_ALONE if progress.heartbeat.losses > 0 else 0
        self._alone_next = 0

    def has_begun(self, index: int) -> bool:
        """Tell whether a chunk was begun in a burst, and is to be rendered to its end by a `ChunkAttempt`."""
        return index in self._begun

    async def render(self, first: Chunk, watcher: RenderWatcher) -> Sidecar | None:
        """Render some of the next chunks and hand them in to the segment; it may be none.

        Args:
            first: The first of them, the chunk at hand.
            watcher: Its watcher.

        Returns:
            The record of the first chunk; None where it is to be rendered alone.

        Raises:
            StoreError: The store is away, or this is another one.
        """
        if self._progress.heartbeat.failures:
            return None
        if self._alone > 0:
            self._alone -= 1
            return None
        chunks = self._progress.list_open(first.index, MOST_COMMANDS)
        planned = await run_in_thread(partial(self._plan, chunks[: self._size]))
        if not planned:
            return None
        began = asyncio.get_running_loop().time()
        try:
            records = await self._run(planned, chunks, watcher)
        finally:
            if left := [each.place for each in planned if not self._is_left_to_others(each)]:
                await clean_up_in_thread(partial(self._discard, left))
        if records is None:
            return None
        self._adapt(len(records), asyncio.get_running_loop().time() - began, is_usual=len(records) == len(planned))
        if first.index not in records:
            self._progress.begin_try(first)
        return records.get(first.index)

    async def _run(
        self, planned: Sequence[_Planned], chunks: Sequence[int], watcher: RenderWatcher
    ) -> dict[int, Sidecar] | None:
        """Run commands until all have ended, or one or an order of the job ends the burst.

        Args:
            planned: The chunks of the burst.
            chunks: The same and the next ones of the span.
            watcher: Watcher of the first one.

        Returns:
            The records of those that are handed in; None where no burst can be begun.
        """
        limits = self._job.job.timeouts
        shortest = min(limits.chunk_seconds, limits.stall_seconds, limits.linger_seconds)
        opening = self._backend.open_burst(
            [each.task for each in planned],
            longest_seconds=min(LONGEST_SECONDS, _LIMIT_SHARE * shortest),
            most_grace_seconds=lambda: watcher.most_grace_seconds,
        )
        records: dict[int, Sidecar] = {}
        count = 0
        async with AsyncExitStack() as stack:
            try:
                burst = await stack.enter_async_context(opening)
            except (OSError, SupervisorError):
                # Started alone, the first one tells more.
                return None
            while count < burst.count_ended or not burst.is_over:
                if ended := await burst.wait(_ORDER_SECONDS):
                    part = list(zip(planned[count:], ended, strict=False))
                    count += len(part)
                    records |= await self._settle(part)
                    if count < len(chunks):
                        self._progress.begin_chunk(chunks[count], frames=self._job.chunks[chunks[count]].count)
                if not burst.is_over and self._is_interrupted():
                    await burst.recall()
        if burst.kept is not None:
            self._begun.add(planned[count].chunk.index)
        return records

    async def _settle(self, ended: Sequence[tuple[_Planned, EndedCommand]]) -> dict[int, Sidecar]:
        """Hand in the chunks whose files are as they must be and return their records; leave others to the backend."""
        records = await retry_while_store_is_away(partial(self._prove, ended), self._progress.on_wait)
        for planned, end in ended:
            if planned.chunk.index not in records:
                self._begun.add(planned.chunk.index)
                self._backend.take_up(planned.task, end)
        return records

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
            self._discard([each.place for each in planned])
            return []
        return planned

    def _is_plain(self, chunk: Chunk) -> bool:
        """Tell whether a chunk is one file, of which nothing else is made."""
        if chunk.kind is not OutputKind.FILE or len(chunk.templates) > 1 or chunk.writes_in_place:
            return False
        if Path(chunk.output_template).suffix.lower() in PICTURE_SUFFIXES:
            # Proven by its structure, and not by its size alone.
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
        (path,) = chunk.outputs()
        place = self.folders.locate(key, self._job.place_output(path))
        places = chunk.place_outputs(lambda path: f"{place.folders[0]}/{self._job.place_output(path)}")
        command = chunk.expand_command(chunk.command_template, places)
        log = self._job.folder.log_path(key, self.name)
        if self._common is None:
            self.folders.open()
            self._common = ChunkAttempt(self._host, self._job, chunk, self.name).make_plain_task()
            make_log_folder(self._store, log)
        task = replace(
            self._common,
            command=(self._find_program(command[0]), *command[1:]),
            tag=attempt_tag(self._job, chunk=str(chunk.index), attempt=self.name),
            log=Path(log),
        )
        self.folders.make(place)
        return _Planned(chunk, task, place, self._job.target(path))

    def _find_program(self, name: str) -> str:
        """Return the path of a program; what has come to be there since is found by the next bursts."""
        if name not in self._programs:
            self._programs[name] = self._host.programs.resolve(
                (name,), base_dir=Path(self._store.url), field="command"
            )[0]
        return self._programs[name]

    def _prove(self, ended: Sequence[tuple[_Planned, EndedCommand]]) -> dict[int, Sidecar]:
        """Hand in the chunks whose files are as they must be, and return their records by their numbers."""
        self._job.folder.check_store()
        if not self._may_publish([planned for planned, _ in ended]):
            return {}
        records = [
            self._make_record(planned, end, file)
            for planned, end in ended
            if (file := self.folders.prove(planned.place, planned.target)) is not None
        ]
        handed_in = self._segment.publish_declared(records, self.folders.release)
        return {int(record.key): record for record in handed_in}

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

    def _discard(self, places: Sequence[BurstPlace]) -> None:
        for place in places:
            self.folders.discard(place)
