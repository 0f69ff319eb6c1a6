"""Have the report of a job that has ended written, within the time that the end of a job may wait for it."""

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError

with workflow.unsafe.imports_passed_through():
    from longtake.models.messages import ReportOrder
    from longtake.names import WRITE_REPORT
    from workflows import options
    from workflows.status_board import build_job_error


async def write_report(order: ReportOrder) -> str:
    """Have a worker write a report; return why it was not written, empty where it was."""
    try:
        await workflow.execute_activity(
            WRITE_REPORT, order, result_type=RawValue, summary="report", **options.report_options()
        )
    except ActivityError as error:
        if not isinstance(error.cause, TimeoutError):
            return build_job_error(error).message
        # What has stood in the way of the tries so far.
        last = error.cause.cause
        why = f": {last.message}" if isinstance(last, ApplicationError) else ""
        return f"no worker has done it within {options.REPORT_SECONDS} s{why}"
    return ""
