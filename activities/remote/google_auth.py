"""Google identity tokens, which a private Cloud Run service asks of its callers: fetched by google-auth, and kept."""

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
    """Fetches identity tokens and keeps them until shortly before they expire.

    They come from the key file that `GOOGLE_APPLICATION_CREDENTIALS` names, else from the metadata server, whose
    address `GCE_METADATA_HOST` may change; both are read anew for each fetch.

    Args:
        environment: Where these variables are; the process's own by default.
        most_seconds: How long a fetch may take.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, *, most_seconds: float = _MOST_SECONDS) -> None:
        self._environment = os.environ if environment is None else environment
        self._most_seconds = most_seconds
        self._fetched: dict[str, Credentials] = {}
        self._fetching: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # google-auth blocks. The threads are its own, since the loop's may all be busy with files for minutes.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="google-auth")

    async def token(self, audience: str, *, refused: str = "") -> str:
        """Return a token for this audience, which is used to the letter; a cancel waits for nothing.

        One fetch at a time is under way for an audience, however many ask.

        Args:
            audience: The URL of the service, as it is called.
            refused: A token that the service refused, and that is not worth returning again.

        Raises:
            AttemptError: There are no credentials here, or Google refuses them.
            ThrottledError: The metadata server, or Google, cannot be reached now.
        """
        async with self._fetching[audience]:
            found = self._fetched.get(audience)
            # FRESH ends 225 s before the token does. The metadata server has a new one when 240 s are left.
            if found is None or found.token_state is not TokenState.FRESH or found.token == refused:
                found = self._fetched[audience] = await self._fetch(audience)
            return str(found.token)

    async def _fetch(self, audience: str) -> Credentials:
        if key_file := self._environment.get(CREDENTIALS):
            return await self._refreshed(
                lambda: _read_key(key_file, audience),
                f"Google gives no identity token for the key {key_file}",
                "make a new key, or check the clock of this host",
            )
        host = self._environment.get(GCE_METADATA_HOST) or "metadata.google.internal"
        try:
            return await self._refreshed(
                lambda: _MetadataCredentials(host, audience),
                f"the metadata server {host} gives no identity token",
                "give this host a service account with roles/run.invoker",
                # It is one hop away, and no proxy may see the token.
                proxies=False,
            )
        except ThrottledError as error:
            if _is_unknown_name(error):
                raise AttemptError(_NO_CREDENTIALS, fatal=True) from error
            raise

    async def _refreshed(
        self, make: Callable[[], Credentials], giver: str, fix: str, *, proxies: bool = True
    ) -> Credentials:
        """Return the credentials that `make` makes in a thread, with a token.

        Args:
            make: Makes them; blocking.
            giver: How the sentence begins that says that there is no token.
            fix: How it ends where asking again is pointless.
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
            raise ThrottledError(f"{giver} within {self._most_seconds:g} s") from error
        except TransportError as error:
            raise ThrottledError(shorten_line(f"{giver}: {error}", 400)) from error
        except RefreshError as error:
            said = shorten_line(f"{giver}: {error.args[0]}", 400)
            # Not as a cause: its other arguments are the whole answer.
            if error.retryable:
                raise ThrottledError(said) from None
            raise AttemptError(f"{said}; {fix}", fatal=True) from None
        except (ValueError, KeyError, TypeError, OverflowError):
            # Not as a cause: the error may quote a token.
            said = f"what should give identity tokens gave something else; check {GCE_METADATA_HOST} and the key file"
            raise AttemptError(said, fatal=True) from None
        finally:
            transport.close()


def _read_key(key_file: str, audience: str) -> IDTokenCredentials:
    """Return the credentials in the key file of a service account; blocking."""
    try:
        with open(key_file, encoding="utf-8") as file:
            key = json.load(file)
        if key["type"] != "service_account":
            raise ValueError(key["type"])
        # google-auth annotates its newest functions only.
        return IDTokenCredentials.from_service_account_info(key, target_audience=audience)  # type: ignore[no-untyped-call, no-any-return]
    except (OSError, ValueError, KeyError, TypeError, GoogleAuthError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no key of a service account"
        sentence = f"{CREDENTIALS}: {key_file}: {reason}; name the JSON key file of a service account"
        # Not as a cause: the error may quote the file, which is a credential.
        raise AttemptError(sentence, fatal=True) from None


class _MetadataCredentials(Credentials):
    """The service account that this host of Google Cloud runs as.

    google-auth's own (`google.auth.compute_engine`) need the package requests since version 2.44, which nothing else
    here does, take the server's address from the environment of the moment they are imported, and try five times with
    pauses that block their thread for 15 s.

    Args:
        host: The metadata server.
        audience: What its tokens are for.
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
        # Google signs it for the service: nobody needs to check that here.
        expires_at = jwt.decode(token, verify=False)["exp"]  # type: ignore[no-untyped-call]
        # google-auth compares with times that know no zone.
        self.token, self.expiry = token, datetime.fromtimestamp(expires_at, UTC).replace(tzinfo=None)


class _Transport(Request):
    """Sends what google-auth asks from its thread, through httpx on the event loop.

    Closing it closes the connection and ends the thread, which no cancel could do to a request of the thread's own.
    google-auth's transports need requests, or are for urllib3 and block.

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
        # In this thread: reading the certificates of the system takes longer than the loop should wait.
        trust = httpx.create_ssl_context()
        if self._is_closed:
            raise TransportError("nobody waits for the answer")  # type: ignore[no-untyped-call]
        sending = self._send(trust, method, url, body, headers)
        try:
            sent = asyncio.run_coroutine_threadsafe(sending, self._loop)
        except RuntimeError as error:
            # The loop has ended meanwhile.
            sending.close()
            raise TransportError(str(error)) from error  # type: ignore[no-untyped-call]
        return _Answer(sent.result(self._most_seconds))

    def close(self) -> None:
        """End the request that is under way, and send no more; called on the event loop."""
        self._is_closed = True
        if self._sending is not None:
            self._sending.cancel()

    async def _send(
        self, trust: ssl.SSLContext, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> httpx.Response:
        if self._is_closed:
            raise asyncio.CancelledError
        self._sending = asyncio.current_task()
        try:
            async with httpx.AsyncClient(verify=trust, trust_env=self._proxies, timeout=self._most_seconds) as client:
                response = await client.request(method, url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransportError(str(error) or type(error).__name__) from error  # type: ignore[no-untyped-call]
        if response.status_code in (408, 429) or response.status_code >= 500:
            # As an answer it would have google-auth try three times, with pauses that block its thread for 3 s.
            raise TransportError(f"HTTP {response.status_code}")  # type: ignore[no-untyped-call]
        return response


class _Answer(Response):
    """An answer of httpx as google-auth reads it."""

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
    """Tell whether a name is known not to exist: only Google Cloud knows that of its metadata server."""
    # The HTTP client has wrapped the error of the system some times over.
    for _ in range(_MOST_CAUSES):
        if isinstance(error, socket.gaierror):
            return error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
        error = error and (error.__cause__ or error.__context__)
    return False
