"""Call Cloud Run services, one HTTP request a chunk, and parse the answers of agents, Helios workers and Google."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import httpx
from pydantic import ValidationError

from activities.errors import AttemptError, ThrottledError
from activities.remote.google_auth import IdTokens
from activities.remote.http_client import Route, make_ssl_context, post_once
from activities.remote.protocol import RemoteResult
from activities.remote.service import (
    CallLostError,
    HeliosResult,
    ServiceAnswer,
    find_text,
    ignore_send,
    parse_exit_code,
)
from longtake.text import shorten_line

# Cloud Run passes 32 MiB at most where a service does not stream. Larger answers are not read to their end.
MOST_BYTES = 64 * 1024 * 1024

# How long to wait for an answer after the platform has ended the request.
_MARGIN_SECONDS = 30.0

# Refusals that repeat until their cause is mended: what is wrong, and the fix.
_FIXES = {
    400: "it does not take such requests; check the URL",
    401: "it refuses the identity token; the URL must be the service's own, for it is the token's audience",
    403: "give the worker's service account the role roles/run.invoker on this service",
    404: "there is no such service; check the URL",
    405: "it does not take POST; check the URL",
    413: "it does not take a request of this size; check the URL",
}

# The front end found no instance, so none has begun; it may answer that with 500 in place of 429.
_NO_INSTANCE = re.compile(rb"no available instance|rate exceeded", re.IGNORECASE)


class CloudRunService:
    """A service of Cloud Run, or of anything that answers like Cloud Run.

    Each call has a connection of its own, by HTTP/2 where the service offers it: closing the connection aborts the
    call.

    Args:
        url: URL to POST to, to the letter; also the audience of the identity tokens.
        concurrency: Largest number of calls at once from this worker; more wait for a slot.
        most_seconds: How long the service lets one request work; Cloud Run's own limit is an hour.
        tokens: Source of identity tokens; None sends none, for services that anybody may call.

    Raises:
        ValueError: Tokens would travel without TLS, or `url` is no URL of the web.
    """

    def __init__(
        self, url: str, *, concurrency: int, most_seconds: float = 3600, tokens: IdTokens | None = None
    ) -> None:
        self._url = _parse_url(url, carries_tokens=tokens is not None)
        self._audience = url
        self.where = f"cloud run {self._url.netloc.decode()}"
        self.most_seconds = most_seconds
        self._tokens = tokens
        self._slots = asyncio.Semaphore(concurrency)
        # Made once: reading the CA certificates of the system takes longer than a call on loopback.
        self._route = Route(self.where, make_ssl_context() if self._url.scheme == "https" else None)

    async def call(self, payload: Mapping[str, Any], *, on_send: Callable[[], None] = ignore_send) -> ServiceAnswer:
        """Send one JSON object and return the answer; see `Service.call`.

        Only a request whose token was refused is sent again, once, with a new token.
        """
        content = json.dumps(payload, separators=(",", ":")).encode()
        async with self._slots:
            token = await self._get_token()
            answer = await self._post(content, token, on_send)
            refused = bool(token) and answer.status == 401 and find_worker_message(answer) is None
            if refused and (renewed := await self._get_token(refused=token)) != token:
                answer = await self._post(content, renewed, on_send)
        raise_if_refused(answer, self.where)
        return answer

    def parse_result(self, answer: ServiceAnswer) -> RemoteResult:
        """Parse the result of a Longtake agent; see `Service.parse_result`."""
        return parse_agent_result(answer, self.where)

    def parse_helios_answer(self, answer: ServiceAnswer, *, lenient: bool) -> HeliosResult:
        """Parse exit code and output of a Helios worker; see `Service.parse_helios_answer`."""
        return parse_helios_answer(answer, lenient=lenient)

    async def _get_token(self, *, refused: str = "") -> str:
        return "" if self._tokens is None else await self._tokens.get_token(self._audience, refused=refused)

    async def _post(self, content: bytes, token: str, on_send: Callable[[], None]) -> ServiceAnswer:
        headers = {"Content-Type": "application/json", "Accept": "*/*", "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return await post_once(
            self._route,
            self._url,
            content,
            headers,
            most_seconds=self.most_seconds + _MARGIN_SECONDS,
            most_bytes=MOST_BYTES,
            on_send=on_send,
        )


def _parse_url(url: str, *, carries_tokens: bool) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url}: is no URL of a Cloud Run service; write https://HOST") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo:
        raise ValueError(f"{parsed.host or url}: is no URL of a Cloud Run service; write https://HOST")
    if carries_tokens and parsed.scheme == "http" and parsed.host not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError(f"{url}: identity tokens travel only by https; write https://{parsed.host}")
    return parsed


def raise_if_refused(answer: ServiceAnswer, where: str) -> None:
    """Raise the error that an answer of the platform, or a full worker, stands for.

    Other answers of a worker pass: only the worker's protocol can judge them.

    Raises:
        ThrottledError: There is no room now, and nothing was begun.
        AttemptError: The request is refused until its cause is mended.
        CallLostError: The request may have reached a worker, and the platform answered: as for an instance that ran
            out of memory or of time. Or the order was begun before.
    """
    status, message = answer.status, find_worker_message(answer)
    said = f"{where}: HTTP {status} {_find_phrase(status)}".rstrip() + (f": {message}" if message else "")
    if status == 429 or (status == 503 and message is not None):
        raise ThrottledError(said, wait_seconds=answer.wait_seconds())
    if status == 409 and message is not None:
        raise CallLostError(said, begun=True)
    if status < 300 or message is not None or len(answer.body) > MOST_BYTES:
        # No answer of the platform is that long.
        return
    if status < 400:
        place = shorten_line(answer.headers.get("location", "").partition("?")[0], 200)
        raise AttemptError(f"{said}; it leads to {place or 'nowhere'}: configure the final URL", fatal=True)
    if status < 500 and status != 408:
        raise AttemptError(f"{said}; {_FIXES.get(status, 'check the URL')}", fatal=True)
    wait_seconds = answer.wait_seconds()
    if wait_seconds is not None or _NO_INSTANCE.search(answer.body):
        raise ThrottledError(said, wait_seconds=wait_seconds)
    raise CallLostError(f"{said}, from the platform and not from the worker", begun=True)


def parse_agent_result(answer: ServiceAnswer, where: str) -> RemoteResult:
    """Parse the result of a Longtake agent.

    Raises:
        AttemptError: The answer holds none.
    """
    message = find_worker_message(answer) if answer.status != 200 else None
    if message is not None:
        # 5xx is an agent that broke; a refusal repeats.
        raise AttemptError(f"{where} refused the order: {message}", fatal=answer.status < 500)
    try:
        return RemoteResult.model_validate_json(answer.body)
    except ValidationError as error:
        sentence = f"{where}: HTTP {answer.status} without a result: no Longtake agent of this version answers there"
        raise AttemptError(f"{sentence}; check the URL and `backend.protocol`", fatal=True) from error


def parse_helios_answer(answer: ServiceAnswer, *, lenient: bool) -> HeliosResult:
    """Parse exit code and output of a Helios worker; an answer without either is a failure.

    Args:
        answer: The answer.
        lenient: Whether an answer of the handler that Helios deploys, which has no exit code, counts as success.
    """
    document = _parse_document(answer)
    if document is None:
        if answer.status == 200 and len(answer.body) > MOST_BYTES:
            # Helios workers answer 200 for success only.
            return HeliosResult(0, answer_was_lost=True)
        what = "too large to be read" if len(answer.body) > MOST_BYTES else "which is no JSON object"
        return HeliosResult(1, stderr=_describe_status(answer.status) + (f", {what}" if answer.body else ""))
    stdout, stderr = find_text(document, "stdout", "output"), find_text(document, "stderr")
    code = parse_exit_code(document, lenient=lenient)
    if answer.status == 200 and code == 0:
        return HeliosResult(0, stdout, stderr)
    reasons = [stderr, find_text(document, "message"), find_text(document, "error")]
    if code is None and answer.status == 200:
        reasons.append("HTTP 200 without an exit code")
    reason = next(filter(None, reasons), "") or ("" if code else _describe_status(answer.status))
    return HeliosResult(code or 1, stdout, reason)


def find_worker_message(answer: ServiceAnswer) -> str | None:
    """Return the error message of a worker, Longtake's or Helios'; None for an answer of anything else.

    Google's own errors are pages, plain text, or JSON whose `error` is an object.
    """
    document = _parse_document(answer)
    if document is None or not ("exitCode" in document or find_text(document, "message", "error")):
        return None
    return shorten_line(find_text(document, "error", "message"), 600)


def _parse_document(answer: ServiceAnswer) -> dict[str, Any] | None:
    return None if len(answer.body) > MOST_BYTES else answer.document()


def _describe_status(status: int) -> str:
    return f"HTTP {'Error ' if 200 < status < 300 else ''}{status}: {_find_phrase(status)}"


def _find_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
