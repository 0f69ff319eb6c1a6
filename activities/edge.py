"""What all edges to Temporal have in common: the job that an order means, and the name of the attempt."""

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.attempts.host import Host
from activities.errors import StoreNotSharedError
from activities.stores.job_folder import OpenJob
from longtake.errors import ErrorType
from longtake.models.messages import JobRef
from longtake.stores.store import StoreError


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
