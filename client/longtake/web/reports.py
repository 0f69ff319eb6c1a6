"""Route for the report of a job: one page that needs nothing else."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from longtake.report.job_report import gather_report
from longtake.report.page import content_security_policy, write_page
from longtake.stores.job_records import JobRecords
from longtake.web.gateway import Job, Shared

router = APIRouter(tags=["chunks"])


@router.get("/jobs/{id}/report", response_class=HTMLResponse)
async def show_report(job: Job, shared: Shared) -> HTMLResponse:
    """Write all that is known of a job into one page, as `longtake report` does; a million chunks take 15 seconds."""
    status = (await shared.statuses.read(job.id)).status

    def look(records: JobRecords) -> str:
        # What is drawn is a copy of what is known: others look at the job meanwhile.
        history = shared.histories.read_whole(records, status).chunks
        return write_page(gather_report(records, status, history=history))

    # Each holds a copy of what became of all chunks.
    async with shared.reports:
        page = await shared.stores.read(status, look)
    # In place of the policy of the other pages, which would refuse its style and its pictures.
    return HTMLResponse(page, headers={"Content-Security-Policy": content_security_policy()})
