"""Guard all requests: who may ask by which name and from which page, and what browsers may do with the answers."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longtake.web.problems import make_problem, respond
from longtake.web.settings import WebSettings

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

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Refuse what a foreign page sends, and say to browsers what they may do with answers.

    Args:
        app: The application behind it.
        settings: Settings of the server.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in settings.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Matched as sent: an id may hold a slash, which is decoded where a route takes the id.
        scope["path"] = scope["raw_path"].decode("ascii", "replace")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._find_refusal(scope)
        if refusal is not None:
            await respond(make_problem(403, refusal, kind="foreign-request"))(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _find_refusal(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _without_port(host).lower() not in self._hosts:
            return "this server does not go by that name; start `longtake web` with --allow-host NAME"
        if scope["method"] in _SAFE:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return "a page of another origin may not ask for this"
        if site not in (None, "same-origin", "none"):
            return "a page of another site may not ask for this"
        return None


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
