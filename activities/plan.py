"""The activity `plan_job`: accept a job and count its chunks."""

from collections.abc import Callable
from functools import partial

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.acceptance import Acceptance
from activities.activity_context import activity_edge, send_heartbeats
from activities.allowed_stores import AllowedStores
from activities.attempts.host import Host
from activities.notify.receivers import AllowedReceivers
from activities.rerender import revoke_frames
from longtake.concurrency import run_in_thread
from longtake.errors import BadJobError, ErrorType
from longtake.models.job import RenderJobSpec
from longtake.models.messages import JobPlan, PlanOrder
from longtake.names import HAS_SEARCH_ATTRIBUTES, PLAN_JOB


class PlanActivities:
    """The activity that accepts jobs.

    Args:
        host: This worker's host.
        make_allowed: Makes the folders and buckets that jobs may use.
        check_service: Raises `BadJobError` for a job whose service this worker may not call.
        receivers: Whom jobs may tell of their events.
        search_attributes: Whether the namespace has Longtake's search attributes.
    """

    def __init__(
        self,
        host: Host,
        make_allowed: Callable[[], AllowedStores],
        check_service: Callable[[RenderJobSpec], None],
        receivers: AllowedReceivers,
        *,
        search_attributes: bool,
    ) -> None:
        self._host = host
        self._make_allowed = make_allowed
        self._check_service = check_service
        self._receivers = receivers
        self._search_attributes = search_attributes

    @activity.defn(name=PLAN_JOB)
    async def plan_job(self, order: PlanOrder) -> JobPlan:
        """Accept the job, write it into its folder and return its size and its finished chunks.

        Safe to repeat: an accepted job is accepted again, whatever of it has been rendered since.

        Raises:
            ApplicationError: `BadJob`, never retried: what is wrong, and nothing was written.
        """
        async with activity_edge() as this, send_heartbeats(lambda: this.heartbeat):
            this.check_losses(order.job.retry.lost_workers, "planned it")
            try:
                return await run_in_thread(partial(self._plan, order))
            except BadJobError as error:
                raise ApplicationError(str(error), type=ErrorType.BAD_JOB, non_retryable=True) from error

    @activity.defn(name=HAS_SEARCH_ATTRIBUTES)
    async def has_search_attributes(self) -> bool:
        """Return whether the namespace has Longtake's search attributes, for a job that fails before it is planned."""
        return self._search_attributes

    def _plan(self, order: PlanOrder) -> JobPlan:
        self._check_service(order.job)
        self._receivers.check_all(order.job.notify)
        acceptance = Acceptance(order, self._host, self._make_allowed())
        opened = acceptance.run()
        if order.job.rerender is not None:
            revoke_frames(opened, order.job.rerender)
            acceptance.forget_finished_chunks()
        done = acceptance.find_finished_chunks(opened)
        left_out = acceptance.find_missing_chunks(opened, done)
        return JobPlan(
            ref=acceptance.ref,
            chunk_count=len(opened.chunks),
            frame_count=opened.chunks.frame_count,
            done=done,
            left_out=left_out,
            search_attributes=self._search_attributes,
            farm_events=self._receivers.farm_events,
        )
