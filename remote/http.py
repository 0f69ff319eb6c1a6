"""As much of HTTP as a service needs that takes one JSON object and gives one; see the ASGI specification."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# Google's front end hands requests over as they come; an order is sent at once.
_BODY_SECONDS = 30.0


class RefusedRequest(Exception):
    """A request that gets an error instead of an answer.

    Args:
        status: Its HTTP status.
        message: What is wrong, for the caller.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ClientGone(Exception):
    """The caller hung up before its request was there."""


async def read_body(scope: Scope, receive: Receive, most_bytes: int) -> bytes:
    """Return the body of a request; one that is too large is not read to its end.

    Raises:
        RefusedRequest: It is too large, or does not come.
        ClientGone: Nobody waits for an answer.
    """
    too_large = RefusedRequest(413, f"the request has more than {most_bytes} bytes")
    told = next((value for name, value in scope["headers"] if name.lower() == b"content-length"), b"")
    if told.isdigit() and int(told[:19]) > most_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                if len(body) > most_bytes:
                    raise too_large
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError as error:
        raise RefusedRequest(408, f"the request was not there within {_BODY_SECONDS:g} s") from error


def json_in(body: bytes) -> Any:
    """Return the JSON in a body.

    Raises:
        RefusedRequest: There is none.
    """
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise RefusedRequest(400, "Invalid JSON payload") from error


async def until_disconnected(receive: Receive, disconnected: asyncio.Event) -> None:
    """Watch a caller whose request is there, and tell when it hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    disconnected.set()


async def respond(send: Send, status: int, document: object, headers: Mapping[str, str] | None = None) -> None:
    """Answer with a JSON object; a caller that is gone gets nothing."""
    content = json.dumps(document).encode()
    named = {"content-type": "application/json", "content-length": str(len(content)), **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})
