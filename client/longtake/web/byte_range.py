"""Answer with a file or a part of it (RFC 9110, ranges), piece by piece."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from urllib.parse import quote

from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from longtake.concurrency import run_in_thread
from longtake.stores.stored_file import OpenFile
from longtake.web.problems import make_problem, respond

_PIECE_BYTES = 1 << 20

# One range: several in one answer are of use to nobody here, and a way to ask for the same bytes a thousand times.
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)

# Digits of an offset that some file may have.
_MOST_DIGITS = 18

# What browsers show and do not run. Anything else is saved, and never opened as a page of this server.
_SHOWN = {
    "mp4": "video/mp4", "m4v": "video/mp4", "mov": "video/quicktime", "webm": "video/webm", "mkv": "video/x-matroska",
    "m4a": "audio/mp4", "mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg",
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif",
    "avif": "image/avif", "bmp": "image/bmp", "tif": "image/tiff", "tiff": "image/tiff", "exr": "image/x-exr",
}  # fmt: skip


class UnsatisfiableError(Exception):
    """Raised for a range that begins behind the end."""


@dataclass(frozen=True)
class ByteRange:
    """Bytes `[start, stop)` of so many."""

    start: int
    stop: int
    size: int

    @property
    def content_range(self) -> str:
        """Header that names it."""
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


def parse_range(text: str | None, size: int) -> ByteRange | None:
    """Return the range that a header asks for; None where all is to be sent.

    Args:
        text: The header.
        size: Size of the file.

    Raises:
        UnsatisfiableError: It begins behind the end.
    """
    match = _RANGE.fullmatch(text.replace(" ", "")) if text else None
    if match is None or match[1] == match[2] == "":
        return None
    first, last = (int(digits[:_MOST_DIGITS]) if digits else None for digits in match.groups())
    if len(match[1]) > _MOST_DIGITS:
        raise UnsatisfiableError
    if first is None:
        assert last is not None
        if last == 0:
            raise UnsatisfiableError
        return ByteRange(max(0, size - last), size, size)
    if last is not None and last < first:
        return None
    if first >= size:
        raise UnsatisfiableError
    return ByteRange(first, size if last is None else min(last + 1, size), size)


def send_file(file: OpenFile, headers: Headers, *, name: str, etag: str, immutable: bool = False) -> Response:
    """Return the answer to a request for a file, which is closed when the answer is sent.

    Args:
        file: The file.
        headers: Headers of the request.
        name: Name under which it is saved.
        etag: Tag of its content, with quotes.
        immutable: Whether a browser need never ask again.
    """
    kind = _SHOWN.get(name.rpartition(".")[2].lower())
    told = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Last-Modified": formatdate(file.modified_ns / 1e9, usegmt=True),
        "Cache-Control": "private, max-age=31536000, immutable" if immutable else "private, no-cache",
        "Content-Disposition": f"{'inline' if kind else 'attachment'}; filename*=UTF-8''{quote(name, safe='')}",
        # Should a browser take it for a page, that page may do nothing.
        "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
    }
    closing = BackgroundTask(file.close)
    if etag in (headers.get("if-none-match") or ""):
        return Response(status_code=304, headers=told, background=closing)
    asked = headers.get("range")
    if headers.get("if-range") not in (None, etag):
        asked = None
    try:
        part = parse_range(asked, file.size_bytes)
    except UnsatisfiableError:
        answer = respond_unsatisfiable(file.size_bytes)
        answer.background = closing
        return answer
    whole = part or ByteRange(0, file.size_bytes, file.size_bytes)
    if part is not None:
        told["Content-Range"] = part.content_range
    told["Content-Length"] = str(whole.stop - whole.start)
    return StreamingResponse(
        _read_pieces(file, whole),
        206 if part is not None else 200,
        headers=told,
        media_type=kind or "application/octet-stream",
        background=closing,
    )


def respond_unsatisfiable(size: int) -> Response:
    """Return the answer to a range that begins behind the end."""
    problem = make_problem(416, f"there are {size:,} bytes, and the range begins behind them", kind="no-such-range")
    return respond(problem, {"Content-Range": f"bytes */{size}", "X-Log-Size": str(size)})


async def _read_pieces(file: OpenFile, part: ByteRange) -> AsyncIterator[bytes]:
    place = part.start
    while place < part.stop:
        piece = await run_in_thread(partial(file.read, place, min(place + _PIECE_BYTES, part.stop)))
        if not piece:
            # It has become shorter; the connection ends early, and the client knows.
            return
        place += len(piece)
        yield piece
