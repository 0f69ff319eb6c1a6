"""Planning: the edge between Temporal and the acceptance of a job."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.accepting import Acceptance
from activities.beating import beating
from activities.processes.programs import Programs
from activities.threads import in_thread
from longtake.errors import BadJobError, ErrorType
from longtake.work import JobPlan, PlanOrder


class PlanActivities:
    """Accepts jobs for the store that this worker sees.

    Args:
        roots: Folders that jobs may use; the first one is for jobs that name none.
        programs: Programs that jobs may run.
        search_attributes: Whether the namespace has Longtake's search attributes.
    """

    def __init__(self, roots: Sequence[Path], programs: Programs, *, search_attributes: bool) -> None:
        self._roots = roots
        self._programs = programs
        self._search_attributes = search_attributes

    @activity.defn(name="plan_job")
    async def plan_job(self, order: PlanOrder) -> JobPlan:
        """Accept the job, write it into its folder and say what is finished already.

        Safe to repeat: an accepted job is accepted again, whatever of it has been rendered since.

        Raises:
            ApplicationError: `BadJob`, never retried: what is wrong, and nothing was written.
        """
        async with beating():
            try:
                return await in_thread(partial(self._plan, order))
            except BadJobError as error:
                raise ApplicationError(str(error), type=ErrorType.BAD_JOB, non_retryable=True) from error

    def _plan(self, order: PlanOrder) -> JobPlan:
        acceptance = Acceptance(order, self._roots, self._programs)
        opened = acceptance.run()
        done = acceptance.finished(opened)
        return JobPlan(
            ref=acceptance.ref,
            chunk_count=len(opened.chunks),
            frame_count=opened.chunks.frame_count,
            done=done,
            search_attributes=self._search_attributes,
        )
