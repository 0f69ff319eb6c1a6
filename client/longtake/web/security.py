"""Guard all requests: by which name, page and person; how much may be sent; what browsers may do with answers."""

import asyncio
from http import HTTPMethod

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longtake.errors import LongtakeError
from longtake.jobfile.loader import LARGEST_FILE_BYTES
from longtake.web.authentication import Authenticator, TooManyGuessesError
from longtake.web.problems import ProblemError, describe_problem, respond
from longtake.web.settings import WebSettings
from longtake.web.tokens import Role

API = "/api/"
SESSION = "/api/v1/session"

# What a page of ours loads is ours, and no other page may show it in a frame.
_CSP = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_SAFE = frozenset({HTTPMethod.GET, HTTPMethod.HEAD, HTTPMethod.OPTIONS})

# Bodies that are no job files are a few words.
_MOST_BODY_BYTES = 64 * 1024
_TAKES_JOB_FILES = frozenset({"/api/v1/jobs", "/api/v1/plan"})

# Time for a whole body: a job file of 16 MiB over a slow line.
_BODY_SECONDS = 30.0


class Guard:
    """Refuse what a foreign page sends and who is not known; say to browsers what they may do with answers.

    Args:
        app: The application behind it.
        settings: Settings of the server.
        authenticator: Finds out who asks.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings, authenticator: Authenticator) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in settings.hosts)
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Matched as sent: an id may hold a slash, which is decoded where a route takes the id.
        path = scope["path"] = scope["raw_path"].decode("ascii", "replace")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if path.startswith(API):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        try:
            self._refuse_foreign(scope, headers)
            if path.startswith(API):
                self._admit(scope, headers)
            most = LARGEST_FILE_BYTES if path in _TAKES_JOB_FILES else _MOST_BODY_BYTES
            bounded = _bound_body(receive, headers, most)
        except (ProblemError, LongtakeError) as error:
            problem = describe_problem(error, instance=path)
            await respond(problem, getattr(error, "headers", None))(scope, receive, send_guarded)
            return
        await self._app(scope, bounded, send_guarded)

    def _refuse_foreign(self, scope: Scope, headers: Headers) -> None:
        """Refuse another name of the server, and what a page of another site sends.

        Raises:
            ProblemError: It is either.
        """
        host = headers.get("host", "").lower()
        if not self._is_ours(host, scope):
            raise ProblemError(
                403,
                "this server does not go by that name; start `longtake web` with --allow-host NAME",
                kind="foreign-host",
            )
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        is_foreign_site = site not in (None, "same-origin", "none")
        if scope["method"] in _SAFE:
            # A link leads here from anywhere; what a page of another site would load is refused.
            is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
            is_refused = is_foreign_site and not is_link
        else:
            is_refused = is_foreign_site or (origin is not None and origin.partition("://")[2].lower() != host)
        if is_refused:
            raise ProblemError(403, "a page of another site may not ask this server", kind="foreign-page")

    def _is_ours(self, host: str, scope: Scope) -> bool:
        """Tell whether a host is one of ours, or the very address that was reached, which no name can be bound to."""
        name = _without_port(host)
        server = scope.get("server")
        return name in self._hosts or (server is not None and name.strip("[]") == server[0])

    def _admit(self, scope: Scope, headers: Headers) -> None:
        """Note who asks.

        Raises:
            ProblemError: That is not known, or they may do nothing of the kind.
            LongtakeError: The tokens cannot be read.
        """
        is_login = scope["path"] == SESSION and scope["method"] != HTTPMethod.GET
        if is_login:
            return
        peer = scope["client"][0] if scope.get("client") else ""
        try:
            caller = self._authenticator.identify(headers, cookie_parser(headers.get("cookie", "")), peer)
        except TooManyGuessesError as error:
            raise refuse_guesses(error) from error
        if caller is None:
            raise ProblemError(
                401,
                "say who you are: log in, or send `Authorization: Bearer TOKEN`",
                kind="not-logged-in",
                headers={"WWW-Authenticate": "Bearer"},
            )
        scope.setdefault("state", {})["caller"] = caller
        # Routes ask for more where they do more; none that changes anything is for those who may look alone.
        if scope["method"] not in _SAFE and Role.STEER not in caller.role.can:
            raise ProblemError(403, f"{caller.name} may look, and nothing else", kind="not-allowed")


def refuse_guesses(error: TooManyGuessesError) -> ProblemError:
    """Return the answer to too many wrong tokens."""
    return ProblemError(429, str(error), kind="too-many-guesses", headers={"Retry-After": str(error.seconds)})


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _bound_body(receive: Receive, headers: Headers, most_bytes: int) -> Receive:
    """Return a `receive` that ends a body which is too long or comes too slowly.

    Raises:
        ProblemError: The body says itself that it is too long.
    """
    sentence = f"the body may have {most_bytes:,} bytes, and has more"
    told = headers.get("content-length", "0")
    if not told.isdecimal() or int(told) > most_bytes:
        raise ProblemError(413, sentence, kind="too-large", headers={"Connection": "close"})
    loop = asyncio.get_running_loop()
    began, count, is_whole = loop.time(), 0, False

    async def receive_bounded() -> Message:
        nonlocal count, is_whole
        if is_whole:
            return await receive()
        try:
            async with asyncio.timeout_at(began + _BODY_SECONDS):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, "the body came too slowly", {"Connection": "close"}) from error
        count += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if count > most_bytes:
            raise HTTPException(413, sentence, {"Connection": "close"})
        return message

    return receive_bounded
