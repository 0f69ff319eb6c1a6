"""What services ask for the chunks of one span: nothing where this host renders."""

import logging

from activities.attempts.attempt import Attempt, Bill
from longtake.models.messages import ChunkBill

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
