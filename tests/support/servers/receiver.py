"""A receiver of webhooks on loopback that fails, hangs or redirects as a test tells it, and keeps what it got."""

import asyncio
import base64
import json
import os
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook
from support.servers.http_server import Connection, HttpServer, Request
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError

from longtake.models.notify import NotifyReport
from ports import LOOPBACK

Answer = Callable[[Connection], Awaitable[None]]


def make_secret() -> str:
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()


@dataclass
class WebhookReceiver:
    """What a receiver was sent, and how it answers the next calls; 204 where nothing is planned."""

    secret: str = field(default_factory=make_secret)
    port: int = 0
    calls: list[Request] = field(default_factory=list)
    answers: deque[Answer] = field(default_factory=deque)

    @property
    def origin(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/hook?token=hush"

    @property
    def webhooks(self) -> str:
        """The setting of workers that may tell it."""
        return f"{self.origin}={self.secret}"

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What has arrived, verified by the library of the specification."""
        return [Webhook(self.secret).verify(call.body, dict(call.headers)) for call in self.calls]

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]

    @property
    def ids(self) -> list[str]:
        return [call.headers["webhook-id"] for call in self.calls]

    async def take(self, connection: Connection, call: Request) -> None:
        self.calls.append(call)
        if self.answers:
            await self.answers.popleft()(connection)
        else:
            await connection.respond(204, b"")


def answer(status: int, **headers: str) -> Answer:
    return lambda connection: connection.respond(status, json.dumps("no").encode(), headers)


async def hang(connection: Connection) -> None:
    """Say nothing until the caller hangs up."""
    await connection.until_closed()


@asynccontextmanager
async def receiving(
    receiver: WebhookReceiver | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[WebhookReceiver]:
    """Serve a receiver, at the port that it had before if it had one."""
    receiver = receiver or WebhookReceiver()
    server = HttpServer(receiver.take, tls=tls)
    await server.start(receiver.port)
    receiver.port = int(server.address.rpartition(":")[2])
    try:
        yield receiver
    finally:
        await server.close()


async def reports(client: Client, job_id: str) -> list[NotifyReport]:
    """Wait until a job has ended and each event of it was delivered or given up; return what became of each."""
    with suppress(WorkflowFailureError):
        await client.get_workflow_handle(job_id).result()
    ids = await delivery_ids(client, job_id)
    handles = [client.get_workflow_handle(id, result_type=NotifyReport) for id in ids]
    return list(await asyncio.gather(*(handle.result() for handle in handles)))


async def delivery_ids(client: Client, job_id: str) -> list[str]:
    """Return the ids of the workflows that deliver the events of the last run of a job."""
    events = client.get_workflow_handle(job_id).fetch_history_events()
    kind = EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED
    return [
        event.start_child_workflow_execution_initiated_event_attributes.workflow_id
        async for event in events
        if event.event_type == kind
    ]


async def last_error(client: Client, job_id: str) -> str:
    """Return why the one delivery of a job was not made when it was tried last."""
    (id,) = await delivery_ids(client, job_id)
    async with asyncio.timeout(60):
        while True:
            description = await client.get_workflow_handle(id).describe()
            for pending in description.raw_description.pending_activities:
                if pending.last_failure.message:
                    return pending.last_failure.message
            await asyncio.sleep(0.05)
