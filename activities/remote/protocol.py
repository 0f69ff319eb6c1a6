"""Define the messages between a worker and a remote agent; all but the order itself are records in the job's store.

```
.longtake/<job>/remote/<chunk>/<attempt>.call.json      worker: the call; written before the service is called
                                        .began.json     agent: has begun; created once, so that no order runs twice
                                        .progress.json  agent: replaced about once a second while it works
                                        .stop.json      worker: stop; the agent looks twice a second
                                        .joined.json    worker: waits for this agent although the connection is closed
                                        .result.json    agent: the result
```
"""

import hashlib
import hmac
import time
from datetime import datetime
from enum import StrEnum

from pydantic import Field, ValidationError

from longtake.errors import LongtakeError
from longtake.models.fields import Contract
from longtake.models.messages import JobRef

# An order is a few hundred bytes; what is larger was not written by a worker.
LARGEST_ORDER_BYTES = 65_536

# How far the clocks of a worker and an agent may be apart, and how long a call may wait for an instance.
ORDER_LIVES_SECONDS = 900.0


class RefusedOrderError(LongtakeError):
    """An order that an agent refuses: unsigned, changed, stale, or begun before."""


class RemoteOrder(Contract):
    """Worker to agent: render this chunk of the job that lies in the store."""

    ref: JobRef
    chunk: int = Field(ge=0)
    attempt: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$", description="name of the attempt, never used twice"
    )
    seconds: float = Field(gt=0, description="longest time the agent may work; its platform's limit may be shorter")
    issued_at: float = Field(description="seconds since 1970")


class SignedOrder(Contract):
    """Worker to agent: an order with its signature."""

    order: str = Field(max_length=LARGEST_ORDER_BYTES, description="the order as JSON text, exactly as it was signed")
    signature: str = Field(default="", max_length=200, description="HMAC-SHA256 of that text, hexadecimal")


class RemoteCall(Contract):
    """Record of a worker, before each call: the attempt, the service, and when its platform ends the agent."""

    attempt: str
    where: str = Field(description="the function or service")
    called_at: datetime
    ends_at: datetime = Field(description="when its platform ends it at the latest")


class RemoteProgress(Contract):
    """Record of an agent, about once a second: a sign of life, and the progress of the render."""

    beat: int = Field(description="counts up; while it changes the agent lives")
    frames_done: int = 0
    message: str = ""
    cpu_seconds: float = 0
    memory_bytes: int = 0
    io_bytes: int = 0


class RemoteOutcome(StrEnum):
    """Outcome of a remote attempt."""

    PUBLISHED = "published"
    FAILED = "failed"
    # The try does not count: told to stop, out of time with frames kept, or its supervisor was lost.
    STOPPED = "stopped"
    OUT_OF_TIME = "out_of_time"
    LOST = "lost"


class RemoteResult(Contract):
    """Record of an agent when it has ended: the outcome; also the answer to the call."""

    attempt: str
    outcome: RemoteOutcome
    error: str = Field(default="", max_length=4000, description="one sentence, with the lines of the log that matter")
    fatal: bool = False
    wait_seconds: float | None = None
    another_host: bool = False
    needs_change: bool = Field(default=False, description="only another job file mends it")
    exit_code: int | None = Field(default=None, description="of the renderer, or minus the signal that ended it")
    host: str = ""
    frames_done: int = 0
    billed_seconds: float = Field(default=0, description="from the start of the call to the result")
    memory_mb: int = Field(default=0, description="of the instance; 0 where it does not know")
    survivors: int = Field(default=0, description="processes that were left at the end; anything but 0 is a fault")


def sign(order: RemoteOrder, secret: str) -> SignedOrder:
    """Sign an order; an empty secret leaves it unsigned, for platforms whose IAM alone decides who may call."""
    text = order.model_dump_json(exclude_defaults=True)
    return SignedOrder(order=text, signature=_signature(text, secret) if secret else "")


def verify(raw: bytes, secret: str, *, now: float | None = None) -> RemoteOrder:
    """Return the order in a request, if it is signed with this secret and fresh.

    Args:
        raw: Body of the request.
        secret: The shared secret; empty only where IAM alone decides.
        now: Seconds since 1970; the clock's when None.

    Raises:
        RefusedOrderError: The request is too large, no order, unsigned, changed or stale.
    """
    if len(raw) > LARGEST_ORDER_BYTES:
        raise RefusedOrderError(f"the request has {len(raw)} bytes, and an order at most {LARGEST_ORDER_BYTES}")
    try:
        signed = SignedOrder.model_validate_json(raw)
    except ValidationError as error:
        raise RefusedOrderError("the request is no order of a Longtake worker") from error
    if secret and not hmac.compare_digest(signed.signature.encode(), _signature(signed.order, secret).encode()):
        raise RefusedOrderError("the order is not signed with the secret of this agent")
    try:
        order = RemoteOrder.model_validate_json(signed.order)
    except ValidationError as error:
        raise RefusedOrderError("the order is not one that this agent knows; use one version on both sides") from error
    if abs((time.time() if now is None else now) - order.issued_at) > ORDER_LIVES_SECONDS:
        raise RefusedOrderError("the order is stale; check the clocks of worker and agent")
    return order


def _signature(text: str, secret: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
