"""Calling a Cloud Run service: one HTTP request, one chunk."""

import asyncio
import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from activities.backends.calls import Answer, CallLostError, HeliosResult
from activities.backends.causes import cause_of
from activities.backends.cloud_run_answers import (
    MOST_BYTES,
    agent_result,
    helios_result,
    raise_if_not_taken,
    worker_words,
)
from activities.backends.id_tokens import IdTokens
from activities.failures import AttemptError
from longtake.plaintext import short_line

# A service that is there takes a connection in milliseconds, one in another part of the world in half a second.
_CONNECT_SECONDS = 15.0
# The platform ends a request at its limit; the word of that may take a while to come.
_MARGIN_SECONDS = 30.0

# A render says nothing for an hour, and routers forget silent connections after five to ten minutes.
_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
if hasattr(socket, "TCP_KEEPIDLE"):
    _KEEPALIVE += [
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    ]


class CloudRunService:
    """A service of Cloud Run, or anything that speaks like one.

    Each call has a connection of its own, by HTTP/2 where the service offers it: closing it is how an abort is told,
    and a stream that ends on a shared one would not be.

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
        self._trust = httpx.create_ssl_context()

    async def call(self, payload: Mapping[str, Any]) -> Answer:
        """Send one JSON object and return the answer; see `Service.call`.

        Only a request whose token was refused is sent again, once, with a new one.
        """
        content = json.dumps(payload, separators=(",", ":")).encode()
        async with self._turns:
            token = await self._token()
            answer = await self._post(content, token)
            refused = bool(token) and answer.status == 401 and worker_words(answer) is None
            if refused and (renewed := await self._token(refused=token)) != token:
                answer = await self._post(content, renewed)
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

    async def _post(self, content: bytes, token: str) -> Answer:
        headers = {"Content-Type": "application/json", "Accept": "*/*", "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with (
                asyncio.timeout(self.most_seconds + _MARGIN_SECONDS),
                self._client() as client,
                client.stream("POST", self._url, content=content, headers=headers) as response,
            ):
                names = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status_code, await _body(response), names)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if bad := cause_of(error, ssl.SSLCertVerificationError):
                sentence = f"{self.where}: its certificate is not to be trusted: {bad.verify_message}; check the URL"
                raise AttemptError(sentence, fatal=True) from error
            sentence = f"{self.where} cannot be reached: {short_line(str(error), 200) or 'no answer'}"
            raise CallLostError(sentence, begun=False) from error
        except httpx.RequestError as error:
            sentence = f"{self.where}: the connection broke: {short_line(str(error), 200) or type(error).__name__}"
            raise CallLostError(sentence, begun=True) from error
        except TimeoutError as error:
            sentence = f"{self.where} gave no answer within {self.most_seconds + _MARGIN_SECONDS:g} s"
            raise CallLostError(sentence, begun=True) from error

    def _client(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(verify=self._trust, http2=True, retries=0, socket_options=_KEEPALIVE)
        # How long an answer takes is bounded as a whole, so that no byte now and then stretches it.
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        return httpx.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False)


async def _body(response: httpx.Response) -> bytes:
    """Return the body; of one that is too large, a little more than what is taken of one."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MOST_BYTES:
            break
    return bytes(body)


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
