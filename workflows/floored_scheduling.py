"""Cut spans as jobs did that began before spans were shares of what is left. Pure, as the scheduling is."""

from longtake.ranges import Range
from workflows.scheduling import NO_TRIES, Scheduler, Span

# Of the scheduling before spans were shares: a history of any job was to stay below 4,000 events.
MOST_FLOORED_SPANS = 400
FLOORED_SPAN_SECONDS = 2.0


class FlooredScheduler(Scheduler):
    """Cuts spans as jobs did that began before spans were shares: 400 at most, whatever that costs at the end."""

    @property
    def needs_split(self) -> bool:
        """False: workers of that time would not know the order."""
        return False

    def published_within(self, span: Span) -> tuple[Range, ...]:
        """Return the chunks of a span that are done: their time and cost are counted, and must not be again."""
        return super().published_within(span)[:200]

    def _cut_span(self, most: int) -> Span:
        start, stop = self._pending.front
        least = -(-self.chunk_count // MOST_FLOORED_SPANS)
        end = self.chunk_count if least > 1 else stop
        edges = [*self._tries, *(span.start for span in self._running)]
        stop = min([start + self._floored_size(least), end, *(edge for edge in edges if edge > start)])
        stop = min(each.gaps(start, stop).front[1] for each in (self._failed, self._left_out))
        self._pending.remove(start, stop)
        return Span(start, stop, self._tries.pop(start, NO_TRIES))

    def _floored_size(self, least: int) -> int:
        if self.mean_seconds is None:
            return least
        share = -(-len(self._pending) // (2 * self.limit))
        return max(least, min(int(FLOORED_SPAN_SECONDS / max(self.mean_seconds, 0.001)), share))
