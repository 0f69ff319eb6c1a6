"""What the chunks of a span have come to, as heartbeats and reports tell it: states, failures, sums and bills."""

import logging
from collections.abc import Mapping

from activities.attempts.attempt import Attempt, Bill
from activities.backends.backend import Progress
from activities.errors import AttemptError
from activities.stores.job_folder import Sidecar
from longtake.chunks import Chunk
from longtake.models.messages import MOST_GIVEN_UP_BYTES, ChunkBill, Heartbeat, SpanOrder, SpanReport
from longtake.models.status import ChunkFailure, RemoteStop
from longtake.ranges import RangeSet, pack_ranges
from longtake.text import cut_middle, shorten_line

_log = logging.getLogger(__name__)

# Reasons kept of a span's failed chunks: they travel in heartbeats.
_MOST_REASONS = 3
_LONGEST_REASON = 800

# What somebody reads in a status.
_LONGEST_MESSAGE = 400

# In the failure of a try that is followed by another one: see `data_converter.MOST_MESSAGE_BYTES`.
_MOST_RANGES_OF_TRY = 10

# Hosts that a chunk is to avoid.
_MOST_HOSTS = 16

# In a report: a span where more chunks than this fail is one of a huge job where nothing works.
_MOST_OPEN = 100

# Of files that renderers made besides their outputs: the first chunks tell enough.
_MOST_NOTICES = 2
_LONGEST_NOTICE = 300


class SpanTotals:
    """Sums over the chunks of a span.

    A bill is over all attempts at a chunk, so that it counts once however often the chunk is tried; that of a chunk
    that is not published grows with later attempts, so that only the latest counts in a sum.

    Attributes:
        notices: What the job should hear of published chunks.
    """

    def __init__(self) -> None:
        self.notices: list[str] = []
        self._rendered = 0
        self._frames = 0
        self._render_seconds = 0.0
        self._cpu_seconds = 0.0
        self._peak_memory_bytes = 0
        self._billed_seconds = 0.0
        self._usd = 0.0
        self._open: dict[int, ChunkBill] = {}

    @property
    def open_bills(self) -> tuple[ChunkBill, ...]:
        """The bills of chunks that failed or were stopped."""
        return tuple(self._open.values())

    @property
    def sums(self) -> dict[str, int | float]:
        """The sums that heartbeats and reports have in common, by their names there."""
        return {
            "rendered": self._rendered,
            "render_seconds": round(self._render_seconds, 3),
            "billed_seconds": round(self._billed_seconds, 3),
            "cost_usd": round(self._usd, 9),
        }

    @property
    def frames(self) -> int:
        """Frames of the published chunks."""
        return self._frames

    @property
    def usage(self) -> dict[str, int | float]:
        """What their renders have used, by the names of a report."""
        return {"cpu_seconds": round(self._cpu_seconds, 3), "peak_memory_bytes": self._peak_memory_bytes}

    def add_published(self, sidecar: Sidecar) -> None:
        """Add a published chunk."""
        self._rendered += 1
        self._frames += sidecar.frames
        self._render_seconds += sidecar.render_seconds
        self._cpu_seconds += sidecar.cpu_seconds
        self._peak_memory_bytes = max(self._peak_memory_bytes, sidecar.peak_memory_bytes)
        for notice in filter(None, (sidecar.others, sidecar.unproven)):
            if len(self.notices) < _MOST_NOTICES:
                self.notices.append(shorten_line(f"chunk {int(sidecar.key)}: {notice}", _LONGEST_NOTICE))

    async def add_bill(self, chunk: int, attempt: Attempt) -> None:
        """Add the bill of a published chunk."""
        bill = await _read_bill(chunk, attempt)
        self._open.pop(chunk, None)
        self._billed_seconds += bill.seconds
        self._usd += bill.usd

    async def record_open(self, chunk: int, attempt: Attempt) -> None:
        """Record the bill of a chunk that failed for good or was stopped."""
        bill = await _read_bill(chunk, attempt)
        if bill != Bill() and (chunk in self._open or len(self._open) < _MOST_OPEN):
            self._open[chunk] = ChunkBill(chunk=chunk, seconds=round(bill.seconds, 3), usd=round(bill.usd, 9))


class SpanProgress:
    """The state of the chunks of a span, from which each heartbeat and the report are made.

    Args:
        order: The span.
        before: What the attempts before this one have come to; see `ActivityTry`.
        host: Name of this host.

    Attributes:
        heartbeat: The heartbeat of this moment. It is about one chunk, the one at hand.
        totals: Sums over the published chunks.
        gave_up: The chunks that used up their tries.
        reasons: Why the first of them did.
        stops: What became of orders to stop.
        has_tried: Whether this attempt has begun to render.
    """

    def __init__(self, order: SpanOrder, before: Heartbeat, host: str) -> None:
        self._order = order
        self._host = host
        # Published chunks are met again, and their time and bills with them; what was frozen has died.
        anew = {"frozen": 0, "rendered": 0, "span_frames": 0, "render_seconds": 0, "billed_seconds": 0, "cost_usd": 0}
        self._before = self.heartbeat = before.model_copy(update=anew)
        self._published_before = RangeSet(order.published)
        self._done = RangeSet()
        self.totals = SpanTotals()
        self.gave_up = RangeSet(before.given_up)
        self.reasons = list(before.reasons)
        self.stops: list[RemoteStop] = []
        self.has_tried = False

    @property
    def has_news(self) -> bool:
        """Whether the job would lose results if this attempt ended without a report."""
        return bool(self._done or self.gave_up or self.heartbeat.failures or self.stops or self.totals.open_bills)

    @property
    def is_full(self) -> bool:
        """Whether heartbeats hold no more scattered failures: the next attempt must know of each."""
        return len(pack_ranges(self.gave_up.ranges)) > MOST_GIVEN_UP_BYTES

    @property
    def open_count(self) -> int:
        """Number of chunks that the order does not name as published."""
        start, stop = self._order.start, self._order.stop
        return stop - start - len(self._published_before.within(start, stop))

    def is_published_before(self, index: int) -> bool:
        """Tell whether the order names a chunk as published."""
        return index in self._published_before

    def list_open(self, first: int, width: int) -> list[int]:
        """Return those of so many chunks that are neither published by the order nor given up."""
        chunks = range(first, min(self._order.stop, first + width))
        return [index for index in chunks if index not in self._published_before and index not in self.gave_up]

    def begin_chunk(self, index: int, *, frames: int = 0) -> None:
        """Start the heartbeat of another chunk; failed tries of the attempt before are taken over."""
        if index == self.heartbeat.chunk:
            return
        begun = self._before if index == self._before.chunk else Heartbeat(chunk=index, number=self._before.number)
        if not self.has_tried:
            # Heartbeats lag behind: the worker before may have been lost at a later chunk than it told of.
            begun = begun.model_copy(update={"losses": self._before.losses})
        self.heartbeat = begun.model_copy(
            update={
                "given_up": self.gave_up.ranges,
                "reasons": tuple(self.reasons),
                "host": self._host,
                "frames": frames or begun.frames,
                **self._sums,
            }
        )

    def begin_try(self, chunk: Chunk) -> None:
        """Have heartbeats tell that a try of a chunk is at work."""
        self.has_tried = True
        self.begin_chunk(chunk.index)
        self.update(frames=chunk.count, frames_done=0, attempt=self.heartbeat.failures + 1, host=self._host)

    def update(self, **fields: object) -> None:
        """Change fields of the heartbeat."""
        self.heartbeat = self.heartbeat.model_copy(update=fields)

    def on_progress(self, progress: Progress) -> None:
        """Take up how far the chunk at hand is."""
        self.update(
            frames_done=progress.frames_done,
            message=progress.message[:_LONGEST_MESSAGE],
            cpu_seconds=round(progress.usage.cpu_seconds, 2),
            memory_bytes=progress.usage.memory_bytes,
            io_bytes=progress.usage.io_bytes,
            throttled=0,
        )

    def on_wait(self, message: str) -> None:
        """Take up what is waited for."""
        self.update(message=message[:_LONGEST_MESSAGE])

    def on_frozen(self, order: int) -> None:
        """Take up which order the chunk at hand has frozen by; 0 where it runs again."""
        self.update(frozen=order)

    def count_finished(self, finished: Mapping[int, Sidecar]) -> None:
        """Count chunks that are published, by their numbers."""
        for index, sidecar in finished.items():
            self._done.add(index, index + 1)
            self.totals.add_published(sidecar)
        self.update(**self._sums)

    def count_failure(self, error: AttemptError, same_host: int) -> None:
        """Count a failed try of the chunk at hand, which has more.

        Args:
            error: What has failed.
            same_host: How often a chunk may fail on a host before it is to avoid that.
        """
        beat = self.heartbeat
        failed_on = (*beat.failed_on, self._host)[-2 * same_host :]
        avoid = beat.avoid
        if self._host not in avoid and (error.another_host or failed_on.count(self._host) >= same_host):
            avoid = (*avoid, self._host)[-_MOST_HOSTS:]
        self.update(failures=beat.failures + 1, failed_on=failed_on, avoid=avoid, given_back=0, frames_done=0, frozen=0)

    def give_up(self, chunk: Chunk, tries: int, error: str, *, log: str, needs_change: bool = False) -> None:
        """Count a chunk as failed for good.

        Args:
            chunk: The chunk.
            tries: How many tries it had.
            error: Why the last one failed.
            log: Location of its log.
            needs_change: Whether only another job file mends it.
        """
        self.gave_up.add(chunk.index, chunk.index + 1)
        if len(self.reasons) < _MOST_REASONS:
            self.reasons.append(
                ChunkFailure(
                    chunk=chunk.index,
                    start=chunk.start,
                    stop=chunk.stop,
                    attempts=tries,
                    error=cut_middle(error, _LONGEST_REASON),
                    host=self._host,
                    log=log,
                    needs_change=needs_change,
                )
            )
        self.update(failures=0, losses=0, given_up=self.gave_up.ranges, reasons=tuple(self.reasons), frozen=0)

    def report(self) -> SpanReport:
        """Return the report of this attempt, whole."""
        return SpanReport(
            done=self._done.ranges,
            failed=self.gave_up.ranges,
            failures=tuple(self.reasons),
            left_failures=self.heartbeat.failures,
            left_losses=self.heartbeat.losses,
            **self.totals.sums,
            **self.totals.usage,
            open_bills=self.totals.open_bills,
            stops=tuple(self.stops),
            notices=tuple(self.totals.notices),
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

    @property
    def _sums(self) -> dict[str, object]:
        """The fields of a heartbeat that add up the span's published chunks."""
        return {**self.totals.sums, "span_frames": self.totals.frames}


async def _read_bill(chunk: int, attempt: Attempt) -> Bill:
    try:
        return await attempt.bill()
    except OSError as error:
        # A sum that lacks a chunk is better than a chunk that is rendered and does not count.
        _log.warning("chunk %d: what it cost cannot be read (%s)", chunk, error)
        return Bill()
