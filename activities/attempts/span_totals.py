"""What a span adds up to: its published chunks, their bills, and those of chunks that are not published."""

import logging

from activities.attempts.attempt import Attempt, Bill
from activities.stores.job_folder import Sidecar
from longtake.models.messages import ChunkBill
from longtake.text import shorten_line

_log = logging.getLogger(__name__)

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


async def _read_bill(chunk: int, attempt: Attempt) -> Bill:
    try:
        return await attempt.bill()
    except OSError as error:
        # A sum that lacks a chunk is better than a chunk that is rendered and does not count.
        _log.warning("chunk %d: what it cost cannot be read (%s)", chunk, error)
        return Bill()
