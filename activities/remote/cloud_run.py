"""Call Cloud Run services, one HTTP request a chunk, and read their answers: the agent's, Helios' and Google's own."""

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

# Cloud Run itself lets 32 MiB pass where a service does not stream. What is larger is read no further.
MOST_BYTES = 64 * 1024 * 1024

# Why trying again is pointless, and what to do instead.
_FIXES = {
    400: "it does not take such requests; check the URL",
    401: "it refuses the identity token; the URL must be the service's own, for it is the token's audience",
    403: "give the worker's service account the role roles/run.invoker on this service",
    404: "there is no such service; check the URL",
    405: "it does not take POST; check the URL",
    413: "it does not take a request of this size; check the URL",
}

# The front end has found no instance, so none has begun; on some days it says so with 500 instead of 429.
_NO_INSTANCE = re.compile(rb"no available instance|rate exceeded", re.IGNORECASE)


def raise_if_refused(answer: ServiceAnswer, where: str) -> None:
    """Raise unless this is an answer of the worker itself, or one that only the worker's protocol can judge.

    Raises:
        ThrottledError: There is no room now, and nothing was begun.
        AttemptError: The request will never be taken.
        CallLostError: The request may have reached the worker, and somebody else answered: an instance that ran out
            of memory or of time looks like this, and so does an order that was begun before.
    """
    status, words = answer.status, find_worker_message(answer)
    said = f"{where}: HTTP {status} {_phrase(status)}".rstrip() + (f": {words}" if words else "")
    if status == 429 or (status == 503 and words is not None):
        raise ThrottledError(said, wait_seconds=answer.wait_seconds())
    if status == 409 and words is not None:
        raise CallLostError(said, begun=True)
    if status < 300 or words is not None or len(answer.body) > MOST_BYTES:
        # Nobody but a worker has so much to say.
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


def find_worker_message(answer: ServiceAnswer) -> str | None:
    """Return why a worker, ours or Helios', says that it failed; None where it was not a worker that answered.

    Google's own errors are pages, plain text, or JSON whose `error` is an object.
    """
    document = _document(answer)
    if document is None or not ("exitCode" in document or find_text(document, "message", "error")):
        return None
    return shorten_line(find_text(document, "error", "message"), 600)


def parse_agent_result(answer: ServiceAnswer, where: str) -> RemoteResult:
    """Return what our own agent says in this answer.

    Raises:
        AttemptError: There is none.
    """
    words = find_worker_message(answer) if answer.status != 200 else None
    if words is not None:
        # 5xx is an agent that broke; what it refuses it will refuse again.
        raise AttemptError(f"{where} refused the order: {words}", fatal=answer.status < 500)
    try:
        return RemoteResult.model_validate_json(answer.body)
    except ValidationError as error:
        sentence = f"{where}: HTTP {answer.status} without a result: no Longtake agent of this version answers there"
        raise AttemptError(f"{sentence}; check the URL and `backend.protocol`", fatal=True) from error


def parse_helios_answer(answer: ServiceAnswer, *, lenient: bool) -> HeliosResult:
    """Return what a Helios worker says in this answer; one that says nothing has failed.

    Args:
        answer: The answer.
        lenient: Whether the words of its deployed template, which has no exit code, count as success.
    """
    document = _document(answer)
    if document is None:
        if answer.status == 200 and len(answer.body) > MOST_BYTES:
            # It answers 200 for success only.
            return HeliosResult(0, answer_was_lost=True)
        what = "too large to be read" if len(answer.body) > MOST_BYTES else "which is no JSON object"
        return HeliosResult(1, stderr=_status_words(answer.status) + (f", {what}" if answer.body else ""))
    stdout, stderr = find_text(document, "stdout", "output"), find_text(document, "stderr")
    code = parse_exit_code(document, lenient=lenient)
    if answer.status == 200 and code == 0:
        return HeliosResult(0, stdout, stderr)
    words = [stderr, find_text(document, "message"), find_text(document, "error")]
    if code is None and answer.status == 200:
        words.append("HTTP 200 without an exit code")
    reason = next(filter(None, words), "") or ("" if code else _status_words(answer.status))
    return HeliosResult(code or 1, stdout, reason)


def _document(answer: ServiceAnswer) -> dict[str, Any] | None:
    return None if len(answer.body) > MOST_BYTES else answer.document()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _status_words(status: int) -> str:
    return f"HTTP {'Error ' if 200 < status < 300 else ''}{status}: {_phrase(status)}"


# The platform ends a request at its limit; the word of that may take a while to come.
_MARGIN_SECONDS = 30.0


class CloudRunService:
    """A service of Cloud Run, or anything that speaks like one.

    Each call has a connection of its own, by HTTP/2 where the service offers it: closing it is how an abort is told.

    Args:
        url: Where to POST, to the letter; also the audience of the identity tokens.
        concurrency: How many calls this worker lets it have at once.
        most_seconds: How long the service lets one request work; Cloud Run's own limit is an hour.
        tokens: Where identity tokens come from; None sends none, for services that anybody may call.

    Raises:
        ValueError: Tokens would travel without TLS, or this is no URL of the web.
    """

    def __init__(
        self, url: str, *, concurrency: int, most_seconds: float = 3600, tokens: IdTokens | None = None
    ) -> None:
        self._url = _checked(url, carries_tokens=tokens is not None)
        self._audience = url
        self.where = f"cloud run {self._url.netloc.decode()}"
        self.most_seconds = most_seconds
        self._tokens = tokens
        self._turns = asyncio.Semaphore(concurrency)
        # Made once: reading the certificates of the system takes longer than a call on loopback.
        self._route = Route(self.where, make_ssl_context())

    async def call(self, payload: Mapping[str, Any], *, on_send: Callable[[], None] = ignore_send) -> ServiceAnswer:
        """Send one JSON object and return the answer; see `Service.call`.

        Only a request whose token was refused is sent again, once, with a new one.
        """
        content = json.dumps(payload, separators=(",", ":")).encode()
        async with self._turns:
            token = await self._token()
            answer = await self._post(content, token, on_send)
            refused = bool(token) and answer.status == 401 and find_worker_message(answer) is None
            if refused and (renewed := await self._token(refused=token)) != token:
                answer = await self._post(content, renewed, on_send)
        raise_if_refused(answer, self.where)
        return answer

    def parse_result(self, answer: ServiceAnswer) -> RemoteResult:
        """Return what our own agent answered; see `Service.parse_result`."""
        return parse_agent_result(answer, self.where)

    def parse_helios_answer(self, answer: ServiceAnswer, *, lenient: bool) -> HeliosResult:
        """Return what a Helios worker says in this answer; see `Service.parse_helios_answer`."""
        return parse_helios_answer(answer, lenient=lenient)

    async def _token(self, *, refused: str = "") -> str:
        return "" if self._tokens is None else await self._tokens.token(self._audience, refused=refused)

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


def _checked(url: str, *, carries_tokens: bool) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url}: is no URL of a Cloud Run service; write https://HOST") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo:
        raise ValueError(f"{parsed.host or url}: is no URL of a Cloud Run service; write https://HOST")
    if carries_tokens and parsed.scheme == "http" and parsed.host not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError(f"{url}: identity tokens travel only by https; write https://{parsed.host}")
    return parsed
