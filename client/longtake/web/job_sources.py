"""Fetch job files that requests name by URL, from the places that the server's settings allow and from no other."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import h11

from longtake.allowed_addresses import ForbiddenAddressError, Network, find_address
from longtake.concurrency import read_in_thread, run_in_thread
from longtake.errors import BadJobError, StoreUnusableError
from longtake.jobfile.loader import LARGEST_FILE_BYTES, parse_document
from longtake.models.notify import find_origin
from longtake.stores.factory import is_bucket
from longtake.stores.store import OversizedFileError, StoreError
from longtake.text import escape_text
from longtake.web.problems import FieldError, ProblemError
from longtake.web.stores import OpenStores

# From the look for the host to the last byte of the file: a person waits.
_MOST_SECONDS = 20.0

# Files that are fetched at once: each may be held in memory as a whole.
_AT_ONCE = 8

_MOST_HEADER_BYTES = 16 * 1024
_PIECE_BYTES = 64 * 1024

LONGEST_URL = 4000

_INSTEAD = "or send the job file itself"
_TOO_LONG = f"url: is longer than a job file may be, {LARGEST_FILE_BYTES // 2**20} MiB; use frames instead of a list"


@dataclass(frozen=True)
class FetchedFile:
    """A job file as it was fetched.

    Args:
        name: Its name, without a folder.
        is_json: Whether it is JSON, and not YAML.
        content: Its bytes.
    """

    name: str
    is_json: bool
    content: bytes

    def parse(self) -> dict[str, Any]:
        """Return its keys and values, with the name of the job made from that of the file where it has none.

        Raises:
            BadJobError: It holds none.
        """
        shown = self.name or "job"
        # What a server says is JSON is, whatever its name.
        shown += ".json" if self.is_json and not shown.lower().endswith(".json") else ""
        document = parse_document(self.content, shown)
        stem = "".join(filter(str.isprintable, PurePosixPath(self.name).stem)).strip()[:100]
        document.setdefault("name", stem or "job")
        return document


class JobSources:
    """Fetch job files by their URLs.

    Whoever may submit jobs chooses the URL, and this server stands where they may not: so it asks no host that its
    settings do not name, none whose name leads into a private network that they do not name, and follows no redirect.

    Args:
        allowed: Where job files may lie: origins as in `https://files.example.org`, and `s3://bucket/prefix`.
        networks: Networks that are no public ones, and in which those origins may be.
        stores: Opens buckets.
    """

    def __init__(self, allowed: Sequence[str], networks: Sequence[Network], stores: OpenStores) -> None:
        self._buckets = tuple(source.rstrip("/") for source in allowed if is_bucket(source))
        self._origins = frozenset(find_origin(source) for source in allowed if not is_bucket(source))
        self._networks = tuple(networks)
        self._stores = stores
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def fetch(self, url: object) -> FetchedFile:
        """Return the job file at a URL.

        Raises:
            BadJobError: It may not be fetched, or there is no such file; nothing that is secret in a URL is quoted.
            ProblemError: Where it lies does not answer.
        """
        if not isinstance(url, str) or not 0 < len(url) <= LONGEST_URL or not (url.isascii() and url.isprintable()):
            raise BadJobError(f"url: is no URL; write https://host/path or s3://bucket/path, {_INSTEAD}")
        try:
            async with self._turns, asyncio.timeout(_MOST_SECONDS):
                return await (self._read_object(url) if is_bucket(url) else self._download(_split(url)))
        except TimeoutError as error:
            raise _away(f"was not sent within {_MOST_SECONDS:g} s") from error

    async def _read_object(self, url: str) -> FetchedFile:
        place = next((place for place in self._buckets if url.startswith(f"{place}/")), None)
        if place is None:
            raise _refuse(f"s3://{url.removeprefix('s3://').partition('/')[0]}")
        try:
            content = await read_in_thread(partial(self._read_stored, place, url))
        except FileNotFoundError as error:
            raise BadJobError(f"url: there is no file {escape_text(url, 200)}; check it") from error
        except OversizedFileError as error:
            raise BadJobError(_TOO_LONG) from error
        except (ValueError, StoreUnusableError) as error:
            raise BadJobError(f"url: {error}") from error
        except StoreError as error:
            if error.is_temporary:
                raise _away(f"cannot be read: {error}") from error
            raise BadJobError(f"url: {error}") from error
        name = url.rpartition("/")[2]
        return FetchedFile(name, name.lower().endswith(".json"), content)

    def _read_stored(self, place: str, url: str) -> bytes:
        store = self._stores.open(place, "")
        return store.read(store.locate(url), most_bytes=LARGEST_FILE_BYTES)

    async def _download(self, url: SplitResult) -> FetchedFile:
        origin = find_origin(url.geturl())
        if origin not in self._origins:
            raise _refuse(origin)
        scheme, _, host = origin.rpartition(":")[0].partition("://")
        host, port = host.strip("[]"), int(origin.rpartition(":")[2])
        try:
            address = await find_address(host, port, self._networks)
            context = await run_in_thread(_ssl_context) if scheme == "https" else None
            reader, writer = await asyncio.open_connection(
                address, port, ssl=context, server_hostname=host if context else None
            )
        except ForbiddenAddressError as error:
            raise BadJobError(
                f"url: {error}; start `longtake web` with --job-network where it may be fetched from there, {_INSTEAD}"
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise BadJobError(
                f"url: the certificate of {host} is not to be trusted: {error.verify_message}; mend it, {_INSTEAD}"
            ) from error
        except OSError as error:
            raise _away(f"{host} cannot be reached: {error.strerror or error}") from error
        try:
            headers, content = await _exchange(reader, writer, url)
        except (OSError, h11.RemoteProtocolError) as error:
            raise _away(f"the connection to {host} broke: {error}") from error
        finally:
            writer.transport.abort()
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/html":
            raise BadJobError("url: leads to a page for browsers; give the address of the job file itself")
        name = unquote(url.path).rpartition("/")[2]
        return FetchedFile(name, kind.endswith("json") or name.lower().endswith(".json"), content)


def _split(url: str) -> SplitResult:
    """Return the parts of a URL.

    Raises:
        BadJobError: It is none that may be fetched.
    """
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("https", "http") and parts.hostname is not None and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or " " in url:
        raise BadJobError(f"url: is no URL of a job file; write https://host/path or s3://bucket/path, {_INSTEAD}")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise BadJobError("url: has a user, a password or a fragment in it; write scheme, host, path and query alone")
    return parts


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: SplitResult
) -> tuple[dict[str, str], bytes]:
    """Ask for a file, and return the headers and the content of the answer.

    Raises:
        BadJobError: The answer is another one, or too long.
        ProblemError: The server says that it cannot answer now.
        RemoteProtocolError: It is no answer of HTTP, or breaks off.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEADER_BYTES)
    request = h11.Request(
        method="GET",
        # To the letter: signatures of URLs cover it.
        target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
        headers=[
            ("Host", url.netloc),
            ("User-Agent", f"longtake/{version('longtake')}"),
            ("Accept", "application/yaml, application/json, text/plain, */*"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ],
    )
    writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    headers: dict[str, str] = {}
    content = bytearray()
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_PIECE_BYTES))
        elif isinstance(event, h11.Response):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            _check_answer(event.status_code, headers)
        elif isinstance(event, h11.Data):
            content += event.data
            if len(content) > LARGEST_FILE_BYTES:
                raise BadJobError(_TOO_LONG)
    return headers, bytes(content)


def _check_answer(status: int, headers: dict[str, str]) -> None:
    """Refuse an answer that brings no job file.

    Raises:
        BadJobError: It is one that repeats.
        ProblemError: It may be another one later.
    """
    if 300 <= status < 400:
        raise BadJobError(
            f"url: its server redirects elsewhere ({status}), which is not followed; give the address of the file"
        )
    if status in (401, 403):
        raise BadJobError(
            f"url: its server refuses it ({status}), and no credentials are sent; give a signed URL, {_INSTEAD}"
        )
    if status in (404, 410):
        raise BadJobError(f"url: there is no such file ({status}); check it")
    if status == 429 or status >= 500:
        raise _away(f"its server answers {status}")
    if status != 200:
        raise BadJobError(f"url: its server answers {status}; check it, {_INSTEAD}")
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > LARGEST_FILE_BYTES:
        raise BadJobError(_TOO_LONG)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise BadJobError(f"url: is sent compressed, and was asked for plain; store it as a plain file, {_INSTEAD}")


def _refuse(place: str) -> BadJobError:
    shown = escape_text(place, 200)
    return BadJobError(
        f"url: job files are not fetched from {shown} here; start `longtake web` with --job-source {shown}, {_INSTEAD}"
    )


def _away(what: str) -> ProblemError:
    sentence = f"{what}; try again, {_INSTEAD}"
    return ProblemError(502, f"url: {sentence}", kind="url-away", errors=(FieldError(field="url", message=sentence),))


@cache
def _ssl_context() -> ssl.SSLContext:
    return ssl.create_default_context()
