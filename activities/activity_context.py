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
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, FailureError

from activities.attempts.host import Host
from activities.errors import StoreNotSharedError, describe_unexpected
from activities.heartbeat_budget import current_budget
from activities.stores.job_folder import OpenJob
from longtake.codec import require_decoded
from longtake.concurrency import run_beside, run_in_thread
from longtake.errors import BadJobError, ErrorType
from longtake.models.messages import Heartbeat, JobRef
from longtake.stores.store import StoreError, find_away_error
from longtake.text import describe_invalid

# How often the work is looked at for what must be told; `HeartbeatBudget` decides what is sent when.
_HEARTBEAT_LOOK_SECONDS = 0.1

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
async def send_heartbeats(
    details: Callable[[], Heartbeat],
    *,
    running: Callable[[], int] = lambda: 1,
    orders: Callable[[], object] = lambda: None,
) -> AsyncIterator[None]:
    """Send heartbeats while the block runs; a cancel of the activity raises `CancelledError` in the block.

    Args:
        details: Called at each look; returns the details that the next attempt finds if this one is lost.
        running: Returns how many activities of the workflow run at once, all of which write under its lock.
        orders: Returns what the job orders; other orders are answered by a heartbeat, whose answer brings a cancel that
            belongs to them and was not pushed.
    """
    budget = current_budget()
    clock = asyncio.get_running_loop().time

    async def send_forever() -> NoReturn:
        while True:
            sent, obeyed, began = details(), orders(), clock()
            activity.heartbeat(sent)
            wait = _HEARTBEAT_LOOK_SECONDS
            while wait > 0:
                await asyncio.sleep(min(wait, _HEARTBEAT_LOOK_SECONDS))
                count = running()
                due = budget.seconds(sent, details(), count)
                if orders() != obeyed:
                    due = budget.least_seconds(count)
                wait = began + due - clock()

    try:
        async with run_beside(send_forever()):
            yield
    finally:
        # A failure carries the details of the last heartbeat to the next attempt.
        activity.heartbeat(details())


class ActivityTry:
    """One attempt of an activity, whose heartbeats tell the next attempt what the attempts so far have come to.

    Args:
        fresh: What there is to say before the first attempt; None where attempts that never sent a heartbeat do not
            count as lost.

    Attributes:
        heartbeat: The heartbeat of this attempt.
        is_after_loss: Whether the attempt before this one was lost.
    """

    def __init__(self, fresh: Heartbeat | None = None) -> None:
        self.heartbeat, lost = _count_lost_attempts(fresh)
        self.is_after_loss = lost > 0

    def update(self, **fields: object) -> None:
        """Change fields of the heartbeat."""
        self.heartbeat = self.heartbeat.model_copy(update=fields)

    @property
    def may_fail_again(self) -> bool:
        """Whether another attempt follows where an unexpected error ends this one."""
        return self.heartbeat.unexpected + 1 < _MOST_UNEXPECTED_TRIES

    def check_losses(self, most: int, work: str) -> None:
        """Raise if so many workers were lost at this work that it is the likely cause.

        Raises:
            ApplicationError: `JobFailed`, not retried.
        """
        if self.heartbeat.losses >= most:
            raise ApplicationError(
                f"{self.heartbeat.losses} workers were lost while they {work}, so no other one gets it; look into "
                "their logs and the memory of their hosts, then `longtake retry`; retry.lost_workers allows more",
                type=ErrorType.JOB_FAILED,
                non_retryable=True,
            )


def _count_lost_attempts(fresh: Heartbeat | None) -> tuple[Heartbeat, int]:
    """Return what the attempts before this one have come to, and how many were lost since one last said so.

    It is in the last heartbeat of the one before.

    An attempt that did not say that it has ended was lost with its worker, and its work may be the cause. So was one of
    which there is no heartbeat, where each attempt sends one before it begins.
    """
    info = activity.info()
    # Details come without their type.
    details = info.heartbeat_details
    if details and isinstance(details[0], RawValue):
        require_decoded(details[0].payload, "the last heartbeat of this activity")
    beat = Heartbeat.model_validate(details[0]) if details else None
    if beat is None:
        beat = (fresh or Heartbeat(chunk=0, number=info.attempt - 1)).model_copy(update={"ended": True})
    # What an older worker sends has no number, and an activity that is reset counts from 1 again.
    is_numbered = not details or 0 < beat.number < info.attempt
    lost = info.attempt - 1 - beat.number + (not beat.ended) if is_numbered else 0
    return beat.model_copy(update={"losses": beat.losses + lost, "number": info.attempt, "ended": False}), lost


@asynccontextmanager
async def activity_edge(fresh: Heartbeat | None = None) -> AsyncIterator[ActivityTry]:
    """Turn what ends the block into what Temporal can use: unexpected errors are logged, and retried a few times.

    Without a bound an error of ours would be repeated for ever, and what it repeats may be a render. They are counted
    in heartbeats: Temporal's number of the attempt counts stores that are away, full services and lost workers too.

    Args:
        fresh: See `ActivityTry`.

    Raises:
        ApplicationError: `AttemptLost`, retried, where a store is away; `Unexpected`, retried at first, for anything
            else but errors of Temporal.
    """
    this = ActivityTry(fresh)
    try:
        yield this
    except Exception as error:
        if isinstance(error, FailureError):
            raise
        if isinstance(error, OSError) and (away := find_away_error(error)) is not None:
            # Retried for as long as it takes: somebody mends the disk, or the share comes back.
            _log.warning("%s: %s", activity.info().activity_type, away)
            raise ApplicationError(str(away), type=ErrorType.ATTEMPT_LOST) from error
        _log.exception("%s: an unexpected error", activity.info().activity_type)
        is_last = not this.may_fail_again
        this.update(unexpected=this.heartbeat.unexpected + 1)
        raise ApplicationError(describe_unexpected(error), type=ErrorType.UNEXPECTED, non_retryable=is_last) from error
    finally:
        this.update(ended=True)
        activity.heartbeat(this.heartbeat)


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
