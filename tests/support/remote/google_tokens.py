"""Who gives out identity tokens on Google Cloud, on the loopback interface: the metadata server, and OAuth's."""

import asyncio
import base64
import itertools
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.auth import jwt
from support.servers.certificates import Certificate, known_certificate
from support.servers.http_server import Connection, HttpServer, Request

IDENTITY = "/computeMetadata/v1/instance/service-accounts/default/identity"
# What assertions of service accounts are for, whatever the address of who takes them.
OAUTH_AUDIENCE = "https://oauth2.googleapis.com/token"


class MetadataServer:
    """Gives well-formed tokens that nobody has signed, each different from all before.

    Requests without the header `Metadata-Flavor: Google` or without an audience get none, as on Google Cloud.
    """

    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        self._numbers = itertools.count(1)
        self._folder = folder
        self._certificate = known_certificate(folder)
        context = None
        if tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self._certificate.certificate, self._certificate.key)
        self._server = HttpServer(self._answer, tls=context)
        self._scheme = "https" if tls else "http"
        self._key_file = folder / "service-account.json"
        # How long the next tokens last.
        self.lifetime_seconds = 3600.0
        # What is answered instead of a token, while it is not None.
        self.failure: tuple[int, dict[str, Any]] | None = None
        # Nothing is answered before it is set.
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()
        # Set while no caller waits for an answer.
        self.all_hung_up = asyncio.Event()
        self._waiting = 0
        # The audience of each token that was asked for, in order.
        self.audiences: list[str] = []
        # What each assertion of a service account said; all of them were signed with its key.
        self.assertions: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        """Host and port, as GCE_METADATA_HOST takes them."""
        return self._server.address

    @property
    def certificate(self) -> Path:
        """What its certificate is checked with, where it speaks TLS."""
        return self._certificate.certificate

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a process on a host of Google Cloud."""
        return {"GCE_METADATA_HOST": self.address}

    @cached_property
    def _account(self) -> Certificate:
        folder = self._folder / "account"
        folder.mkdir()
        return known_certificate(folder, rsa=True)

    def key_file(self, **changes: object) -> Path:
        """Write the key file of a service account whose tokens come from here; a change of None leaves a key out."""
        key: dict[str, object] = {
            "type": "service_account",
            "project_id": "test",
            "private_key_id": "key-1",
            "private_key": self._account.key.read_text(),
            "client_email": "worker@test.iam.gserviceaccount.com",
            "token_uri": f"{self._scheme}://{self.address}/token",
        }
        kept = {name: value for name, value in (key | changes).items() if value is not None}
        self._key_file.write_text(json.dumps(kept))
        return self._key_file

    async def start(self) -> None:
        await self._server.start()

    async def close(self) -> None:
        """Be away from now on."""
        await self._server.close()

    async def _answer(self, connection: Connection, request: Request) -> None:
        url = urlsplit(request.target)
        if request.method == "POST" and url.path == "/token":
            assertion = parse_qs(request.body.decode())["assertion"][0]
            certificate = self._account.certificate.read_bytes()
            claims = jwt.decode(assertion, certs=certificate, audience=OAUTH_AUDIENCE)  # type: ignore[no-untyped-call]
            self.assertions.append(dict(claims))
            audience = claims["target_audience"]
        else:
            audience = parse_qs(url.query).get("audience", [""])[0]
            if url.path != IDENTITY or request.headers.get("metadata-flavor") != "Google" or not audience:
                await connection.respond(403 if audience else 400, b"Missing Metadata-Flavor:Google header or audience")
                return
        self.audiences.append(audience)
        self.asked.set()
        if not await self._may_answer(connection):
            return
        if self.failure is not None:
            await connection.respond_json(*self.failure)
        elif url.path == "/token":
            await connection.respond_json(200, {"id_token": self._token(audience)})
        else:
            headers = {"content-type": "application/text", "metadata-flavor": "Google"}
            await connection.respond(200, self._token(audience).encode(), headers)

    async def _may_answer(self, connection: Connection) -> bool:
        """Wait until answers may be given; return whether the caller has waited, too."""
        if self.may_answer.is_set():
            return True
        self._waiting += 1
        self.all_hung_up.clear()
        allowed = asyncio.ensure_future(self.may_answer.wait())
        hung_up = asyncio.ensure_future(connection.until_closed())
        await asyncio.wait([allowed, hung_up], return_when=asyncio.FIRST_COMPLETED)
        has_waited = not hung_up.done()
        for task in (allowed, hung_up):
            task.cancel()
        await asyncio.wait([allowed, hung_up])
        self._waiting -= 1
        if not self._waiting:
            self.all_hung_up.set()
        return has_waited

    def _token(self, audience: str) -> str:
        now = time.time()
        claims = {"aud": audience, "iss": "https://accounts.google.com", "iat": int(now)}
        claims |= {"exp": int(now + self.lifetime_seconds), "jti": next(self._numbers)}
        return ".".join([_encoded({"alg": "RS256", "typ": "JWT"}), _encoded(claims), "c2lnbmF0dXJl"])


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token says."""
    part = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert isinstance(claims, dict)
    return claims


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


@asynccontextmanager
async def metadata_server(folder: Path, *, tls: bool = False) -> AsyncIterator[MetadataServer]:
    """Run one."""
    server = MetadataServer(folder, tls=tls)
    await server.start()
    try:
        yield server
    finally:
        await server.close()
