"""The activity `write_report`: write the report of a job that has ended beside its records."""

import logging
from functools import partial

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.activity_context import activity_edge, open_job, send_heartbeats
from activities.attempts.host import Host
from activities.errors import describe_unexpected
from activities.stores.job_folder import OpenJob
from longtake.concurrency import run_in_thread
from longtake.errors import ErrorType
from longtake.models.messages import Heartbeat, ReportOrder, ReportPlace
from longtake.models.status import JobStatus
from longtake.names import WRITE_REPORT
from longtake.report.job_report import gather_report
from longtake.report.page import write_page
from longtake.stores.store import find_away_error

_log = logging.getLogger(__name__)


class ReportActivities:
    """The activity that writes reports.

    Args:
        host: This worker's host.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    @activity.defn(name=WRITE_REPORT)
    async def write_report(self, order: ReportOrder) -> ReportPlace:
        """Write the report of a job into its folder, in place of one that an earlier run of the job has left.

        Safe to repeat. The job has ended, and does not depend on its report.

        Raises:
            ApplicationError: `AttemptLost`, retried for some minutes, where the store is away; `Unexpected`, not
                retried.
        """
        async with activity_edge(Heartbeat(chunk=0)) as this, send_heartbeats(lambda: this.heartbeat):
            job = await open_job(order.ref, self._host)
            try:
                return await run_in_thread(partial(_write, job, order.status))
            except Exception as error:
                if isinstance(error, OSError) and find_away_error(error) is not None:
                    # Another try may find it again.
                    raise
                _log.exception("job %s: its report cannot be written", order.ref.id)
                # What is not expected would be the same with each try, and the job waits for its report.
                raise ApplicationError(
                    describe_unexpected(error), type=ErrorType.UNEXPECTED, non_retryable=True
                ) from error


def _write(job: OpenJob, status: JobStatus) -> ReportPlace:
    """Gather and write the report; blocking."""
    folder = job.folder
    folder.check_store()
    page = write_page(gather_report(folder, status))
    folder.store.replace(folder.report_file, page.encode("utf-8", "replace"))
    return ReportPlace(location=folder.report_file)
