"""Planning: the edge between Temporal and the acceptance of a job."""

from collections.abc import Callable
from functools import partial

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.acceptance import Acceptance
from activities.activity_context import send_heartbeats
from activities.allowed_stores import AllowedStores
from activities.attempts.host import Host
from longtake.concurrency import in_thread
from longtake.errors import BadJobError, ErrorType
from longtake.models.job import RenderJobSpec
from longtake.models.messages import JobPlan, PlanOrder


class PlanActivities:
    """Accepts jobs for the store that this worker sees.

    Args:
        host: What this worker offers.
        places: Makes what it lets jobs use.
        check: Passes a job whose service it may call, or raises `BadJobError`.
        search_attributes: Whether the namespace has Longtake's search attributes.
    """

    def __init__(
        self,
        host: Host,
        places: Callable[[], AllowedStores],
        check: Callable[[RenderJobSpec], None],
        *,
        search_attributes: bool,
    ) -> None:
        self._host = host
        self._places = places
        self._check = check
        self._search_attributes = search_attributes

    @activity.defn(name="plan_job")
    async def plan_job(self, order: PlanOrder) -> JobPlan:
        """Accept the job, write it into its folder and say what is finished already.

        Safe to repeat: an accepted job is accepted again, whatever of it has been rendered since.

        Raises:
            ApplicationError: `BadJob`, never retried: what is wrong, and nothing was written.
        """
        async with send_heartbeats():
            try:
                return await in_thread(partial(self._plan, order))
            except BadJobError as error:
                raise ApplicationError(str(error), type=ErrorType.BAD_JOB, non_retryable=True) from error

    def _plan(self, order: PlanOrder) -> JobPlan:
        self._check(order.job)
        acceptance = Acceptance(order, self._host, self._places())
        opened = acceptance.run()
        done = acceptance.finished(opened)
        return JobPlan(
            ref=acceptance.ref,
            chunk_count=len(opened.chunks),
            frame_count=opened.chunks.frame_count,
            done=done,
            search_attributes=self._search_attributes,
        )
