"""Requests that a job answers: refusals become sentences, and neither a timeout nor a Ctrl-C is lost in the SDK."""

import asyncio

import pytest
from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError

from longtake.errors import BadJobError, NotReachableError
from longtake.handle import request_number


class Silent:
    """A job whose worker never answers, behind the SDK's way to tell of a cancel."""

    id = "film-1"

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def execute_update(self, update: str, arg: object, *, result_type: type) -> int:
        self.asked.set()
        try:
            return await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise WorkflowUpdateRPCTimeoutOrCancelledError from error


class Refusing:
    """A job whose validator refuses."""

    id = "film-1"

    async def execute_update(self, update: str, arg: object, *, result_type: type) -> int:
        raise WorkflowUpdateFailedError(ApplicationError("no chunk has failed", type="ValueError"))


async def test_a_refusal_is_the_sentence_of_the_job_alone() -> None:
    with pytest.raises(BadJobError, match=r"^film-1: no chunk has failed$"):
        await request_number(Refusing(), "retry_failed", None)


async def test_a_job_without_a_worker_is_given_up_in_one_sentence() -> None:
    with pytest.raises(NotReachableError, match=r"^no worker answers for film-1; `longtake doctor` shows which"):
        await request_number(Silent(), "retry_failed", None, patience_seconds=0.05)


async def test_a_ctrl_c_ends_the_wait_as_a_cancel() -> None:
    job = Silent()
    asking = asyncio.create_task(request_number(job, "retry_failed", None))
    await job.asked.wait()

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
