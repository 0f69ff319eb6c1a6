"""Serve the agent as an AWS Lambda function: `python -m agent.lambda_handler`, or any runtime that calls `handler`."""

from activities.processes.privacy import hide_environment

if __name__ == "__main__":
    # Before other imports: it starts this program again.
    hide_environment()

import asyncio
import json
import logging
import os
import sys
import time
from functools import cache
from typing import Any, Protocol

from activities.attempts.host import build_host
from activities.processes.linux_table import forbid_reading
from activities.processes.supervisor import Supervisor
from activities.remote.protocol import RefusedOrderError, verify
from agent.agent import RenderAgent
from agent.call import Invocation
from agent.helios import HeliosWorker, answer_lambda
from agent.settings import AgentSettings, load_shared_secret
from longtake.errors import LongtakeError

_log = logging.getLogger(__name__)


class LambdaContext(Protocol):
    """The part of Lambda's context object that the agent uses."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds that are left of the invocation."""
        ...


def handler(event: Any, context: LambdaContext) -> dict[str, Any]:
    """Carry out the order of a worker, or render for a Helios client; return the answer.

    All processes have ended by then: Lambda would freeze them, and continue them with the next invocation.

    Returns:
        A `RemoteResult`; `{"refused": why}` for an order that is not carried out; or the answer to a Helios client.
    """
    arrived = time.monotonic()
    call = Invocation(arrived, arrived + context.get_remaining_time_in_millis() / 1000)
    # The runtime client sets the level to WARNING.
    logging.getLogger().setLevel(logging.INFO)
    is_order = isinstance(event, dict) and "order" in event
    try:
        settings, secret = _load_settings()
        return asyncio.run(
            _carry_out_order(event, settings, secret, call) if is_order else _render_for_helios(event, settings, call)
        )
    except LongtakeError as error:
        # A Helios client gets the sentence too: without it nothing tells why the chunk failed.
        _log.warning("refused: %s", error)
        return {"refused": str(error)} if is_order else _make_failure(str(error))


async def _carry_out_order(event: Any, settings: AgentSettings, secret: str, call: Invocation) -> dict[str, Any]:
    order = verify(_encode_event(event), secret)
    async with Supervisor() as supervisor:
        result = await RenderAgent(settings, build_host(settings, supervisor, tools=settings.tools)).render(order, call)
    return result.model_dump(mode="json")


async def _render_for_helios(event: Any, settings: AgentSettings, call: Invocation) -> dict[str, Any]:
    async with Supervisor() as supervisor:
        worker = HeliosWorker(settings, build_host(settings, supervisor, tools=settings.tools), supervisor)
        return await answer_lambda(worker, event, call)


@cache
def _load_settings() -> tuple[AgentSettings, str]:
    forbid_reading()
    settings = AgentSettings.from_environ(os.environ)
    return settings, load_shared_secret(settings)


def _encode_event(event: Any) -> bytes:
    try:
        return json.dumps(event).encode()
    except (ValueError, RecursionError) as error:
        raise RefusedOrderError("the request is no order of a Longtake worker") from error


def _make_failure(message: str) -> dict[str, Any]:
    return {"statusCode": 500, "body": json.dumps({"message": message})}


if __name__ == "__main__":
    from awslambdaric.__main__ import main

    main([sys.argv[0], "agent.lambda_handler.handler"])
