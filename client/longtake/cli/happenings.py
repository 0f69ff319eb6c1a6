"""What happens to a job's chunks, told once each: tries that go wrong, chunks that fail for good, and what to do."""

from collections.abc import Iterator

from longtake.cli.formatting import advice
from longtake.cli.remotely import stopped
from longtake.cli.terminal import shortened
from longtake.models.status import ChunkFailure, JobState, JobStatus
from longtake.plaintext import plain

# Failed tries told one by one; on a farm where every chunk fails they would hide everything else.
_MOST_TRIES = 20


class Happenings:
    """Remembers what was told of one job."""

    def __init__(self) -> None:
        self._failed: set[int] = set()
        self._tries: set[tuple[int, int, str]] = set()
        self._advice: str | None = None
        self._stopped: str | None = None

    def news(self, status: JobStatus) -> Iterator[tuple[str, bool]]:
        """Yield a line for each thing that is new, and whether it is for good."""
        # A chunk that is taken up again and fails again is news.
        self._failed &= {failure.chunk for failure in status.failures}
        for failure in status.failures:
            if failure.chunk not in self._failed:
                self._failed.add(failure.chunk)
                yield failure_line(failure), True
        for chunk in status.running:
            key = (chunk.chunk, chunk.attempt, chunk.error)
            if chunk.error and key not in self._tries and len(self._tries) <= _MOST_TRIES:
                self._tries.add(key)
                quiet = len(self._tries) > _MOST_TRIES
                error = chunk.error if chunk.error.startswith("chunk ") else f"chunk {chunk.chunk}: {chunk.error}"
                yield "more tries go wrong; `longtake logs` has them all" if quiet else shortened(error), False
        last, self._advice = self._advice, advice(status)
        if self._advice and self._advice != last:
            yield f"{status.id} holds: {self._advice}", False
        # Told when all of it is known; how a job ended says the same by itself.
        if status.state is JobState.PAUSED:
            before, self._stopped = self._stopped, stopped(status.remote_stops)
            if self._stopped and self._stopped != before:
                yield self._stopped, False


def failure_line(failure: ChunkFailure) -> str:
    """Return the end of a chunk that has used up its tries."""
    tries = "1 try" if failure.attempts == 1 else f"{failure.attempts} tries"
    where = f" on {plain(failure.host)}" if failure.host else ""
    return f"chunk {failure.chunk} failed for good after {tries}{where}: {shortened(failure.error)}"
