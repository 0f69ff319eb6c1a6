"""The orders of all jobs of a farm, heard by one long poll: that of the history of the workflow `FarmControl`.

The server answers it with each signal as that is written down, so that no worker has to run. An empty answer comes when
the poll has waited for long enough, and tells that the server is there.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import NoReturn, Protocol

from pydantic import ValidationError
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryResponse,
)
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import RawValue, WorkflowIDConflictPolicy
from temporalio.converter import WorkflowSerializationContext
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from longtake.models.messages import FarmOrder
from longtake.names import FARM_CONTROL_WORKFLOW, FARM_ORDER, farm_control_id
from longtake.text import describe_invalid

_log = logging.getLogger(__name__)

# The server answers a second before the deadline of a poll: 1,000 workers make 71 calls a second.
_POLL_SECONDS = 15.0
_ANSWER_SECONDS = 5.0

# Where orders come in a stream, they are heard together: at most four calls a second.
_LEAST_SECONDS = 0.25

# After a call that failed, and after one that was refused for a reason that stays.
_RETRY_SECONDS = 1.0
_REFUSED_SECONDS = 60.0
_REFUSALS = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.UNIMPLEMENTED)

# The place in the history is no longer one.
_LOST_PLACE = (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.FAILED_PRECONDITION)


class FarmAudience(Protocol):
    """Those who act on what a listener hears."""

    def hear_order(self, order: FarmOrder) -> None:
        """Hear that the orders of a job have changed; its memo says the same by now."""

    def hear_answer(self) -> None:
        """Hear that Temporal has answered."""

    def hear_gap(self) -> None:
        """Hear that orders may have been missed: those in the memos hold."""


class FarmListener:
    """Follows the orders of a farm.

    Args:
        client: Connection to Temporal.
        task_queue: The task queue of the farm's jobs.

    Attributes:
        is_hearing: Whether all orders are heard at once now.
    """

    def __init__(self, client: Client, task_queue: str) -> None:
        self.is_hearing = False
        self._client = client
        self._task_queue = task_queue
        self._id = farm_control_id(task_queue)
        context = WorkflowSerializationContext(namespace=client.namespace, workflow_id=self._id)
        self._converter = client.data_converter.with_context(context)
        self._run = ""
        self._token = b""
        self._known_events = 0

    async def listen(self, audience: FarmAudience, contact_seconds: float) -> NoReturn:
        """Follow the orders until cancelled; begin where the last call was cancelled, if it was.

        Args:
            audience: Who hears them.
            contact_seconds: How long Temporal may be silent; each poll is much shorter.
        """
        poll_seconds = max(2.0, min(_POLL_SECONDS, contact_seconds / 2))
        clock, has_failed = asyncio.get_running_loop().time, False
        try:
            while True:
                try:
                    if not self._run:
                        await self._find_place()
                        audience.hear_answer()
                        audience.hear_gap()
                    # A poll that fails does so at once, as long as there is contact; then only an answer counts.
                    self.is_hearing = not has_failed
                    began = clock()
                    answer = await self._poll(poll_seconds)
                except (RPCError, TimeoutError) as error:
                    self.is_hearing = False
                    if not has_failed:
                        _log.warning("orders of jobs are not told (%s); each job is asked for its own", error)
                        audience.hear_gap()
                    has_failed = True
                    await self._wait_after(error)
                else:
                    has_failed, self.is_hearing = False, True
                    audience.hear_answer()
                    await self._tell(answer, audience)
                    await asyncio.sleep(began + _LEAST_SECONDS - clock())
        finally:
            self.is_hearing = False

    async def _find_place(self) -> None:
        """Begin at the end of the history, of a new workflow if need be."""
        handle = self._client.get_workflow_handle(self._id)
        async with asyncio.timeout(_ANSWER_SECONDS):
            try:
                description = await handle.describe()
                is_there = description.status is WorkflowExecutionStatus.RUNNING
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                is_there = False
            if not is_there:
                await self._start()
                description = await handle.describe()
        self._begin(description.run_id, description.history_length)

    async def _start(self) -> None:
        try:
            await self._client.start_workflow(
                FARM_CONTROL_WORKFLOW,
                id=self._id,
                task_queue=self._task_queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            )
        except WorkflowAlreadyStartedError:
            # Another worker was as quick.
            pass
        else:
            _log.info("orders of jobs are told by the workflow '%s'", self._id)

    def _begin(self, run: str, known_events: int) -> None:
        self._run, self._token, self._known_events = run, b"", known_events

    async def _poll(self, seconds: float) -> GetWorkflowExecutionHistoryResponse:
        request = GetWorkflowExecutionHistoryRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=self._id, run_id=self._run),
            wait_new_event=True,
            next_page_token=self._token,
        )
        service = self._client.workflow_service
        # A connection that is cut in silence may hold a call beyond its deadline.
        async with asyncio.timeout(seconds + _ANSWER_SECONDS):
            return await service.get_workflow_execution_history(request, timeout=timedelta(seconds=seconds))

    async def _wait_after(self, error: RPCError | TimeoutError) -> None:
        status = error.status if isinstance(error, RPCError) else None
        if status in _LOST_PLACE:
            self._begin("", 0)
        pause = _REFUSED_SECONDS if status in _REFUSALS else _RETRY_SECONDS
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))

    async def _tell(self, answer: GetWorkflowExecutionHistoryResponse, audience: FarmAudience) -> None:
        known_events, is_over = self._known_events, self._go_on(answer)
        for event in answer.history.events:
            signal = event.workflow_execution_signaled_event_attributes
            if event.event_id > known_events and signal.signal_name == FARM_ORDER:
                await self._tell_order(signal.input.payloads, audience)
        if is_over:
            self.is_hearing = False
            # Not all workers at once start another one.
            await asyncio.sleep(_RETRY_SECONDS * random.uniform(0, 1))

    def _go_on(self, answer: GetWorkflowExecutionHistoryResponse) -> bool:
        """Go on behind an answer, in the next run if the workflow has one; return whether it has come to its end."""
        # Without a place to go on from the run has ended.
        following = self._run if answer.next_page_token else ""
        for event in answer.history.events:
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
                following = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        if following == self._run:
            self._token = answer.next_page_token
        else:
            self._begin(following, 0)
        return not following

    async def _tell_order(self, payloads: Sequence[Payload], audience: FarmAudience) -> None:
        values = await self._converter.decode(payloads)
        if any(isinstance(value, RawValue) for value in values):
            # Of a job with another key.
            audience.hear_gap()
            return
        try:
            order = FarmOrder.model_validate(values[0] if values else None)
        except ValidationError as error:
            _log.warning("what is no order was sent to the workflow '%s': %s", self._id, describe_invalid(error))
        else:
            audience.hear_order(order)
