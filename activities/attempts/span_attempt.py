"""One attempt at a span: render its chunks in order, count failures and bills, and fill heartbeats and the report."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from temporalio import activity
from temporalio.exceptions import FailureError

from activities.activity_context import attempt_name
from activities.attempts.attempt import Attempt, MakeAttempt
from activities.attempts.chunk_bursts import MOST_COMMANDS, ChunkBursts
from activities.attempts.host import Host
from activities.attempts.pictures import SETTLE_SECONDS
from activities.attempts.span_commits import commit_beside
from activities.attempts.span_totals import SpanTotals
from activities.attempts.try_journal import TryJournal
from activities.backends.backend import Progress
from activities.errors import AttemptError, AttemptLostError, ThrottledError, describe_unexpected
from activities.job_watch import JobRenderWatcher, JobWatch, OtherHosts
from activities.stores.job_folder import OpenJob, Sidecar
from activities.stores.segment_writer import SegmentWriter
from longtake.chunks import Chunk
from longtake.concurrency import run_in_thread
from longtake.errors import BadJobError, ErrorType
from longtake.frame_list import describe_frames
from longtake.models.messages import MOST_GIVEN_UP_BYTES, Heartbeat, SpanOrder, SpanReport
from longtake.models.policies import FailurePolicy
from longtake.models.status import ChunkFailure, RemoteStop
from longtake.names import Control
from longtake.ranges import RangeSet, pack_ranges
from longtake.stores.job_records import chunk_key
from longtake.stores.store import StoreError
from longtake.text import cut_middle

_log = logging.getLogger(__name__)

# One chunk alone has a sidecar.
_LEAST_IN_SEGMENT = 2

# A service without room is asked again after 1, 2, 4 ... seconds; one that names a time of its own, after that. A store
# or disk that is away or full is tried again in the same steps.
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
_LONGEST_ASKED_SECONDS = 3600.0

# Reasons kept of a span's failed chunks: they travel in heartbeats.
_MOST_REASONS = 3

# In the failure of a try that is followed by another one: see `data_converter.MOST_MESSAGE_BYTES`.
_MOST_RANGES_OF_TRY = 10

# Age that the orders of a job may have when the next chunk of a span begins. The watch of the job reads them about once
# a second; a question for each chunk took a tenth of the time of chunks that cost nothing.
_ORDERS_SECONDS = 1.0

# A chunk that no other host takes is rendered where it failed before: better than never.
_MOST_PASSED_ON = 8
_LONGEST_PASS_SECONDS = 15.0
_MOST_HOSTS = 16


class RetryError(Exception):
    """A try is over, and Temporal must start another one after a wait.

    Args:
        sentence: The cause.
        type: The error type on the wire.
        wait_seconds: How long to wait.
    """

    def __init__(self, sentence: str, type: ErrorType, wait_seconds: float) -> None:
        super().__init__(sentence)
        self.type = type
        self.wait_seconds = wait_seconds


def throttle_delay_seconds(error: ThrottledError, throttled: int) -> float:
    """Return how long to wait before a service without room is called again.

    Args:
        error: The service's answer.
        throttled: How often in a row the service had no room before.
    """
    if error.wait_seconds is not None:
        # Never earlier than it asks, and not all chunks at once.
        return min(error.wait_seconds, _LONGEST_ASKED_SECONDS) * random.uniform(1, 1.2)
    return _grow_delay(throttled) * random.uniform(0.5, 1)


def lost_try_delay_seconds(away: int) -> float:
    """Return how long to wait before the try after a lost one; at first a worker may have been killed, no more.

    Args:
        away: How many tries in a row were lost before, to a store, a disk or an agent.
    """
    return _grow_delay(away) * (1.0 if not away else random.uniform(0.75, 1))


def _grow_delay(count: int) -> float:
    # The exponent is bounded: a service may be full for days.
    return min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(count, 16))


class SpanAttempt:
    """One attempt of the activity `render_span`.

    Args:
        host: This worker's host.
        make_attempt: Makes the attempt at a chunk.
        others: Hosts that could take a chunk that fails here; None where the host makes no difference.
        job: The job.
        order: The span.
        before: What the attempts before this one have come to; see `ActivityTry`.
        is_after_loss: Whether the worker of the attempt before this one was lost.
    """

    def __init__(
        self,
        host: Host,
        make_attempt: MakeAttempt,
        others: OtherHosts | None,
        job: OpenJob,
        order: SpanOrder,
        before: Heartbeat,
        *,
        is_after_loss: bool = False,
    ) -> None:
        self._host = host
        self._make_attempt = make_attempt
        self._others = others
        self._job = job
        self._order = order
        # Published chunks are met again, and their time and bills with them; what was frozen has died.
        anew = {"frozen": 0, "rendered": 0, "span_frames": 0, "render_seconds": 0, "billed_seconds": 0, "cost_usd": 0}
        self._before = self.heartbeat = before.model_copy(update=anew)
        self._published_before = RangeSet(order.published)
        self.gave_up = RangeSet(self.heartbeat.given_up)
        self.reasons = list(self.heartbeat.reasons)
        self._done = RangeSet()
        self._totals = SpanTotals()
        self._stops: list[RemoteStop] = []
        self._has_tried = False
        self._is_after_loss = is_after_loss
        self._attempt_name = ""
        self._journal = TryJournal(job.folder, host.name)
        # Chunks wait to be published together.
        self._handed_in = asyncio.Event()
        self._bursts: ChunkBursts | None = None

    @property
    def has_news(self) -> bool:
        """Whether the job would lose results if this attempt ended without a report."""
        return bool(self._done or self.gave_up or self.heartbeat.failures or self._stops or self._totals.open_bills)

    async def render(self, watch: JobWatch) -> None:
        """Render the unfinished chunks in order, until one fails for good or the job wants no more.

        Raises:
            RetryError: A chunk failed, is left to another host, met a service without room, or its try was lost.
        """
        try:
            async with self._host.backend.open_span() as backend:
                self._host = replace(self._host, backend=backend)
                await self._render_in_segment(watch)
                await self._settle_pictures()
        except (AttemptLostError, StoreError) as error:
            away = self.heartbeat.away
            wait = lost_try_delay_seconds(away)
            self._update_heartbeat(away=away + 1)
            sentence = f"{error}; the try does not count, and the next one begins in {wait:.0f} s"
            raise RetryError(sentence, ErrorType.ATTEMPT_LOST, wait) from error

    async def _settle_pictures(self) -> None:
        """Wait a bounded time for the pictures of the last chunks, so that a job which has ended has them."""
        if self._host.pictures is not None and self._host.pictures.is_busy:
            await run_in_thread(partial(self._host.pictures.settle, SETTLE_SECONDS))

    async def _render_in_segment(self, watch: JobWatch) -> None:
        """Render with one record of many chunks, where this host renders several."""
        order = self._order
        open_chunks = order.stop - order.start - len(self._published_before.within(order.start, order.stop))
        if self._job.job.remote is not None or open_chunks < _LEAST_IN_SEGMENT:
            await self._render(watch)
            return
        name = attempt_name(activity.info().activity_id)
        segment = SegmentWriter(self._job.folder, order.start, order.stop, name)
        self._host = replace(self._host, segment=segment)
        self._bursts = ChunkBursts.find(self._host, self._job, name, is_after_loss=self._before.losses > 0)
        async with commit_beside(segment, self._count_finished, self._on_wait) as self._handed_in:
            await self._render(watch)

    async def _render(self, watch: JobWatch) -> None:
        for index in range(self._order.start, self._order.stop):
            if index in self._published_before or self._is_handed_in(index):
                continue
            attempt = self._attempt(index)
            if index in self.gave_up:
                await self._totals.record_open(index, attempt)
                continue
            sidecar = None
            async with self._count_unexpected(index, attempt):
                is_begun = self._bursts is not None and self._bursts.has_begun(index)
                if not is_begun:
                    sidecar = await attempt.published()
                if sidecar is None:
                    self._begin_chunk(index)
                    if self._is_after_loss:
                        self._is_after_loss = False
                        lost = self._before.model_copy(update={"chunk": index})
                        await self._journal.write_lost_worker(lost, self._attempt_name)
                    if not is_begun and not await self._may_begin(index, watch):
                        return
                    if self._is_poisonous:
                        await self._give_up_poisonous(self._job.chunks[index], attempt)
                    else:
                        await self._pass_on_if_unfit(index)
                        await self._render_burst(index, watch)
                        if self._is_handed_in(index):
                            continue
                        if not is_begun:
                            attempt = self._attempt(index)
                        sidecar = await self._try(self._job.chunks[index], attempt, watch)
            if sidecar is not None:
                if self.heartbeat.chunk == index:
                    self._update_heartbeat(failures=0, losses=0, away=0)
                if self._is_handed_in(index):
                    # It counts once its record is written.
                    self._handed_in.set()
                    continue
                await self._totals.add_bill(index, attempt)
                self._count_finished({index: sidecar})
            elif self._job.job.on_chunk_failure is not FailurePolicy.CONTINUE or self._is_full:
                return

    async def _may_begin(self, index: int, watch: JobWatch) -> bool:
        """Ask whether the job wants that another chunk begins here."""
        # A worker may have got the span a moment after its job was paused.
        await watch.refresh_if_older(_ORDERS_SECONDS if self._has_tried else 0)
        return not self._is_unwanted(watch, is_first=index == self._order.start)

    def _is_unwanted(self, watch: JobWatch, *, is_first: bool = False) -> bool:
        """Tell whether no further chunk may begin, as far as is known."""
        if watch.orders.control is not Control.RUN or activity.is_worker_shutdown():
            return True
        return watch.orders.split > self._order.split and not is_first

    def _is_handed_in(self, index: int) -> bool:
        """Tell whether a chunk is published with others, or will be in a moment."""
        return self._host.segment is not None and self._host.segment.has(chunk_key(index))

    async def _render_burst(self, first: int, watch: JobWatch) -> None:
        """Render some of the next chunks together, where that works; they are handed in."""
        if self._bursts is None or self._bursts.has_begun(first) or self.heartbeat.failures:
            return
        self._has_tried = True
        left = range(first, min(self._order.stop, first + MOST_COMMANDS))
        indices = [index for index in left if index not in self._published_before and index not in self.gave_up]

        def on_ended(count: int) -> None:
            self._handed_in.set()
            if count < len(indices):
                self._begin_chunk(indices[count])

        await self._bursts.render(
            indices,
            is_interrupted=lambda: self._is_unwanted(watch),
            most_grace_seconds=lambda: JobRenderWatcher(watch, self._on_progress).most_grace_seconds,
            on_ended=on_ended,
            on_wait=self._on_wait,
        )
        if not self._is_handed_in(first):
            self._begin_chunk(first)

    def _count_finished(self, finished: Mapping[int, Sidecar]) -> None:
        for index, sidecar in finished.items():
            self._done.add(index, index + 1)
            self._totals.add_published(sidecar)
        self._update_heartbeat(**self._sums)

    def report(self) -> SpanReport:
        """Return the report of this attempt, whole."""
        return SpanReport(
            done=self._done.ranges,
            failed=self.gave_up.ranges,
            failures=tuple(self.reasons),
            left_failures=self.heartbeat.failures,
            left_losses=self.heartbeat.losses,
            **self._totals.sums,
            **self._totals.usage,
            open_bills=self._totals.open_bills,
            stops=tuple(self._stops),
            notices=tuple(self._totals.notices),
        )

    def report_of_try(self) -> SpanReport:
        """Return a report that fits the failure of a try which is followed by another one.

        It counts only where the job is stopped before that: reasons, bills and all but the first ranges are in the last
        heartbeat, or are found again by the next attempt.
        """
        whole = self.report()
        return SpanReport(
            done=whole.done[:_MOST_RANGES_OF_TRY],
            failed=whole.failed[:_MOST_RANGES_OF_TRY],
            left_failures=whole.left_failures,
            left_losses=whole.left_losses,
            rendered=whole.rendered,
            render_seconds=whole.render_seconds,
            cpu_seconds=whole.cpu_seconds,
            peak_memory_bytes=whole.peak_memory_bytes,
            billed_seconds=whole.billed_seconds,
            cost_usd=whole.cost_usd,
            stops=whole.stops[:1],
        )

    async def _try(self, chunk: Chunk, attempt: Attempt, watch: JobWatch) -> Sidecar | None:
        """Return the sidecar, or None when the chunk has used up its tries."""
        self._has_tried = True
        self._update_heartbeat(
            frames=chunk.count,
            frames_done=0,
            attempt=self.heartbeat.failures + 1,
            host=self._host.name,
        )
        self._journal.begin()
        try:
            return await attempt.run(JobRenderWatcher(watch, self._on_progress, self._on_frozen))
        except asyncio.CancelledError:
            if attempt.stop is not None:
                self._stops.append(attempt.stop)
            await self._totals.record_open(chunk.index, attempt)
            raise
        except AttemptLostError as error:
            self._update_heartbeat(losses=self.heartbeat.losses + error.by_render)
            if error.by_render:
                # Others are of stores and disks that are away, for days: no chunk has done anything there.
                await self._write_try(chunk.index, attempt, error, self.heartbeat.attempt, lost=True)
            raise
        except ThrottledError as error:
            throttled = self.heartbeat.throttled
            self._update_heartbeat(throttled=throttled + 1)
            sentence = f"chunk {chunk.index} waits: {error}"
            raise RetryError(sentence, ErrorType.THROTTLED, throttle_delay_seconds(error, throttled)) from error
        except (AttemptError, BadJobError) as error:
            await self._count_try(chunk, attempt, error)
            return None

    @asynccontextmanager
    async def _count_unexpected(self, index: int, attempt: Attempt) -> AsyncIterator[None]:
        """Count an error that no code expects as a failed try of the chunk at hand: it would be the same for ever."""
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError | FailureError | RetryError | AttemptLostError):
                raise
            self._begin_chunk(index)
            if not isinstance(error, AttemptError):
                _log.exception("job %s: chunk %d: an unexpected error", self._order.ref.id, index)
                error = AttemptError(describe_unexpected(error))
            await self._count_try(self._job.chunks[index], attempt, error)

    def give_up_chunk(self, error: str) -> None:
        """Give up the chunk at hand, around whose render an unexpected error has come again and again."""
        chunk = self._job.chunks[self.heartbeat.chunk]
        self._give_up(chunk, self.heartbeat.failures + 1, error, self._attempt(chunk.index))

    async def _count_try(self, chunk: Chunk, attempt: Attempt, error: AttemptError | BadJobError) -> None:
        """Count a failed try, and give the chunk up when it was the last one.

        Raises:
            RetryError: The chunk has tries left.
        """
        failures = self.heartbeat.failures + 1
        sentence = f"chunk {chunk.index} (frames {describe_frames(chunk.frames)}): {error}"
        retry = self._job.job.retry
        if isinstance(error, AttemptError) and not error.fatal and failures < retry.attempts:
            self._count_failure(failures, error)
            await self._write_try(chunk.index, attempt, error, failures)
            wait = retry.delay_seconds(failures) if error.wait_seconds is None else error.wait_seconds
            raise RetryError(sentence, ErrorType.ATTEMPT_FAILED, wait) from error
        _log.error("job %s: %s; that was its last try", self._order.ref.id, sentence)
        needs_change = isinstance(error, AttemptError) and error.needs_change
        self._give_up(chunk, failures, f"{error}", attempt, needs_change=needs_change)
        await self._write_try(chunk.index, attempt, error, failures, last=True)
        await self._totals.record_open(chunk.index, attempt)

    async def _give_up_poisonous(self, chunk: Chunk, attempt: Attempt) -> None:
        self._has_tried = True
        losses = self.heartbeat.losses
        error = (
            f"{losses} workers were lost while they rendered it, so no other one gets it; look into their logs and "
            "the memory of their hosts, then `longtake retry`; retry.lost_workers allows more"
        )
        _log.error("job %s: chunk %d: %s", self._order.ref.id, chunk.index, error)
        self._give_up(chunk, self.heartbeat.failures + losses, error, attempt)
        self._journal.begin()
        await self._write_try(chunk.index, attempt, error, losses, last=True)
        await self._totals.record_open(chunk.index, attempt)

    async def _write_try(
        self,
        chunk: int,
        attempt: Attempt,
        error: Exception | str,
        number: int,
        *,
        lost: bool = False,
        last: bool = False,
    ) -> None:
        await self._journal.write(
            chunk, self._attempt_name, error, number=number, log=attempt.log, lost=lost, last=last
        )

    def _count_failure(self, failures: int, error: AttemptError) -> None:
        here, same_host = self._host.name, self._job.job.retry.same_host
        failed_on = (*self.heartbeat.failed_on, here)[-2 * same_host :]
        avoid = self.heartbeat.avoid
        if here not in avoid and (error.another_host or failed_on.count(here) >= same_host):
            avoid = (*avoid, here)[-_MOST_HOSTS:]
        self._update_heartbeat(
            failures=failures, failed_on=failed_on, avoid=avoid, given_back=0, frames_done=0, frozen=0
        )

    async def _pass_on_if_unfit(self, index: int) -> None:
        """Leave a chunk that keeps failing on this host to another host, if there is one."""
        beat = self.heartbeat
        if self._others is None or self._host.name not in beat.avoid or beat.given_back >= _MOST_PASSED_ON:
            return
        if not await self._others.has_any():
            return
        self._update_heartbeat(given_back=beat.given_back + 1)
        raise RetryError(
            f"chunk {index} has failed on {self._host.name} before and is left to another host",
            ErrorType.ANOTHER_HOST,
            min(_LONGEST_PASS_SECONDS, 0.5 * 2**beat.given_back),
        )

    def _give_up(
        self, chunk: Chunk, failures: int, error: str, attempt: Attempt, *, needs_change: bool = False
    ) -> None:
        self.gave_up.add(chunk.index, chunk.index + 1)
        if len(self.reasons) < _MOST_REASONS:
            self.reasons.append(
                ChunkFailure(
                    chunk=chunk.index,
                    start=chunk.start,
                    stop=chunk.stop,
                    attempts=failures,
                    error=cut_middle(error, 800),
                    host=self._host.name,
                    log=attempt.log,
                    needs_change=needs_change,
                )
            )
        self._update_heartbeat(
            failures=0, losses=0, given_up=self.gave_up.ranges, reasons=tuple(self.reasons), frozen=0
        )

    def _begin_chunk(self, index: int) -> None:
        """Start the heartbeat of another chunk; failed tries of the attempt before are taken over."""
        if index == self.heartbeat.chunk:
            return
        begun = self._before if index == self._before.chunk else Heartbeat(chunk=index, number=self._before.number)
        if not self._has_tried:
            # Heartbeats lag behind: the worker before may have been lost at a later chunk than it told of.
            begun = begun.model_copy(update={"losses": self._before.losses})
        self.heartbeat = begun.model_copy(
            update={
                "given_up": self.gave_up.ranges,
                "reasons": tuple(self.reasons),
                "host": self._host.name,
                **self._sums,
            }
        )

    def _on_progress(self, progress: Progress) -> None:
        self._journal.note_progress(progress)
        self._update_heartbeat(
            frames_done=progress.frames_done,
            message=progress.message[:400],
            cpu_seconds=round(progress.usage.cpu_seconds, 2),
            memory_bytes=progress.usage.memory_bytes,
            io_bytes=progress.usage.io_bytes,
            throttled=0,
        )

    def _on_wait(self, message: str) -> None:
        self._update_heartbeat(message=message[:400])

    def _on_frozen(self, order: int) -> None:
        self._update_heartbeat(frozen=order)

    def _update_heartbeat(self, **fields: object) -> None:
        self.heartbeat = self.heartbeat.model_copy(update=fields)

    @property
    def _is_poisonous(self) -> bool:
        """Whether the chunk at hand may take its workers down; one that a service renders cannot."""
        job = self._job.job
        return job.remote is None and self.heartbeat.losses >= job.retry.lost_workers

    @property
    def _is_full(self) -> bool:
        """Whether heartbeats hold no more scattered failures: the next attempt must know of each."""
        return len(pack_ranges(self.gave_up.ranges)) > MOST_GIVEN_UP_BYTES

    @property
    def _sums(self) -> dict[str, object]:
        """The fields of a heartbeat that add up the span's published chunks."""
        return {**self._totals.sums, "span_frames": self._totals.frames}

    def _attempt(self, index: int) -> Attempt:
        if self._bursts is not None and self._bursts.has_begun(index):
            self._attempt_name = self._bursts.name
        else:
            self._attempt_name = attempt_name(activity.info().activity_id)
        return self._make_attempt(self._host, self._job, self._job.chunks[index], self._attempt_name)
