"""Google identity tokens: what a private Cloud Run service asks of whoever calls it."""

import asyncio
import base64
import json
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport import Request, Response
from google.oauth2.service_account import IDTokenCredentials

from activities.errors import AttemptError, ThrottledError
from longtake.text import short_line

# Google answers in a tenth of a second; nobody waits for this thread.
_SECONDS = 20.0


def token_of_key(key_file: str, audience: str) -> str:
    """Return a new identity token for this audience; blocking.

    Raises:
        AttemptError: The file is no key of a service account, or Google refuses it.
        ThrottledError: Google cannot be reached now.
    """
    try:
        with open(key_file, encoding="utf-8") as file:
            key = json.load(file)
        if key["type"] != "service_account":
            raise ValueError(key["type"])
        # google-auth has no annotations.
        credentials = IDTokenCredentials.from_service_account_info(key, target_audience=audience)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, KeyError, TypeError, GoogleAuthError) as error:
        # The error may quote the file, which is a credential.
        reason = error.strerror if isinstance(error, OSError) else "it is no key of a service account"
        sentence = f"GOOGLE_APPLICATION_CREDENTIALS: {key_file}: {reason}; name the JSON key file of a service account"
        raise AttemptError(sentence, fatal=True) from None
    try:
        credentials.refresh(_Transport())
    except TransportError as error:
        raise ThrottledError(short_line(f"Google gives no identity token now: {error}", 300)) from error
    except RefreshError as error:
        said = short_line(f"Google gives no identity token for the key {key_file}: {error.args[0]}", 400)
        if error.retryable:
            raise ThrottledError(said) from error
        raise AttemptError(f"{said}; make a new key, or check the clock of this host", fatal=True) from error
    return str(credentials.token)


class _Answer(Response):
    """An answer as google-auth reads it."""

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


class _Transport(Request):
    """Lets google-auth ask through httpx, so that a worker needs no second HTTP client."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_kwargs: Any,
    ) -> _Answer:
        try:
            return _Answer(httpx.request(method, url, content=body, headers=headers, timeout=timeout or _SECONDS))
        except httpx.HTTPError as error:
            raise TransportError(f"{type(error).__name__}: {error}") from error  # type: ignore[no-untyped-call]


# Google's metadata server renews a token when less than 4 minutes of it are left; asked later, it has a new one.
_SPARE_SECONDS = 225.0

_METADATA_SECONDS = 10.0
_MOST_LAYERS = 12
_FLAVOR = {"Metadata-Flavor": "Google"}
_NO_CREDENTIALS = (
    "Cloud Run needs an identity token and this host has no Google credentials; run the worker on Google Cloud with "
    "a service account, or set GOOGLE_APPLICATION_CREDENTIALS to the key file of one"
)


@dataclass(frozen=True)
class _Token:
    text: str
    # Seconds since 1970.
    expires_at: float


class IdTokens:
    """Fetches identity tokens and keeps them until shortly before they expire.

    They come from the key file that `GOOGLE_APPLICATION_CREDENTIALS` names, else from the metadata server, whose
    address `GCE_METADATA_HOST` may change; both are read anew for each fetch.

    Args:
        environment: Where these variables are; the process's own by default.
        clock: Seconds since 1970.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._environment = os.environ if environment is None else environment
        self._clock = clock
        self._kept: dict[str, _Token] = {}
        self._fetching: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def token(self, audience: str, *, refused: str = "") -> str:
        """Return a token for this audience, which is used to the letter; a cancel waits for nothing.

        One fetch at a time is under way for an audience, however many ask.

        Args:
            audience: The URL of the service, as it is called.
            refused: A token that the service refused, and that is not worth returning again.

        Raises:
            AttemptError: There are no credentials here, or Google refuses them.
            ThrottledError: Whoever gives tokens out cannot be reached now.
        """
        async with self._fetching[audience]:
            kept = self._kept.get(audience)
            if kept is None or kept.text == refused or kept.expires_at - _SPARE_SECONDS <= self._clock():
                text = await self._fetch(audience)
                kept = self._kept[audience] = _Token(text, _expiry(text))
            return kept.text

    async def _fetch(self, audience: str) -> str:
        if key_file := self._environment.get("GOOGLE_APPLICATION_CREDENTIALS"):
            return await asyncio.to_thread(token_of_key, key_file, audience)
        own_host = self._environment.get("GCE_METADATA_HOST")
        return await _token_of_host(own_host or "metadata.google.internal", audience)


async def _token_of_host(host: str, audience: str) -> str:
    """Return what the metadata server says of the service account that this host runs as."""
    path = "computeMetadata/v1/instance/service-accounts/default/identity"
    url = f"http://{host}/{path}?{urlencode({'format': 'full', 'audience': audience})}"
    try:
        # It is one hop away, and no proxy may see the token.
        async with httpx.AsyncClient(timeout=_METADATA_SECONDS, trust_env=False) as client:
            response = await client.get(url, headers=_FLAVOR)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if _is_unknown_name(error):
            raise AttemptError(_NO_CREDENTIALS, fatal=True) from error
        what = f"the metadata server {host} gives no identity token: {error or type(error).__name__}"
        raise ThrottledError(short_line(what, 300)) from error
    if response.status_code == 200:
        return response.text.strip()
    said = f"the metadata server {host} gives no identity token: HTTP {response.status_code}"
    if response.status_code in (408, 429) or response.status_code >= 500:
        raise ThrottledError(said)
    raise AttemptError(f"{said}; give this host a service account with roles/run.invoker", fatal=True)


def _is_unknown_name(error: BaseException | None) -> bool:
    """Tell whether a name is known not to exist: only Google Cloud knows that of its metadata server."""
    # The HTTP client has wrapped the error of the system some times over.
    for _ in range(_MOST_LAYERS):
        if isinstance(error, socket.gaierror):
            return error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
        error = error and (error.__cause__ or error.__context__)
    return False


def _expiry(token: str) -> float:
    """Return when a token expires. Google signs it for the service: nobody needs to check that here."""
    try:
        _, claims, _ = token.split(".")
        return float(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"])
    except (ValueError, KeyError, TypeError) as error:
        sentence = "what should give identity tokens gave something else; check GCE_METADATA_HOST and the key file"
        raise AttemptError(sentence, fatal=True) from error
