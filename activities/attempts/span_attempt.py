"""One attempt at a span: its chunks one after the other, with what is said of them meanwhile."""

import asyncio
import logging
import random

from temporalio import activity

from activities.activity_context import attempt_name
from activities.attempts.attempt import Attempt, Bill, MakeAttempt
from activities.attempts.host import Host
from activities.backends.backend import Progress
from activities.errors import AttemptError, ThrottledError
from activities.job_watch import JobRenderWatcher, JobWatch, OtherHosts
from activities.stores.job_folder import OpenJob, Sidecar
from longtake.chunks import Chunk
from longtake.errors import BadJobError, ErrorType
from longtake.models.messages import ChunkBill, Heartbeat, SpanOrder, SpanReport
from longtake.models.policies import FailurePolicy
from longtake.models.status import ChunkFailure, RemoteStop
from longtake.names import Control
from longtake.ranges import RangeSet

_log = logging.getLogger(__name__)

# In a report: a span where more chunks than this fail is one of a huge job where nothing works.
_MOST_OPEN = 100


class SpanBills:
    """Bills of published chunks, summed, and of chunks that are not published, one by one.

    A bill is over all attempts at a chunk, so that it counts once however often the chunk is tried; that of a chunk
    that is not published grows with later attempts, and whoever adds bills up takes the latest.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.usd = 0.0
        self._open: dict[int, ChunkBill] = {}

    @property
    def open(self) -> tuple[ChunkBill, ...]:
        """The bills of chunks that failed or were stopped."""
        return tuple(self._open.values())

    async def settle(self, chunk: int, attempt: Attempt) -> None:
        """Take in the bill of a chunk that is published."""
        bill = await _bill(chunk, attempt)
        self._open.pop(chunk, None)
        self.seconds += bill.seconds
        self.usd += bill.usd

    async def leave_open(self, chunk: int, attempt: Attempt) -> None:
        """Take in the bill of a chunk that failed for good or was stopped."""
        bill = await _bill(chunk, attempt)
        if bill != Bill() and (chunk in self._open or len(self._open) < _MOST_OPEN):
            self._open[chunk] = ChunkBill(chunk=chunk, seconds=round(bill.seconds, 3), usd=round(bill.usd, 9))


async def _bill(chunk: int, attempt: Attempt) -> Bill:
    try:
        return await attempt.bill()
    except OSError as error:
        # A sum that lacks a chunk is better than a chunk that is rendered and does not count.
        _log.warning("chunk %d: what it cost cannot be read (%s)", chunk, error)
        return Bill()


# A service without room is asked again after 1, 2, 4 ... seconds; one that names a time of its own, after that.
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
_LONGEST_ASKED_SECONDS = 3600.0


class RetryDue(Exception):
    """This try is over, and another one is due."""

    def __init__(self, sentence: str, type: ErrorType, wait_seconds: float) -> None:
        super().__init__(sentence)
        self.type = type
        self.wait_seconds = wait_seconds


def throttle_delay_seconds(error: ThrottledError, throttled: int) -> float:
    """Return how long to wait before a service without room is called again.

    Args:
        error: What it answered.
        throttled: How often it had no room in a row, before this time.
    """
    if error.wait_seconds is not None:
        # Never earlier than it asks, and not all chunks at once.
        return min(error.wait_seconds, _LONGEST_ASKED_SECONDS) * random.uniform(1, 1.2)
    # The exponent is bounded: a service may be full for days.
    return min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(throttled, 16)) * random.uniform(0.5, 1)


# Reasons kept of a span's failed chunks: they travel in heartbeats, four times a second.
_MOST_REASONS = 3

# A chunk that no other host takes is rendered where it failed before: better than never.
_MOST_PASSED_ON = 8
_LONGEST_PASS_SECONDS = 15.0
_MOST_HOSTS = 16


class SpanAttempt:
    """One attempt at a span.

    Args:
        host: What this worker is called.
        make: How chunks are tried here.
        others: Who could take a chunk that fails here; None where the host makes no difference.
        job: The job.
        order: Which chunks.
        before: The last word of the attempt before this one, if there was one.
    """

    def __init__(
        self,
        host: Host,
        make: MakeAttempt,
        others: OtherHosts | None,
        job: OpenJob,
        order: SpanOrder,
        before: Heartbeat | None,
    ) -> None:
        self._host = host
        self._make = make
        self._others = others
        self._job = job
        self._order = order
        # What was frozen has died with the attempt that froze it.
        before = before or Heartbeat(chunk=order.start, failures=order.failures)
        # Published chunks are met again, and their bills with them.
        anew = {"frozen": 0, "billed_seconds": 0.0, "cost_usd": 0.0}
        self._before = self.heartbeat = before.model_copy(update=anew)
        self.gave_up = RangeSet(self.heartbeat.given_up)
        self.reasons = list(self.heartbeat.reasons)
        self._done = RangeSet()
        self._rendered: list[Sidecar] = []
        self._bills = SpanBills()
        self._stops: list[RemoteStop] = []

    @property
    def has_news(self) -> bool:
        """Whether there is anything that the job would lose if this attempt ended without a report."""
        return bool(self._done or self.gave_up or self.heartbeat.failures or self._stops or self._bills.open)

    async def render(self, watch: JobWatch) -> None:
        """Render what is missing, until a chunk fails for good or the job wants no more.

        Raises:
            NextTry: A chunk failed, is for another host to try, or met a service without room.
            AttemptLostError: The try does not count.
        """
        for index in range(self._order.start, self._order.stop):
            attempt = self._attempt(index)
            if index in self.gave_up:
                await self._bills.leave_open(index, attempt)
                continue
            sidecar = await attempt.published()
            if sidecar is None:
                self._turn_to(index)
                if (await watch.look()).control is not Control.RUN or activity.is_worker_shutdown():
                    return
                await self._pass_on_if_unfit(index)
                sidecar = await self._try(self._job.chunks[index], attempt, watch)
            if sidecar is not None:
                self._done.add(index, index + 1)
                self._rendered.append(sidecar)
                if self.heartbeat.chunk == index:
                    self._say(failures=0)
                await self._bills.settle(index, attempt)
                self._say(billed_seconds=self._billed_seconds, cost_usd=self._cost_usd)
            elif self._job.job.on_chunk_failure is not FailurePolicy.CONTINUE:
                return

    def report(self) -> SpanReport:
        """Return what this attempt came to."""
        return SpanReport(
            done=self._done.ranges,
            failed=self.gave_up.ranges,
            failures=tuple(self.reasons),
            left_failures=self.heartbeat.failures,
            rendered=len(self._rendered),
            render_seconds=round(sum(sidecar.render_seconds for sidecar in self._rendered), 3),
            cpu_seconds=round(sum(sidecar.cpu_seconds for sidecar in self._rendered), 3),
            peak_memory_bytes=max((sidecar.peak_memory_bytes for sidecar in self._rendered), default=0),
            billed_seconds=self._billed_seconds,
            cost_usd=self._cost_usd,
            open_bills=self._bills.open,
            stops=tuple(self._stops),
        )

    async def _try(self, chunk: Chunk, attempt: Attempt, watch: JobWatch) -> Sidecar | None:
        """Return the sidecar, or None when the chunk has used up its tries."""
        self._say(frames=chunk.count, frames_done=0, attempt=self.heartbeat.failures + 1, host=self._host.name)
        try:
            return await attempt.run(JobRenderWatcher(watch, self._hear, self._hear_frozen))
        except asyncio.CancelledError:
            if attempt.stop is not None:
                self._stops.append(attempt.stop)
            await self._bills.leave_open(chunk.index, attempt)
            raise
        except ThrottledError as error:
            throttled = self.heartbeat.throttled
            self._say(throttled=throttled + 1)
            sentence = f"chunk {chunk.index} waits: {error}"
            raise RetryDue(sentence, ErrorType.THROTTLED, throttle_delay_seconds(error, throttled)) from error
        except (AttemptError, BadJobError) as error:
            failures = self.heartbeat.failures + 1
            sentence = f"chunk {chunk.index} (frames {chunk.start}-{chunk.stop - 1}): {error}"
            retry = self._job.job.retry
            if isinstance(error, AttemptError) and not error.fatal and failures < retry.attempts:
                self._count_failure(failures, error)
                wait = retry.delay_seconds(failures) if error.wait_seconds is None else error.wait_seconds
                raise RetryDue(sentence, ErrorType.ATTEMPT_FAILED, wait) from error
            _log.error("job %s: %s; that was its last try", self._order.ref.id, sentence)
            self._give_up(chunk, failures, f"{error}", attempt)
            await self._bills.leave_open(chunk.index, attempt)
            return None

    def _count_failure(self, failures: int, error: AttemptError) -> None:
        here, same_host = self._host.name, self._job.job.retry.same_host
        failed_on = (*self.heartbeat.failed_on, here)[-2 * same_host :]
        avoid = self.heartbeat.avoid
        if here not in avoid and (error.another_host or failed_on.count(here) >= same_host):
            avoid = (*avoid, here)[-_MOST_HOSTS:]
        self._say(failures=failures, failed_on=failed_on, avoid=avoid, given_back=0, frames_done=0, frozen=0)

    async def _pass_on_if_unfit(self, index: int) -> None:
        """Leave a chunk that keeps failing on this host to another one, if there is any."""
        beat = self.heartbeat
        if self._others is None or self._host.name not in beat.avoid or beat.given_back >= _MOST_PASSED_ON:
            return
        if not await self._others.exist():
            return
        self._say(given_back=beat.given_back + 1)
        raise RetryDue(
            f"chunk {index} has failed on {self._host.name} before and is left to another host",
            ErrorType.ANOTHER_HOST,
            min(_LONGEST_PASS_SECONDS, 0.5 * 2**beat.given_back),
        )

    def _give_up(self, chunk: Chunk, failures: int, error: str, attempt: Attempt) -> None:
        self.gave_up.add(chunk.index, chunk.index + 1)
        if len(self.reasons) < _MOST_REASONS:
            self.reasons.append(
                ChunkFailure(
                    chunk=chunk.index,
                    start=chunk.start,
                    stop=chunk.stop,
                    attempts=failures,
                    error=error[:800],
                    host=self._host.name,
                    log=attempt.log,
                )
            )
        self._say(failures=0, given_up=self.gave_up.ranges, reasons=tuple(self.reasons), frozen=0)

    def _turn_to(self, index: int) -> None:
        """Speak of another chunk from now on; of the one that the attempt before was at, with its failed tries."""
        if index == self.heartbeat.chunk:
            return
        begun = self._before if index == self._before.chunk else Heartbeat(chunk=index)
        self.heartbeat = begun.model_copy(
            update={
                "given_up": self.gave_up.ranges,
                "reasons": tuple(self.reasons),
                "host": self._host.name,
                "billed_seconds": self._billed_seconds,
                "cost_usd": self._cost_usd,
            }
        )

    def _hear(self, progress: Progress) -> None:
        self._say(
            frames_done=progress.frames_done,
            message=progress.message[:400],
            cpu_seconds=round(progress.usage.cpu_seconds, 2),
            memory_bytes=progress.usage.memory_bytes,
            io_bytes=progress.usage.io_bytes,
            throttled=0,
        )

    def _hear_frozen(self, order: int) -> None:
        self._say(frozen=order)

    def _say(self, **fields: object) -> None:
        self.heartbeat = self.heartbeat.model_copy(update=fields)

    @property
    def _billed_seconds(self) -> float:
        return round(self._bills.seconds, 3)

    @property
    def _cost_usd(self) -> float:
        return round(self._bills.usd, 9)

    def _attempt(self, index: int) -> Attempt:
        return self._make(self._job, self._job.chunks[index], attempt_name(activity.info().activity_id))
