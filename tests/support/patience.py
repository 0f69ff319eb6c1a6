"""Waiting for the end of a job whose server, or the way to it, is away for a while."""

import asyncio

from temporalio.service import RPCError

from longtake import JobHandle, JobStatus
from longtake.errors import LongtakeError

# Some heartbeat timeouts and workflow task timeouts of 10 s, one after the other.
_SECONDS = 180.0


async def ended(job: JobHandle) -> JobStatus:
    """Return how a job ended; a server that is away for a moment is no answer."""
    status: JobStatus | None = None
    try:
        async with asyncio.timeout(_SECONDS):
            while True:
                try:
                    status = await job.status()
                except (LongtakeError, RPCError):
                    continue
                finally:
                    await asyncio.sleep(0.25)
                if status.state.has_ended:
                    return status
    except TimeoutError:
        raise AssertionError(f"the job never ended; last seen: {status}") from None
