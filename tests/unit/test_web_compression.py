"""Large answers of text are compressed for those who take it, and nothing else is."""

import gzip
import random

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from longtake.web.compression import Compressor

# Columns are noise in Base64.
LARGE = random.Random(1).randbytes(300_000).hex().encode()
KINDS = {
    "json": "application/json",
    "problem": "application/problem+json",
    "log": "text/plain; charset=utf-8",
    "page": "text/html; charset=utf-8",
    "script": "text/javascript; charset=utf-8",
    "events": "text/event-stream",
    "output": "application/octet-stream",
    "picture": "image/webp",
    "film": "video/mp4",
    "sound": "audio/wav",
}


async def answer(request: Request) -> Response:
    kind = KINDS[request.path_params["kind"]]
    content = LARGE[: int(request.query_params.get("size", len(LARGE)))]
    headers = {"ETag": '"x"'}
    if request.query_params.get("pieces"):
        pieces = (content[place : place + 65536] for place in range(0, len(content), 65536))
        return StreamingResponse(pieces, media_type=kind, headers={**headers, "Content-Length": str(len(content))})
    status = 206 if "range" in request.headers else 200
    return Response(content, status, media_type=kind, headers=headers)


APP = Compressor(Starlette(routes=[Route("/{kind}", answer)]))


async def ask(path: str, *, accept: str = "gzip, deflate, br", **headers: str) -> httpx.Response:
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://test") as client,
        client.stream("GET", path, headers={"Accept-Encoding": accept, **headers}) as found,
    ):
        raw = b"".join([piece async for piece in found.aiter_raw()])
    return httpx.Response(found.status_code, headers=found.headers, extensions={"raw": raw})


@pytest.mark.parametrize("pieces", ["", "&pieces=1"])
@pytest.mark.parametrize("kind", ["json", "problem", "log", "page", "script"])
async def test_text_is_compressed_with_a_weak_tag(kind: str, pieces: str) -> None:
    found = await ask(f"/{kind}?x{pieces}")

    assert found.headers["content-encoding"] == "gzip"
    assert found.headers["etag"] == 'W/"x"'
    assert found.headers["vary"] == "Accept-Encoding"
    raw = found.extensions["raw"]
    assert gzip.decompress(raw) == LARGE
    assert len(raw) < 0.6 * len(LARGE)
    assert found.headers.get("content-length") == (None if pieces else str(len(raw)))


@pytest.mark.parametrize("pieces", ["", "&pieces=1"])
@pytest.mark.parametrize("kind", ["events", "output", "picture", "film", "sound"])
async def test_streams_of_events_files_and_media_are_sent_as_they_are(kind: str, pieces: str) -> None:
    found = await ask(f"/{kind}?x{pieces}")

    assert "content-encoding" not in found.headers
    assert (found.headers["etag"], found.headers["content-length"]) == ('"x"', str(len(LARGE)))
    assert found.extensions["raw"] == LARGE


async def test_small_answers_and_ranges_are_sent_as_they_are() -> None:
    small, part = await ask("/json?size=5000"), await ask("/log", range="bytes=0-299999")

    for found in (small, part):
        assert "content-encoding" not in found.headers
        assert found.headers["etag"] == '"x"'
    assert (small.status_code, part.status_code) == (200, 206)


@pytest.mark.parametrize(
    ("accept", "is_taken"),
    [
        ("gzip", True), ("gzip;q=0.5, identity", True), ("br;q=1.0, gzip; q=0.001", True), ("gzip;q=1.0", True),
        ("", False), ("identity", False), ("gzip;q=0", False), ("gzip; q=0.000", False), ("br, zstd", False),
        ("gzipped", False),
    ],
)  # fmt: skip
async def test_only_who_takes_it_gets_it(accept: str, is_taken: bool) -> None:
    found = await ask("/json", accept=accept)

    assert ("content-encoding" in found.headers) is is_taken
    assert (found.extensions["raw"] == LARGE) is not is_taken
