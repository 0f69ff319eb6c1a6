"""What a player reads of the growing preview of a job."""

import re
from fractions import Fraction

import httpx
from support.farm import Farm

from longtake.web.app import create_app
from longtake.web.settings import WebSettings


def connected(farm: Farm) -> httpx.AsyncClient:
    app = create_app(farm.render, WebSettings(), task_queue=farm.task_queue)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost/api/v1/", follow_redirects=True, timeout=120
    )


class Playlist:
    """What a player reads of a media playlist, and the bytes that it plays."""

    def __init__(self, address: httpx.URL, text: str) -> None:
        self.address, self.text = address, text
        self.seconds = [Fraction(seconds) for seconds in re.findall(r"^#EXTINF:([\d.]+),$", text, re.MULTILINE)]
        self.segments = [line for line in text.splitlines() if line and not line.startswith("#")]
        self.maps = re.findall(r'^#EXT-X-MAP:URI="([^"]+)"$', text, re.MULTILINE)

    @property
    def has_ended(self) -> bool:
        return self.text.endswith("#EXT-X-ENDLIST\n")

    async def fetch(self, web: httpx.AsyncClient) -> bytes:
        parts = [await web.get(self.address.join(part)) for part in (*self.maps, *self.segments)]
        assert {(part.status_code, part.headers["content-type"]) for part in parts} == {(200, "video/mp4")}
        return b"".join(part.content for part in parts)


async def read_playlist(web: httpx.AsyncClient, job_id: str, **query: int) -> Playlist:
    answer = await web.get(f"jobs/{job_id}/preview.m3u8", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/vnd.apple.mpegurl"
    return Playlist(answer.url, answer.text)
