"""One attempt at a span: render its chunks in order, and decide what follows from each try that fails."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from temporalio import activity
from temporalio.exceptions import FailureError

from activities.activity_context import attempt_name
from activities.attempts.attempt import Attempt, MakeAttempt
from activities.attempts.chunk_bursts import open_bursts
from activities.attempts.host import Host
from activities.attempts.pictures import SETTLE_SECONDS
from activities.attempts.span_progress import SpanProgress
from activities.attempts.store_io import commit_beside
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
from longtake.models.messages import Heartbeat, SpanOrder
from longtake.models.policies import FailurePolicy
from longtake.names import Control
from longtake.stores.job_layout import chunk_key
from longtake.stores.store import StoreError

_log = logging.getLogger(__name__)

# One chunk alone has a sidecar.
_LEAST_IN_SEGMENT = 2

# A service without room is asked again after 1, 2, 4 ... seconds; one that names a time of its own, after that. A store
# or disk that is away or full is tried again in the same steps.
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
_LONGEST_ASKED_SECONDS = 3600.0

# Age that the orders of a job may have when the next chunk of a span begins. The watch of the job reads them about once
# a second; a question for each chunk took a tenth of the time of chunks that cost nothing.
_ORDERS_SECONDS = 1.0

# A chunk that no other host takes is rendered where it failed before: better than never.
_MOST_PASSED_ON = 8
_LONGEST_PASS_SECONDS = 15.0


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

    Attributes:
        progress: What the chunks have come to: the heartbeat and the report.
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
        self.progress = SpanProgress(order, before, host.name)
        # The last heartbeat of a worker that was lost, until its try is written down.
        self._lost = self.progress.heartbeat if is_after_loss else None
        self._journal = TryJournal(job.folder, host.name)

    async def render(self, watch: JobWatch) -> None:
        """Render the unfinished chunks in order, until one fails for good or the job wants no more.

        Raises:
            RetryError: A chunk failed, is left to another host, met a service without room, or its try was lost; or
                the wait before its next try was not over when the span before was taken back.
        """
        info = activity.info()
        # One that was reset by hand is not to wait again.
        if self._order.wait_seconds and info.attempt == 1 and not info.heartbeat_details:
            sentence = f"chunk {self._order.start} waits for its next try"
            raise RetryError(sentence, ErrorType.ATTEMPT_FAILED, self._order.wait_seconds)
        try:
            async with self._host.backend.open_span() as backend:
                self._host = replace(self._host, backend=backend)
                if self._job.job.remote is None and self.progress.open_count >= _LEAST_IN_SEGMENT:
                    await self._render_in_segment(watch)
                else:
                    await self._render(watch)
                await self._settle_pictures()
        except (AttemptLostError, StoreError) as error:
            away = self.progress.heartbeat.away
            wait = lost_try_delay_seconds(away)
            self.progress.update(away=away + 1)
            sentence = f"{error}; the try does not count, and the next one begins in {wait:.0f} s"
            raise RetryError(sentence, ErrorType.ATTEMPT_LOST, wait) from error

    async def _settle_pictures(self) -> None:
        """Wait a bounded time for the pictures of the last chunks, so that a job which has ended has them."""
        if self._host.pictures is not None and self._host.pictures.is_busy:
            await run_in_thread(partial(self._host.pictures.settle, SETTLE_SECONDS))

    async def _render_in_segment(self, watch: JobWatch) -> None:
        """Render with one record of many chunks, in bursts where this host can."""
        name = attempt_name(activity.info().activity_id)
        segment = SegmentWriter(self._job.folder, self._order.start, self._order.stop, name)
        self._host = replace(self._host, segment=segment)
        bursts = open_bursts(
            self._host, self._job, name, self._make_attempt, self.progress, partial(self._is_unwanted, watch)
        )
        async with (
            commit_beside(segment, self.progress.count_finished, self.progress.on_wait),
            bursts as self._make_attempt,
        ):
            await self._render(watch)

    async def _render(self, watch: JobWatch) -> None:
        progress = self.progress
        for index in range(self._order.start, self._order.stop):
            if progress.is_published_before(index) or self._is_handed_in(index):
                continue
            attempt = self._attempt(index)
            if index in progress.gave_up:
                await progress.totals.record_open(index, attempt)
                continue
            sidecar = None
            async with self._count_unexpected(index, attempt):
                sidecar = await attempt.published()
                if sidecar is None:
                    progress.begin_chunk(index)
                    await self._tell_lost_worker(index, attempt)
                    if not attempt.is_begun and not await self._may_begin(index, watch):
                        return
                    if self._is_poisonous:
                        await self._give_up_poisonous(self._job.chunks[index], attempt)
                    else:
                        await self._pass_on_if_unfit(index)
                        sidecar = await self._try(self._job.chunks[index], attempt, watch)
            if sidecar is not None:
                await self._count_finished(index, attempt, sidecar)
            elif self._job.job.on_chunk_failure is not FailurePolicy.CONTINUE or progress.is_full:
                return

    async def _may_begin(self, index: int, watch: JobWatch) -> bool:
        """Ask whether the job wants that another chunk begins here."""
        # A worker may have got the span a moment after its job was paused.
        await watch.refresh_if_older(_ORDERS_SECONDS if self.progress.has_tried else 0)
        return not self._is_unwanted(watch, is_first=index == self._order.start)

    def _is_unwanted(self, watch: JobWatch, *, is_first: bool = False) -> bool:
        """Tell whether no further chunk may begin, as far as is known."""
        if watch.orders.control is not Control.RUN or activity.is_worker_shutdown():
            return True
        return watch.orders.split > self._order.split and not is_first

    def _is_handed_in(self, index: int) -> bool:
        """Tell whether a chunk is published with others, or will be in a moment."""
        return self._host.segment is not None and self._host.segment.has(chunk_key(index))

    async def _count_finished(self, index: int, attempt: Attempt, sidecar: Sidecar) -> None:
        if self.progress.heartbeat.chunk == index:
            self.progress.update(failures=0, losses=0, away=0)
        # One that is published with others counts once their record is written.
        if not self._is_handed_in(index):
            await self.progress.totals.add_bill(index, attempt)
            self.progress.count_finished({index: sidecar})

    async def _try(self, chunk: Chunk, attempt: Attempt, watch: JobWatch) -> Sidecar | None:
        """Return the sidecar, or None when the chunk has used up its tries."""
        self.progress.begin_try(chunk)
        self._journal.begin()
        try:
            return await attempt.run(JobRenderWatcher(watch, self._on_progress, self.progress.on_frozen))
        except asyncio.CancelledError:
            if attempt.stop is not None:
                self.progress.stops.append(attempt.stop)
            await self.progress.totals.record_open(chunk.index, attempt)
            raise
        except AttemptLostError as error:
            beat = self.progress.heartbeat
            self.progress.update(losses=beat.losses + error.by_render)
            if error.by_render:
                # Others are of stores and disks that are away, for days: no chunk has done anything there.
                await self._write_try(chunk.index, attempt, error, beat.attempt, lost=True)
            raise
        except ThrottledError as error:
            throttled = self.progress.heartbeat.throttled
            self.progress.update(throttled=throttled + 1)
            sentence = f"chunk {chunk.index} waits: {error}"
            raise RetryError(sentence, ErrorType.THROTTLED, throttle_delay_seconds(error, throttled)) from error
        except (AttemptError, BadJobError) as error:
            await self._count_try(chunk, attempt, error)
            return None

    def _on_progress(self, progress: Progress) -> None:
        self._journal.note_progress(progress)
        self.progress.on_progress(progress)

    @asynccontextmanager
    async def _count_unexpected(self, index: int, attempt: Attempt) -> AsyncIterator[None]:
        """Count an error that no code expects as a failed try of the chunk at hand: it would be the same for ever."""
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError | FailureError | RetryError | AttemptLostError):
                raise
            self.progress.begin_chunk(index)
            if not isinstance(error, AttemptError):
                _log.exception("job %s: chunk %d: an unexpected error", self._order.ref.id, index)
                error = AttemptError(describe_unexpected(error))
            await self._count_try(self._job.chunks[index], attempt, error)

    async def _count_try(self, chunk: Chunk, attempt: Attempt, error: AttemptError | BadJobError) -> None:
        """Count a failed try, and give the chunk up when it was the last one.

        Raises:
            RetryError: The chunk has tries left.
        """
        failures = self.progress.heartbeat.failures + 1
        sentence = f"chunk {chunk.index} (frames {describe_frames(chunk.frames)}): {error}"
        retry = self._job.job.retry
        if isinstance(error, AttemptError) and not error.fatal and failures < retry.attempts:
            self.progress.count_failure(error, retry.same_host)
            await self._write_try(chunk.index, attempt, error, failures)
            wait = retry.delay_seconds(failures) if error.wait_seconds is None else error.wait_seconds
            raise RetryError(sentence, ErrorType.ATTEMPT_FAILED, wait) from error
        _log.error("job %s: %s; that was its last try", self._order.ref.id, sentence)
        needs_change = isinstance(error, AttemptError) and error.needs_change
        self.progress.give_up(chunk, failures, f"{error}", log=attempt.log, needs_change=needs_change)
        await self._write_try(chunk.index, attempt, error, failures, last=True)
        await self.progress.totals.record_open(chunk.index, attempt)

    def give_up_chunk(self, error: str) -> None:
        """Give up the chunk at hand, around whose render an unexpected error has come again and again."""
        beat = self.progress.heartbeat
        self.progress.give_up(self._job.chunks[beat.chunk], beat.failures + 1, error, log=self._attempt(beat.chunk).log)

    @property
    def _is_poisonous(self) -> bool:
        """Whether the chunk at hand may take its workers down; one that a service renders cannot."""
        job = self._job.job
        return job.remote is None and self.progress.heartbeat.losses >= job.retry.lost_workers

    async def _give_up_poisonous(self, chunk: Chunk, attempt: Attempt) -> None:
        beat = self.progress.heartbeat
        error = (
            f"{beat.losses} workers were lost while they rendered it, so no other one gets it; look into their logs "
            "and the memory of their hosts, then `longtake retry`; retry.lost_workers allows more"
        )
        _log.error("job %s: chunk %d: %s", self._order.ref.id, chunk.index, error)
        self.progress.has_tried = True
        self.progress.give_up(chunk, beat.failures + beat.losses, error, log=attempt.log)
        self._journal.begin()
        await self._write_try(chunk.index, attempt, error, beat.losses, last=True)
        await self.progress.totals.record_open(chunk.index, attempt)

    async def _pass_on_if_unfit(self, index: int) -> None:
        """Leave a chunk that keeps failing on this host to another host, if there is one."""
        beat = self.progress.heartbeat
        if self._others is None or self._host.name not in beat.avoid or beat.given_back >= _MOST_PASSED_ON:
            return
        if not await self._others.has_any():
            return
        self.progress.update(given_back=beat.given_back + 1)
        raise RetryError(
            f"chunk {index} has failed on {self._host.name} before and is left to another host",
            ErrorType.ANOTHER_HOST,
            min(_LONGEST_PASS_SECONDS, 0.5 * 2**beat.given_back),
        )

    async def _tell_lost_worker(self, index: int, attempt: Attempt) -> None:
        """Write down that a worker was lost, of the first chunk that is not finished: it was at work on that."""
        if self._lost is not None:
            lost, self._lost = self._lost.model_copy(update={"chunk": index}), None
            await self._journal.write_lost_worker(lost, attempt.name)

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
        await self._journal.write(chunk, attempt.name, error, number=number, log=attempt.log, lost=lost, last=last)

    def _attempt(self, index: int) -> Attempt:
        name = attempt_name(activity.info().activity_id)
        return self._make_attempt(self._host, self._job, self._job.chunks[index], name)
