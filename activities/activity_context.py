"""Heartbeats: how an activity says that it lives, and hears that it must stop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.attempts.host import Host
from activities.errors import StoreNotSharedError
from activities.stores.job_folder import OpenJob
from longtake.errors import ErrorType
from longtake.models.fields import Contract
from longtake.models.messages import JobRef
from longtake.stores.store import StoreError

# Each answer to a heartbeat tells whether the activity is cancelled; the worker's throttle (worker.py) decides
# how many go out.
_BEAT_SECONDS = 0.2


@asynccontextmanager
async def send_heartbeats(details: Callable[[], Contract | None] = lambda: None) -> AsyncIterator[None]:
    """Beat until the block is left; a cancel of the activity arrives inside it as `CancelledError`.

    Args:
        details: Called for each beat; what it returns is what the next attempt finds if this one is lost.
    """

    async def beat() -> None:
        while True:
            _send(details())
            await asyncio.sleep(_BEAT_SECONDS)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        # The last word travels with the failure, if there is one.
        _send(details())


def _send(details: Contract | None) -> None:
    if details is None:
        activity.heartbeat()
    else:
        activity.heartbeat(details)


def open_job(ref: JobRef, host: Host) -> OpenJob:
    """Return an accepted job; blocking, where its store is elsewhere.

    Raises:
        ApplicationError: `StoreNotShared`, retried: its folder is not here, and may be on another worker; or its
            bucket is away.
    """
    try:
        return OpenJob.read(ref, scratch=host.scratch)
    except (StoreNotSharedError, StoreError) as error:
        raise ApplicationError(str(error), type=ErrorType.STORE_NOT_SHARED) from error


def attempt_name(work: str) -> str:
    """Return the name of this attempt at some work, never used twice."""
    info = activity.info()
    return f"{(info.workflow_run_id or '')[:8]}-{work}-{info.attempt}"
