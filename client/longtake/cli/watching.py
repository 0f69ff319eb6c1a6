"""Following one job, over outages of the server and without ever showing an older state than before."""

import asyncio
import time
from typing import Protocol

from longtake.cli.views import View
from longtake.errors import NotReachableError
from longtake.models.status import JobState, JobStatus

# A terminal is looked at this often; a look costs the server some 2 ms.
_LOOK_SECONDS = 0.5

# A server that is restarted or moved is back sooner; then somebody must look.
_PATIENCE_SECONDS = 600.0

# A worker that is there takes a job within a second.
_PICKUP_SECONDS = 5.0


class Watched(Protocol):
    """What is needed of a `JobHandle`."""

    id: str

    async def status(self) -> JobStatus:
        """Return where the job stands."""


async def follow(job: Watched, view: View, *, interval_seconds: float = _LOOK_SECONDS) -> JobStatus:
    """Show the job until it ends; return how it ended.

    Raises:
        NoSuchJobError: There is no such job.
        NotReachableError: Temporal did not answer the first look, or for ten minutes.
    """
    last: JobStatus | None = None
    answered, hinted, began = time.monotonic(), False, time.monotonic()
    with view:
        while True:
            try:
                last = _newer(last, await job.status())
            except NotReachableError as error:
                if last is None or time.monotonic() - answered > _PATIENCE_SECONDS:
                    raise
                view.note(f"no answer ({error}); the job is safe, and I keep asking")
            else:
                answered = time.monotonic()
                view.show(last)
                if last.state.ended:
                    return last
                if last.state is JobState.PENDING and not hinted and answered - began > _PICKUP_SECONDS:
                    hinted = True
                    view.note(f"no worker has planned {job.id} yet; `longtake doctor` shows which workers run")
            await asyncio.sleep(interval_seconds)


def _newer(last: JobStatus | None, now: JobStatus) -> JobStatus:
    """Return the younger of two looks: without a worker a job shows what it wrote down a while ago."""
    if last is None or last.updated_at is None or now.updated_at is None or now.state.ended:
        return now
    if now.created_at != last.created_at or now.updated_at >= last.updated_at:
        return now
    present = {"running": now.running, "running_chunks": now.running_chunks, "frozen_chunks": now.frozen_chunks}
    return last.model_copy(update=present)
