"""Requests that a job answers: sent as updates of its workflow, refused in one sentence."""

import asyncio
from typing import Any, Protocol

from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError

from longtake.errors import BadJobError, NotReachableError

# An update needs a worker; one that replays a long history first answers well within this.
_PATIENCE_SECONDS = 30.0


class Updated(Protocol):
    """What is needed of a `WorkflowHandle`."""

    @property
    def id(self) -> str:
        """Id of the job."""

    async def execute_update(self, update: str, arg: object, *, result_type: type) -> Any:
        """Return the answer of the job's handler."""


async def request_number(
    workflow: Updated, name: str, request: object, *, patience_seconds: float = _PATIENCE_SECONDS
) -> int:
    """Return the number that the job answers with.

    Raises:
        BadJobError: The job refuses the request; nothing was changed.
        NotReachableError: No worker answers for the job.
        RPCError: Temporal refuses the request: there is no such job, or it has ended.
    """
    try:
        async with asyncio.timeout(patience_seconds):
            return await _answer(workflow, name, request)
    except TimeoutError as error:
        raise NotReachableError(
            f"no worker answers for {workflow.id}; `longtake doctor` shows which workers run, and then ask again"
        ) from error
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        raise BadJobError(
            f"{workflow.id}: {cause.message if isinstance(cause, ApplicationError) else cause}"
        ) from error


async def _answer(workflow: Updated, name: str, request: object) -> int:
    try:
        answer: int = await workflow.execute_update(name, request, result_type=int)
    except WorkflowUpdateRPCTimeoutOrCancelledError as error:
        # The SDK makes an error of a cancel, by which neither a timeout nor a Ctrl-C would know it again.
        if isinstance(error.__cause__, asyncio.CancelledError):
            raise error.__cause__ from None
        raise TimeoutError from error
    return answer
