"""How each activity is run: queues, timeouts and retries, each with its reason."""

from datetime import timedelta
from typing import TypedDict

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType

with workflow.unsafe.imports_passed_through():
    from longtake.errors import ErrorType
    from longtake.models.job import RenderJobSpec
    from longtake.names import render_queue

# A worker that dies is noticed after this long. Cancels do not wait for it: they come with the answers to
# heartbeats, which the worker sends four times a second (measured: 37 ms at the median).
HEARTBEAT_TIMEOUT = timedelta(seconds=10)

# Beside the render: hashing, checking and publishing a chunk on a slow file system.
CHECK_SECONDS = 1800

# The worker's own clock stands still while a render is frozen, and the server's does not: a freeze that lasts longer
# costs the chunks that were frozen.
FREEZE_SECONDS = 60 * 60 * 24 * 30

# A chunk that takes its worker down every time must end some time; render failures are counted apart.
LOST_WORKERS = 50

# A service without room is asked again about once a minute: more than a day of that, before a chunk counts as failed.
THROTTLED = 2000


class ActivityOptions(TypedDict):
    """Keyword arguments of `workflow.start_activity_method`."""

    task_queue: str
    start_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    cancellation_type: ActivityCancellationType


# A disk that is full or a folder that is away shows as a failure after some minutes, not as a job that hangs.
MOST_TRIES = 10


def orchestration() -> ActivityOptions:
    """Return options for planning, draining and stitching."""
    return {
        "task_queue": workflow.info().task_queue,
        # Joining a long film reads and writes all of it.
        "start_to_close_timeout": timedelta(days=2),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(seconds=1),
            maximum_interval=timedelta(seconds=30),
            maximum_attempts=MOST_TRIES,
            non_retryable_error_types=[ErrorType.BAD_JOB, ErrorType.STITCH_REFUSED],
        ),
        # The workflow goes on only when the work has really ended: cancelled means dead.
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }


def rendering(job: RenderJobSpec, chunks: int) -> ActivityOptions:
    """Return options for rendering this many chunks one after the other.

    The waits between tries of a chunk, and for services without room, are the worker's to say, with each failure; the
    policy here speaks for lost workers only.
    """
    each = job.chunk_limit_seconds + job.timeouts.grace_seconds + CHECK_SECONDS
    spared = LOST_WORKERS + (THROTTLED if job.remote else 0)
    return {
        "task_queue": render_queue(workflow.info().task_queue, job.backend_kind),
        "start_to_close_timeout": timedelta(seconds=each * chunks + FREEZE_SECONDS),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(seconds=1),
            maximum_interval=timedelta(seconds=30),
            maximum_attempts=job.retry.attempts * chunks + spared,
            non_retryable_error_types=[ErrorType.BAD_JOB, ErrorType.CHUNK_FAILED],
        ),
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }
