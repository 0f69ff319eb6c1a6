"""What every activity does at its edge to Temporal: send heartbeats, open its job, name its attempt."""

import asyncio
import hashlib
import logging
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import NoReturn

from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError, FailureError

from activities.attempts.host import Host
from activities.errors import StoreNotSharedError, describe_unexpected
from activities.stores.job_folder import OpenJob
from longtake.concurrency import run_beside, run_in_thread
from longtake.errors import BadJobError, ErrorType
from longtake.models.fields import Contract
from longtake.models.messages import JobRef
from longtake.stores.store import StoreError, find_away_error
from longtake.text import describe_invalid

# Each answer to a heartbeat tells whether the activity is cancelled; the worker's throttle (worker.py) decides
# how many go out.
_HEARTBEAT_SECONDS = 0.2

# An error that stays shows as a failure after some minutes, not as a job that hangs.
_MOST_UNEXPECTED_TRIES = 10

# A slot that is kept by a chunk whose store is not seen serves no other job meanwhile.
_LOOK_SECONDS = 10.0
_LOOK_PAUSE_SECONDS = 1.0
_GIVEN_BACK_SECONDS = (0.5, 10.0)

_log = logging.getLogger(__name__)

# Stores that this worker has said it does not see: once in its log, and not with each chunk.
_unseen_stores: set[str] = set()


@asynccontextmanager
async def send_heartbeats(details: Callable[[], Contract | None] = lambda: None) -> AsyncIterator[None]:
    """Send heartbeats while the block runs; a cancel of the activity raises `CancelledError` in the block.

    Args:
        details: Called for each heartbeat; returns the details that the next attempt finds if this one is lost.
    """

    async def send_forever() -> NoReturn:
        while True:
            _send(details())
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    try:
        async with run_beside(send_forever()):
            yield
    finally:
        # A failure carries the details of the last heartbeat to the next attempt.
        _send(details())


@asynccontextmanager
async def activity_edge() -> AsyncIterator[None]:
    """Turn what ends the block into what Temporal can use: unexpected errors are logged, and retried a few times.

    Without a bound an error of ours would be repeated for ever, and what it repeats may be a render.

    Raises:
        ApplicationError: `AttemptLost`, retried, where a store is away; `Unexpected`, retried at first, for anything
            else but errors of Temporal.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, FailureError):
            raise
        if isinstance(error, OSError) and (away := find_away_error(error)) is not None:
            # Retried for as long as it takes: somebody mends the disk, or the share comes back.
            _log.warning("%s: %s", activity.info().activity_type, away)
            raise ApplicationError(str(away), type=ErrorType.ATTEMPT_LOST) from error
        info = activity.info()
        _log.exception("%s: an unexpected error", info.activity_type)
        raise ApplicationError(
            describe_unexpected(error),
            type=ErrorType.UNEXPECTED,
            non_retryable=info.attempt >= _MOST_UNEXPECTED_TRIES,
        ) from error


def _send(details: Contract | None) -> None:
    if details is None:
        activity.heartbeat()
    else:
        activity.heartbeat(details)


async def open_job(ref: JobRef, host: Host) -> OpenJob:
    """Read an accepted job from its store; where this worker does not see it, look again for some seconds.

    A worker that failed at once would be free for the next chunk at once, and take every chunk of the job from the
    workers that see the store.

    The store and the programs that a job may use are looked at again: an order to render may come from somebody else
    than the workflow that has planned the job.

    Args:
        ref: Name of the job on the wire.
        host: This worker's host.

    Raises:
        ApplicationError: `StoreNotShared`, retried for ever: another worker may see the job's folder, or allow what
            the job uses, as the one did that has planned it; or the bucket is away.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + _LOOK_SECONDS
    while True:
        try:
            job = await run_in_thread(partial(_read_job, ref, host))
        except (BadJobError, StoreNotSharedError, StoreError) as error:
            if ref.store_url not in _unseen_stores:
                _unseen_stores.add(ref.store_url)
                _log.error("%s; until then %s renders nothing of jobs there", error, host.name)
            if clock() >= end:
                # Random, so that this worker is not the first again at all the chunks that it has given back.
                wait = timedelta(seconds=random.uniform(*_GIVEN_BACK_SECONDS))
                raise ApplicationError(
                    f"{host.name}: {error}", type=ErrorType.STORE_NOT_SHARED, next_retry_delay=wait
                ) from error
        else:
            if ref.store_url in _unseen_stores:
                _unseen_stores.discard(ref.store_url)
                _log.info("%s sees %s", host.name, ref.store_url)
            return job
        await asyncio.sleep(_LOOK_PAUSE_SECONDS)


def _read_job(ref: JobRef, host: Host) -> OpenJob:
    host.check_store(ref)
    try:
        job = OpenJob.read(ref, scratch=host.scratch)
    except ValidationError as error:
        said = f"the record of job {ref.id} is not one that this worker knows ({describe_invalid(error)})"
        raise StoreNotSharedError(f"{said}; run one version on all hosts, or look who has changed it") from error
    host.check_job(job)
    return job


def attempt_name(work: str) -> str:
    """Return a name for this attempt of the activity at some work, never used twice.

    The random part is what makes it so: an activity that is reset counts its attempts from 1 again, and the beginning
    of a run id is a clock in steps of 65 s (UUIDv7), which runs of one job shared. Two attempts of one name would
    write into one folder and kill each other's processes. The rest tells a person whose attempt it was.
    """
    info = activity.info()
    run = hashlib.sha256((info.workflow_run_id or "").encode()).hexdigest()[:8]
    return f"{run}-{work}-{info.attempt}-{secrets.token_hex(4)}"
