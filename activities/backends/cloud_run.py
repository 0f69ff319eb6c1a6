"""Calling a Cloud Run service: one HTTP request, one chunk."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from activities.remote.cloud_run import MOST_BYTES, agent_result, helios_result, raise_if_not_taken, worker_words
from activities.remote.google_auth import IdTokens
from activities.remote.http_client import Route, post_once, trusting_the_system
from activities.remote.service import Answer, HeliosResult, unheard

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
        self._route = Route(self.where, trusting_the_system())

    async def call(self, payload: Mapping[str, Any], *, sending: Callable[[], None] = unheard) -> Answer:
        """Send one JSON object and return the answer; see `Service.call`.

        Only a request whose token was refused is sent again, once, with a new one.
        """
        content = json.dumps(payload, separators=(",", ":")).encode()
        async with self._turns:
            token = await self._token()
            answer = await self._post(content, token, sending)
            refused = bool(token) and answer.status == 401 and worker_words(answer) is None
            if refused and (renewed := await self._token(refused=token)) != token:
                answer = await self._post(content, renewed, sending)
        raise_if_not_taken(answer, self.where)
        return answer

    def result_in(self, answer: Answer) -> bytes:
        """Return the JSON of the `RemoteResult` that our own agent answered; see `Service.result_in`."""
        return agent_result(answer, self.where)

    def helios_result_in(self, answer: Answer, *, lenient: bool) -> HeliosResult:
        """Return what a Helios worker says in this answer; see `Service.helios_result_in`."""
        return helios_result(answer, lenient=lenient)

    async def _token(self, *, refused: str = "") -> str:
        return "" if self._tokens is None else await self._tokens.token(self._audience, refused=refused)

    async def _post(self, content: bytes, token: str, sending: Callable[[], None]) -> Answer:
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
            sending=sending,
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
