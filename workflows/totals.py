"""What a job's spans come to together: time, money, and what was told to stop elsewhere. Pure."""

from collections.abc import Iterable

from longtake.models.messages import ChunkBill, SpanReport
from longtake.models.status import JobMetrics, RemoteStop, RemoteStops

# A status that lists every one would not fit a payload.
MOST_STOPS = 20


class Totals:
    """Adds up the reports of a job's spans."""

    def __init__(self) -> None:
        self.stops = RemoteStops()
        self._sums = JobMetrics()
        self._open: dict[int, ChunkBill] = {}

    @property
    def metrics(self) -> JobMetrics:
        """The sums; of chunks that are not published, each with its latest bill."""
        seconds = sum(bill.seconds for bill in self._open.values())
        usd = sum(bill.usd for bill in self._open.values())
        return self._sums.model_copy(
            update={
                "billed_seconds": round(self._sums.billed_seconds + seconds, 3),
                "cost_usd": round(self._sums.cost_usd + usd, 9),
            }
        )

    def add(self, report: SpanReport) -> None:
        """Take in what a span came to."""
        sums = self._sums
        self._sums = sums.model_copy(
            update={
                "render_seconds": sums.render_seconds + report.render_seconds,
                "cpu_seconds": round(sums.cpu_seconds + report.cpu_seconds, 3),
                "peak_memory_bytes": max(sums.peak_memory_bytes, report.peak_memory_bytes),
                "billed_seconds": sums.billed_seconds + report.billed_seconds,
                "cost_usd": sums.cost_usd + report.cost_usd,
            }
        )
        if self._open:
            # The bill of a chunk that is published holds what was open of it.
            for chunk in [chunk for chunk in self._open if any(start <= chunk < stop for start, stop in report.done)]:
                del self._open[chunk]
        self._open |= {bill.chunk: bill for bill in report.open_bills}
        if report.stops:
            self.stops = _with_stops(self.stops, report.stops)

    def forget_stops(self) -> None:
        """Begin anew: the job goes on, and what it stopped before is history."""
        self.stops = RemoteStops()


def _with_stops(stops: RemoteStops, more: Iterable[RemoteStop]) -> RemoteStops:
    more = tuple(more)
    silent = tuple(stop for stop in more if not stop.confirmed)
    heard = [stop.seconds for stop in more if stop.confirmed]
    return RemoteStops(
        where=next((stop.where for stop in more if stop.where), stops.where),
        confirmed=stops.confirmed + len(heard),
        slowest_seconds=round(max([stops.slowest_seconds, *heard]), 3),
        unconfirmed_count=stops.unconfirmed_count + len(silent),
        unconfirmed=(*stops.unconfirmed, *silent)[:MOST_STOPS],
    )
