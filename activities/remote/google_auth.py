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
from urllib.parse import urlencode

import httpx

from activities.backends.service_account import token_of_key
from activities.errors import AttemptError, ThrottledError
from longtake.plaintext import short_line

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
