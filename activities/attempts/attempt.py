"""The interface of an attempt at a chunk, whether this host or a service renders."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from activities.attempts.host import Host
from activities.backends.backend import RenderWatcher
from activities.stores.job_folder import OpenJob, Sidecar
from longtake.chunks import Chunk
from longtake.models.status import RemoteStop


@dataclass(frozen=True)
class Bill:
    """The price of a chunk on a service, over all attempts."""

    seconds: float = 0.0
    usd: float = 0.0


class Attempt(Protocol):
    """One attempt at one chunk; one in a burst takes the chunks after it along."""

    @property
    def name(self) -> str:
        """Name of the attempt, never used twice for a chunk."""
        ...

    @property
    def is_begun(self) -> bool:
        """Whether the render is at work already: `run` must see it to its end, whatever the job wants by now."""
        ...

    @property
    def log(self) -> str:
        """Location of the renderer's log."""
        ...

    @property
    def stop(self) -> RemoteStop | None:
        """Outcome of the order to stop, where a service rendered and was told to stop."""
        ...

    async def published(self) -> Sidecar | None:
        """Return the sidecar if the chunk is finished, by whomever; finishes what a dead winner began to publish."""
        ...

    async def run(self, watcher: RenderWatcher) -> Sidecar:
        """Render, check and publish the chunk; return the sidecar that stands.

        Finished frames of an image sequence are kept whatever happens, and none that is kept is rendered again.
        A cancel stops the work first and leaves nothing else behind but the log.

        Args:
            watcher: Called with the progress of the chunk, frames that were kept before included.

        Raises:
            AttemptError: This try has failed.
            AttemptLostError: The try ended through no fault of its own, and does not count.
            ThrottledError: The service has no room now; nothing was begun.
        """
        ...

    async def bill(self) -> Bill:
        """Return the bill of all attempts at this chunk so far."""
        ...


# Return a new try of a chunk of a job on a host; its name is never used twice.
MakeAttempt = Callable[[Host, OpenJob, Chunk, str], Attempt]
