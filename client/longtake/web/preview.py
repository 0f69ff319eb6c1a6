"""Routes for the growing preview: an HLS playlist (RFC 8216) of finished chunks that lie next to each other."""

from hashlib import sha256
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from longtake.stores.job_records import JobRecords
from longtake.web.gateway import Gateway, Job, PathText, Shared
from longtake.web.preview_film import PreviewFilm, PreviewSegment, PreviewSound
from longtake.web.problems import ProblemError

router = APIRouter(tags=["preview"])

_PLAYLIST = "application/vnd.apple.mpegurl"
_FRAGMENT = "video/mp4"

_LARGEST = 2**31

Proxy = Annotated[bool, Query(description="a small copy (H.264, longest side 640) in place of the chunks as they are")]
Skip = Annotated[int, Query(ge=0, le=_LARGEST, description="frames of the chunk that come before")]
Frames = Annotated[int, Query(ge=1, le=100_000, description="frames of the segment")]

_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {_PLAYLIST: {"schema": {"type": "string"}}}},
    307: {"description": "to the first chunk that is finished"},
}
_MEDIA: dict[int | str, dict[str, Any]] = {
    200: {"content": {_FRAGMENT: {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get("/jobs/{id}/preview.m3u8", response_class=Response, responses=_TEXT)
async def read_playlist(
    job: Job,
    shared: Shared,
    proxy: Proxy = False,
    start: Annotated[
        int | None, Query(alias="from", ge=0, le=_LARGEST, description="chunk to begin with; else the first finished")
    ] = None,
) -> Response:
    """Return the playlist of the finished chunks from one on, up to the first that is not finished; it grows."""
    status = (await shared.statuses.read(job.id)).status

    def look(records: JobRecords) -> Response:
        film = shared.previews.find_film(records, status)
        first = film.first
        if first is None or (start is not None and start not in film.finished):
            what = "no chunk is finished yet" if start is None else f"chunk {start} is not finished"
            raise ProblemError(404, what, kind="nothing-finished")
        if start is None and first > 0:
            # Said in the address: the list of a player must not begin elsewhere once chunks before are finished.
            query = urlencode({"from": first, **({"proxy": 1} if proxy else {})})
            return RedirectResponse(f"preview.m3u8?{query}", 307)
        segments, is_over = film.list_segments(start or 0)
        if not segments:
            raise ProblemError(404, "too little is finished yet to be played", kind="nothing-finished")
        folders = _find_folders(shared, records)
        sound = shared.previews.find_sound(records, film, segments[0], folders)
        # Tells now whether a browser plays it.
        shared.previews.make(records, film, segments[0], folders, small=proxy, sound=sound)
        return Response(
            _write_playlist(film, segments, is_over=is_over, proxy=proxy, sound=sound),
            media_type=_PLAYLIST,
            headers={"Cache-Control": "private, no-cache"},
        )

    return await shared.stores.read(status, look)


@router.get("/jobs/{id}/preview/{name}", response_class=Response, responses=_MEDIA)
async def read_segment(
    job: Job,
    shared: Shared,
    request: Request,
    name: PathText,
    frames: Frames,
    skip: Skip = 0,
    at: Annotated[int, Query(ge=0, le=_LARGEST, description="frames of the preview that come before")] = 0,
    proxy: Proxy = False,
    sound: Annotated[str, Query(pattern=f"^({PreviewSound.PATTERN})?$", description="its rate and channels")] = "",
) -> Response:
    """Return a segment that a playlist names, `CHUNK.m4s`, or the init segment before it, `init-CHUNK.mp4`."""
    is_init = name.startswith("init-")
    number = name.removeprefix("init-").removesuffix(".mp4") if is_init else name.removesuffix(".m4s")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise ProblemError(404, f"{job.id} has no such segment", kind="no-such-segment")
    status = (await shared.statuses.read(job.id)).status

    def look(records: JobRecords) -> Response:
        film = shared.previews.find_film(records, status)
        segment = PreviewSegment(int(number), skip, frames, at)
        heard = PreviewSound.parse(sound)
        folders = _find_folders(shared, records)
        made = shared.previews.make(records, film, segment, folders, small=proxy, sound=heard)
        content = made[0].init if is_init else film.place_fragments(made, segment, heard)
        etag = f'"{sha256(content).hexdigest()[:32]}"'
        headers = {"Cache-Control": "private, no-cache", "ETag": etag}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=_FRAGMENT, headers=headers)

    return await shared.stores.read(status, look)


def _find_folders(shared: Gateway, records: JobRecords) -> list[str]:
    return [records.store.url, *map(str, shared.settings.roots)]


def _write_playlist(
    film: PreviewFilm, segments: list[PreviewSegment], *, is_over: bool, proxy: bool, sound: PreviewSound | None
) -> str:
    """Return a media playlist; its end is told once nothing can follow."""

    def address(name: str, segment: PreviewSegment, **more: int) -> str:
        asked = {"frames": segment.frames, "skip": segment.skip, **more, "proxy": int(proxy), "sound": sound}
        return f"preview/{quote(name)}?{urlencode({key: value for key, value in asked.items() if value})}"

    longest = max(segment.frames / film.rate for segment in segments)
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{max(1, round(longest))}",
        f"#EXT-X-PLAYLIST-TYPE:{'VOD' if is_over else 'EVENT'}",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{address(f"init-{segments[0].chunk}.mp4", segments[0])}"',
    ]
    for segment in segments:
        lines += [
            f"#EXTINF:{float(segment.frames / film.rate):.6f},",
            address(f"{segment.chunk}.m4s", segment, at=segment.at),
        ]
    return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if is_over else []), ""])
