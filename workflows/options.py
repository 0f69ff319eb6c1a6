"""Task queues, timeouts and retry policies of the activities, each with its reason."""

from datetime import timedelta
from typing import TypedDict

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType

with workflow.unsafe.imports_passed_through():
    from longtake.errors import ErrorType
    from longtake.models.job_fields import JobFields
    from longtake.names import render_queue

# A worker that dies is noticed after this long. Cancels do not wait for it: the server pushes them, or they come with
# the answers to heartbeats (`activities/heartbeat_budget.py`).
HEARTBEAT_TIMEOUT = timedelta(seconds=10)

# Time of a chunk beside its render: hashing, checking and publishing on a slow file system.
CHECK_SECONDS = 1800

# The server counts the time of a freeze as time of the activity, and a worker does not: after a freeze that lasts
# longer than this, the frozen chunks are rendered again.
FREEZE_SECONDS = 60 * 60 * 24 * 30


# How long the end of a job waits for its report: that of a million chunks takes 15 s on a machine with nothing else to
# do. Of a store that is away nobody can say when it comes back, and a report can be made at any time.
REPORT_SECONDS = 120


class ActivityOptions(TypedDict):
    """Keyword arguments of `workflow.start_activity_method`."""

    task_queue: str
    start_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    cancellation_type: ActivityCancellationType


class LimitedOptions(ActivityOptions):
    """Those of activities that are given up after a time."""

    schedule_to_close_timeout: timedelta


class LocalActivityOptions(TypedDict):
    """Keyword arguments of `workflow.execute_local_activity`."""

    schedule_to_close_timeout: timedelta


def local_options() -> LocalActivityOptions:
    """Return the options of an activity that only says what its worker knows."""
    return {"schedule_to_close_timeout": timedelta(seconds=10)}


def control_options() -> ActivityOptions:
    """Return the options of activities that plan, drain, stitch and stop agents."""
    return {
        "task_queue": workflow.info().task_queue,
        # A stitch of a long film reads and writes all of it.
        "start_to_close_timeout": timedelta(days=2),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(seconds=1),
            maximum_interval=timedelta(seconds=30),
            non_retryable_error_types=[ErrorType.BAD_JOB, ErrorType.STITCH_REFUSED],
        ),
        # A cancelled activity counts as ended only when its processes are gone, so that none is left behind a job.
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }


def delivery_options() -> LimitedOptions:
    """Return the options of activities that tell receivers of events, which are retried for a day."""
    return {
        **control_options(),
        # A delivery takes a minute at most.
        "start_to_close_timeout": timedelta(minutes=5),
        "schedule_to_close_timeout": timedelta(days=1),
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(seconds=1),
            maximum_interval=timedelta(minutes=10),
            non_retryable_error_types=[ErrorType.NOT_ALLOWED],
        ),
    }


def report_options() -> LimitedOptions:
    """Return the options of the activity that writes the report of a job, whose end does not wait for it for long."""
    return {
        **control_options(),
        "start_to_close_timeout": timedelta(seconds=REPORT_SECONDS),
        "schedule_to_close_timeout": timedelta(seconds=REPORT_SECONDS),
    }


def render_options(job: JobFields, chunks: int) -> ActivityOptions:
    """Return the options of an activity that renders some chunks of a job one after the other.

    The retry policy is for lost workers only: with each failed try, and each service without room, the worker itself
    says how long to wait before the next one. There is no maximum of attempts, because Temporal counts by span what
    workers count by chunk, in heartbeats: failed tries (`retry.attempts`), lost workers (`retry.lost_workers`) and
    unexpected errors; a full service and a store that is not seen are waited for.
    """
    chunk_seconds = job.chunk_limit_seconds + job.timeouts.grace_seconds + CHECK_SECONDS
    return {
        "task_queue": render_queue(workflow.info().task_queue, job.backend_kind),
        "start_to_close_timeout": timedelta(seconds=chunk_seconds * chunks + FREEZE_SECONDS),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(seconds=1),
            maximum_interval=timedelta(seconds=30),
            non_retryable_error_types=[ErrorType.BAD_JOB, ErrorType.CHUNK_FAILED],
        ),
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }
