"""Post events to webhooks as the Standard Webhooks specification says: signed, with an id that stays, no redirects."""

import base64
import hashlib
import hmac
import re
import ssl
import time
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import version

import httpx

from activities.errors import AttemptError, DeliveryError
from activities.remote.http_client import Route, make_ssl_context, post_once
from activities.remote.service import CallLostError
from longtake.allowed_addresses import ForbiddenAddressError, Network, find_address
from longtake.concurrency import run_in_thread

# Receivers should answer within 15 to 30 s, by the specification.
_ANSWER_SECONDS = 30.0

# Nothing of an answer is used but its status.
_MOST_ANSWER_BYTES = 4096

_LONGEST_WAIT_SECONDS = 3600


def sign_message(keys: Iterable[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature`: one signature of version 1 for each key."""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


async def post_webhook(
    url: str, body: bytes, *, message_id: str, sequence: int, keys: Sequence[bytes], networks: Sequence[Network]
) -> None:
    """Post a message once; return when its receiver has answered that it has it.

    Args:
        url: Where to post it.
        body: The message, in JSON.
        message_id: The same at each try.
        sequence: Number of the event, for receivers that look at no body; the signed one stands there.
        keys: What it is signed with.
        networks: Networks that are no public ones, and in which the receiver may be.

    Raises:
        DeliveryError: The receiver has not answered with a status of 200 to 299: a redirect is not followed.
    """
    target = httpx.URL(url)
    address = await _find_address(target, networks)
    timestamp = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"longtake/{version('longtake')}",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign_message(keys, message_id, timestamp, body),
        "longtake-sequence": str(sequence),
    }
    # Their host alone: paths of webhooks may be secrets, and errors stand in histories.
    where = f"the receiver {target.host}"
    context = await run_in_thread(_ssl_context) if target.scheme == "https" else None
    fix = "mend the receiver's certificate, or set SSL_CERT_FILE"
    try:
        answer = await post_once(
            Route(where, context, certificate_fix=fix, address=address),
            target,
            body,
            headers,
            most_seconds=_ANSWER_SECONDS,
            most_bytes=_MOST_ANSWER_BYTES,
            on_send=lambda: None,
        )
    except (CallLostError, AttemptError) as error:
        raise DeliveryError(f"{error}") from error
    if not 200 <= answer.status < 300:
        hint = "; redirects are not followed" if 300 <= answer.status < 400 else ""
        raise DeliveryError(
            f"{where} has answered with status {answer.status}{hint}",
            wait_seconds=_read_wait(answer.headers.get("retry-after", "")),
            # "The receiver wants no more of it", by the specification.
            is_final=answer.status == httpx.codes.GONE,
        )


@cache
def _ssl_context() -> ssl.SSLContext:
    return make_ssl_context()


def _read_wait(text: str) -> float | None:
    return min(float(text), _LONGEST_WAIT_SECONDS) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else None


async def _find_address(url: httpx.URL, networks: Sequence[Network]) -> str:
    """Return an address of the host of a URL that may be connected to.

    Raises:
        DeliveryError: There is no such host, or all its addresses are in networks that are not allowed.
    """
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        return await find_address(url.host, port, networks)
    except ForbiddenAddressError as error:
        raise DeliveryError(f"the receiver {error}; LONGTAKE_NOTIFY_NETWORKS of the workers allows others") from error
    except OSError as error:
        raise DeliveryError(f"the receiver {url.host} is not found: {error.strerror or error}") from error
