"""Requests that a job answers: refusals become sentences, and neither a timeout nor a Ctrl-C is lost in the SDK."""

import asyncio

import pytest
from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError

from longtake.errors import BadJobError, NotReachableError
from longtake.handle import await_update


class Silent:
    """A job whose worker never answers, behind the SDK's way to tell of a cancel."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def update(self) -> int:
        self.asked.set()
        try:
            return await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise WorkflowUpdateRPCTimeoutOrCancelledError from error


class Refusing:
    """A job whose validator refuses."""

    async def update(self) -> int:
        raise WorkflowUpdateFailedError(ApplicationError("no chunk has failed", type="ValueError"))


async def test_a_refusal_is_the_sentence_of_the_job_alone() -> None:
    with pytest.raises(BadJobError, match=r"^film-1: no chunk has failed$"):
        await await_update("film-1", Refusing().update())


async def test_a_job_without_a_worker_is_given_up_in_one_sentence() -> None:
    with pytest.raises(NotReachableError, match=r"^no worker answers for film-1; .* may still follow this request"):
        await await_update("film-1", Silent().update(), patience_seconds=0.05)


async def test_a_ctrl_c_ends_the_wait_as_a_cancel() -> None:
    job = Silent()
    asking = asyncio.create_task(await_update("film-1", job.update()))
    await job.asked.wait()

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
