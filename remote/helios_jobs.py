"""A Helios job as its clients name it: by the URL of a job.json, from places that the settings allow."""

import json
import time
from collections.abc import Sequence
from http.client import HTTPException, responses
from typing import Any, TypeGuard
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector

from longtake.commands import split_command
from longtake.errors import BadJobError
from remote.url_prefix import begins_with

# That of 10,000 chunks has 3 MB.
_LARGEST_BYTES = 32 * 2**20
_READ_SECONDS = 15.0
_FETCH_SECONDS = 60.0
_PIECE_BYTES = 1 << 16


class HeliosError(Exception):
    """Why a Helios chunk cannot be rendered, in the words of Helios' own workers where they have some."""


class HeliosForbiddenError(HeliosError):
    """The settings do not allow it."""


def chunk_command(url: str, chunk: float, allowed: Sequence[str]) -> tuple[str, ...]:
    """Return the command of a chunk; blocking.

    Raises:
        HeliosForbiddenError: The URL is not one that this agent may ask.
        HeliosError: There is no such job or chunk.
    """
    if not allowed:
        raise HeliosForbiddenError(
            "this agent renders no Helios jobs; set LONGTAKE_HELIOS_JOBS to what the URLs of their job.json begin with"
        )
    if not any(begins_with(url, prefix) for prefix in allowed):
        raise HeliosForbiddenError("jobPath is none that this agent may read; add its folder to LONGTAKE_HELIOS_JOBS")
    return _command(_document(_fetch(url)), chunk)


def _command(document: Any, index: float) -> tuple[str, ...]:
    chunks = document.get("chunks") if isinstance(document, dict) else None
    if not isinstance(chunks, list):
        raise HeliosError("Invalid JobSpec: missing chunks array")
    if document.get("assetsUrl"):
        raise HeliosError(
            "Worker was not configured with an ArtifactStorage adapter, but the job requires remote assets."
        )
    for chunk in chunks:
        if isinstance(chunk, dict) and is_number(chunk.get("id")) and chunk["id"] == index:
            line = chunk.get("command")
            try:
                return split_command(line if isinstance(line, str) else "")
            except BadJobError as error:
                raise HeliosError(f"Invalid JobSpec: the chunk's {error}") from error
    raise HeliosError(f"Chunk with ID {index} not found in job spec")


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a JSON value is a number, which JavaScript does not take `true` for."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _document(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HeliosError("Invalid JobSpec: it is not JSON") from error


def _fetch(url: str) -> bytes:
    """Return what lies at a URL; no redirect is followed, since it might lead to where the settings do not."""
    end = time.monotonic() + _FETCH_SECONDS
    try:
        with _opener().open(url, timeout=_READ_SECONDS) as response:
            if not 200 <= response.status < 300:
                raise HeliosError(f"Failed to fetch job spec: {response.reason or responses.get(response.status)}")
            content = bytearray()
            while piece := response.read1(_PIECE_BYTES):
                content += piece
                if len(content) > _LARGEST_BYTES:
                    raise HeliosError(f"Failed to fetch job spec: it has more than {_LARGEST_BYTES} bytes")
                if time.monotonic() > end:
                    raise HeliosError(f"Failed to fetch job spec: not within {_FETCH_SECONDS:g} s")
            return bytes(content)
    except (OSError, HTTPException, ValueError) as error:
        raise HeliosError("fetch failed") from error


def _opener() -> OpenerDirector:
    """Return what speaks HTTP and nothing else: no redirects, files, FTP or proxies."""
    opener = OpenerDirector()
    opener.add_handler(HTTPHandler())
    opener.add_handler(HTTPSHandler())
    return opener
