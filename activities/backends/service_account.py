"""Identity tokens by the key file of a Google service account."""

import json
from collections.abc import Mapping
from typing import Any

import httpx
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport import Request, Response
from google.oauth2.service_account import IDTokenCredentials

from activities.errors import AttemptError, ThrottledError
from longtake.plaintext import short_line

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
