"""Run the agent as an AWS Lambda function: `handler` is called by AWS's runtime client."""

import asyncio
import json
import logging
import os
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
    """What Lambda tells of an invocation, as far as it is used here."""

    def get_remaining_time_in_millis(self) -> int:
        """Return how much of its time is left."""
        ...


def handler(event: Any, context: LambdaContext) -> dict[str, Any]:
    """Carry out the order of a worker, or render for a Helios client; return the answer.

    Whatever was started has ended by then: Lambda would freeze it, and continue it with the next invocation.

    Returns:
        A `RemoteResult`; `{"refused": why}` for an order that is not carried out; or what a Helios client expects.
    """
    arrived = time.monotonic()
    call = Invocation(arrived, arrived + context.get_remaining_time_in_millis() / 1000)
    # The runtime client shows warnings only.
    logging.getLogger().setLevel(logging.INFO)
    is_order = isinstance(event, dict) and "order" in event
    try:
        settings, secret = _settings()
        return asyncio.run(_order(event, settings, secret, call) if is_order else _helios(event, settings, call))
    except LongtakeError as error:
        # Settings are no business of a Helios client, but nothing else says why it gets nothing.
        _log.warning("refused: %s", error)
        return {"refused": str(error)} if is_order else _failed(str(error))


async def _order(event: Any, settings: AgentSettings, secret: str, call: Invocation) -> dict[str, Any]:
    order = verify(_bytes(event), secret)
    async with Supervisor() as supervisor:
        result = await RenderAgent(settings, build_host(settings, supervisor, tools=settings.tools)).render(order, call)
    return result.model_dump(mode="json")


async def _helios(event: Any, settings: AgentSettings, call: Invocation) -> dict[str, Any]:
    async with Supervisor() as supervisor:
        worker = HeliosWorker(settings, build_host(settings, supervisor, tools=settings.tools), supervisor)
        return await answer_lambda(worker, event, call)


@cache
def _settings() -> tuple[AgentSettings, str]:
    forbid_reading()
    settings = AgentSettings.from_environ(os.environ)
    return settings, load_shared_secret(settings)


def _bytes(event: Any) -> bytes:
    try:
        return json.dumps(event).encode()
    except (ValueError, RecursionError) as error:
        raise RefusedOrderError("the request is no order of a Longtake worker") from error


def _failed(message: str) -> dict[str, Any]:
    return {"statusCode": 500, "body": json.dumps({"message": message})}
