"""Fetch and cache the Google identity tokens that callers of a private Cloud Run service need, with google-auth."""

import asyncio
import json
import os
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import httpx
from google.auth import jwt
from google.auth.credentials import Credentials, TokenState
from google.auth.environment_vars import CREDENTIALS, GCE_METADATA_HOST
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport import Request, Response
from google.oauth2.service_account import IDTokenCredentials

from activities.errors import AttemptError, ThrottledError
from longtake.text import shorten_line

# Google answers in a tenth of a second.
_MOST_SECONDS = 20.0

_MOST_CAUSES = 12
_NO_CREDENTIALS = (
    "Cloud Run needs an identity token and this host has no Google credentials; run the worker on Google Cloud with "
    f"a service account, or set {CREDENTIALS} to the key file of one"
)


class IdTokens:
    """Fetches identity tokens and caches each until shortly before it expires.

    Tokens come by the key file that `GOOGLE_APPLICATION_CREDENTIALS` names, else from the metadata server, whose
    address `GCE_METADATA_HOST` may change; both variables are read anew for each fetch.

    Args:
        environment: The environment with these variables; the process's own by default.
        most_seconds: How long a fetch may take.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, *, most_seconds: float = _MOST_SECONDS) -> None:
        self._environment = os.environ if environment is None else environment
        self._most_seconds = most_seconds
        self._cached: dict[str, Credentials] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # google-auth blocks. The threads of the loop may all be busy with files for minutes.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="google-auth")

    async def get_token(self, audience: str, *, refused: str = "") -> str:
        """Return a token for an audience; a cancel waits for nothing.

        One fetch at a time is under way for each audience, and all callers share its token.

        Args:
            audience: The URL of the service, to the letter.
            refused: A token that the service refused: a new one is fetched in its place.

        Raises:
            AttemptError: This host has no credentials, or Google refuses them.
            ThrottledError: The metadata server, or Google, cannot be reached now.
        """
        async with self._locks[audience]:
            found = self._cached.get(audience)
            # FRESH ends 225 s before the token does. The metadata server has a new one when 240 s are left.
            if found is None or found.token_state is not TokenState.FRESH or found.token == refused:
                found = self._cached[audience] = await self._fetch(audience)
            return str(found.token)

    async def _fetch(self, audience: str) -> Credentials:
        if key_file := self._environment.get(CREDENTIALS):
            return await self._refresh(
                lambda: _read_key_file(key_file, audience),
                f"Google gives no identity token for the key {key_file}",
                "make a new key, or check the clock of this host",
            )
        host = self._environment.get(GCE_METADATA_HOST) or "metadata.google.internal"
        try:
            return await self._refresh(
                lambda: _MetadataCredentials(host, audience),
                f"the metadata server {host} gives no identity token",
                "give this host a service account with roles/run.invoker",
                # One hop away, and no proxy may see the token.
                proxies=False,
            )
        except ThrottledError as error:
            if _is_unknown_name(error):
                raise AttemptError(_NO_CREDENTIALS, fatal=True) from error
            raise

    async def _refresh(
        self, make: Callable[[], Credentials], problem: str, fix: str, *, proxies: bool = True
    ) -> Credentials:
        """Make credentials in a thread, and fetch their token.

        Args:
            make: Makes the credentials; blocking.
            problem: Beginning of the sentence of an error.
            fix: End of that sentence where a repeated fetch is pointless.
            proxies: Whether to go through the proxies that the environment names.
        """
        transport = _Transport(self._most_seconds, proxies=proxies)

        def refresh() -> Credentials:
            credentials = make()
            credentials.refresh(transport)  # type: ignore[no-untyped-call]
            return credentials

        try:
            async with asyncio.timeout(self._most_seconds):
                return await asyncio.get_running_loop().run_in_executor(self._threads, refresh)
        except TimeoutError as error:
            raise ThrottledError(f"{problem} within {self._most_seconds:g} s") from error
        except TransportError as error:
            raise ThrottledError(shorten_line(f"{problem}: {error}", 400)) from error
        except RefreshError as error:
            sentence = shorten_line(f"{problem}: {error.args[0]}", 400)
            # Not as the cause: its other arguments hold the whole answer.
            if error.retryable:
                raise ThrottledError(sentence) from None
            raise AttemptError(f"{sentence}; {fix}", fatal=True) from None
        except (ValueError, KeyError, TypeError, OverflowError):
            # Not as the cause: the error may quote a token.
            sentence = (
                f"what should give identity tokens gave something else; check {GCE_METADATA_HOST} and the key file"
            )
            raise AttemptError(sentence, fatal=True) from None
        finally:
            transport.close()


def _read_key_file(key_file: str, audience: str) -> IDTokenCredentials:
    """Read the credentials in the key file of a service account; blocking."""
    try:
        with open(key_file, encoding="utf-8") as file:
            key = json.load(file)
        if key["type"] != "service_account":
            raise ValueError(key["type"])
        # Only the newest functions of google-auth have annotations.
        return IDTokenCredentials.from_service_account_info(key, target_audience=audience)  # type: ignore[no-untyped-call, no-any-return]
    except (OSError, ValueError, KeyError, TypeError, GoogleAuthError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no key of a service account"
        sentence = f"{CREDENTIALS}: {key_file}: {reason}; name the JSON key file of a service account"
        # Not as the cause: the error may quote the file, which is a credential.
        raise AttemptError(sentence, fatal=True) from None


class _MetadataCredentials(Credentials):
    """Credentials of the service account that this host of Google Cloud runs as.

    Those of google-auth (`google.auth.compute_engine`) need the package requests since version 2.44, which nothing
    else here does, read the server's address from the environment as they are imported, and try five times with pauses
    that block their thread for 15 s.

    Args:
        host: Address of the metadata server.
        audience: Audience of the tokens.
    """

    def __init__(self, host: str, audience: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        query = urlencode({"format": "full", "audience": audience})
        self._url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/identity?{query}"

    def refresh(self, request: Request) -> None:
        response = request(self._url, headers={"Metadata-Flavor": "Google"})
        if response.status != 200:
            raise RefreshError(f"HTTP {response.status}")  # type: ignore[no-untyped-call]
        token = response.data.decode().strip()
        # The service checks the signature.
        expires_at = jwt.decode(token, verify=False)["exp"]  # type: ignore[no-untyped-call]
        # google-auth compares with times without a zone.
        self.token, self.expiry = token, datetime.fromtimestamp(expires_at, UTC).replace(tzinfo=None)


class _Transport(Request):
    """Sends requests of google-auth's thread through httpx on the event loop.

    `close` closes the connection and so ends the thread: a cancel could not end a request that the thread itself had
    sent. The transports of google-auth need requests, or are for urllib3 and block.

    Args:
        most_seconds: How long a request may take.
        proxies: Whether to go through the proxies that the environment names.
    """

    def __init__(self, most_seconds: float, *, proxies: bool) -> None:
        self._most_seconds = most_seconds
        self._proxies = proxies
        self._loop = asyncio.get_running_loop()
        self._sending: asyncio.Task[Any] | None = None
        self._is_closed = False

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_kwargs: Any,
    ) -> "_Answer":
        # In this thread: reading the CA certificates of the system would block the loop for too long. The metadata
        # server has no TLS: then nobody is trusted.
        is_tls = url.startswith("https:")
        ssl_context = httpx.create_ssl_context() if is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._is_closed:
            raise TransportError("the fetch was cancelled")  # type: ignore[no-untyped-call]
        sending = self._send(ssl_context, method, url, body, headers)
        try:
            sent = asyncio.run_coroutine_threadsafe(sending, self._loop)
        except RuntimeError as error:
            # The loop was closed meanwhile.
            sending.close()
            raise TransportError(str(error)) from error  # type: ignore[no-untyped-call]
        return _Answer(sent.result(self._most_seconds))

    def close(self) -> None:
        """Cancel the request under way and refuse further ones; called on the event loop."""
        self._is_closed = True
        if self._sending is not None:
            self._sending.cancel()

    async def _send(
        self, ssl_context: ssl.SSLContext, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> httpx.Response:
        if self._is_closed:
            raise asyncio.CancelledError
        self._sending = asyncio.current_task()
        try:
            async with httpx.AsyncClient(
                verify=ssl_context, trust_env=self._proxies, timeout=self._most_seconds
            ) as client:
                response = await client.request(method, url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransportError(str(error) or type(error).__name__) from error  # type: ignore[no-untyped-call]
        if response.status_code in (408, 429) or response.status_code >= 500:
            # Returned as an answer, it makes google-auth try three times with pauses that block its thread for 3 s.
            raise TransportError(f"HTTP {response.status_code}")  # type: ignore[no-untyped-call]
        return response


class _Answer(Response):
    """Offers an answer of httpx to google-auth."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    @property
    def data(self) -> bytes:
        return self._response.content


def _is_unknown_name(error: BaseException | None) -> bool:
    """Tell whether an error says that a host name does not exist; off Google Cloud the metadata server has none."""
    # The HTTP client wraps the error of the system several times.
    for _ in range(_MOST_CAUSES):
        if isinstance(error, socket.gaierror):
            return error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
        error = error and (error.__cause__ or error.__context__)
    return False
