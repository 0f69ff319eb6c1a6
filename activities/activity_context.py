"""What every activity does at its edge to Temporal: send heartbeats, open its job, name its attempt."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import StoreNotSharedError
from activities.stores.job_folder import OpenJob
from longtake.errors import ErrorType
from longtake.models.fields import Contract
from longtake.models.messages import JobRef
from longtake.stores.store import StoreError

# Each answer to a heartbeat tells whether the activity is cancelled; the worker's throttle (worker.py) decides
# how many go out.
_HEARTBEAT_SECONDS = 0.2


@asynccontextmanager
async def send_heartbeats(details: Callable[[], Contract | None] = lambda: None) -> AsyncIterator[None]:
    """Send heartbeats while the block runs; a cancel of the activity raises `CancelledError` in the block.

    Args:
        details: Called for each heartbeat; returns the details that the next attempt finds if this one is lost.
    """

    async def send_forever() -> None:
        while True:
            _send(details())
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    task = asyncio.create_task(send_forever())
    try:
        yield
    finally:
        task.cancel()
        # A failure carries the details of the last heartbeat to the next attempt.
        _send(details())


def _send(details: Contract | None) -> None:
    if details is None:
        activity.heartbeat()
    else:
        activity.heartbeat(details)


def open_job(ref: JobRef, scratch: Path) -> OpenJob:
    """Read an accepted job from its store; blocking.

    Args:
        ref: Name of the job on the wire.
        scratch: Folder where this host works for buckets.

    Raises:
        ApplicationError: `StoreNotShared`, retried: this worker does not see the job's folder, and another one may;
            or the bucket is away.
    """
    try:
        return OpenJob.read(ref, scratch=scratch)
    except (StoreNotSharedError, StoreError) as error:
        raise ApplicationError(str(error), type=ErrorType.STORE_NOT_SHARED) from error


def attempt_name(work: str) -> str:
    """Return a name for this attempt of the activity at some work, never used twice."""
    info = activity.info()
    return f"{(info.workflow_run_id or '')[:8]}-{work}-{info.attempt}"
