"""The page of a report: nothing of anybody else is loaded or run, whatever names, logs and errors hold."""

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

from activities.stores.job_folder import JobFolder, Sidecar, encode_job, encode_record
from longtake.models.frames import FrameRange
from longtake.models.job import RenderJobSpec
from longtake.models.status import JobMetrics, JobState, JobStatus
from longtake.report.job_report import GatheredReport, gather_report
from longtake.report.page import content_security_policy, write_page
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_layout import chunk_key
from longtake.stores.publications import PublishedFile
from longtake.stores.try_records import FailedTry, write_try

START = datetime(2026, 11, 28, 20, 1, tzinfo=UTC)
EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">\'"&\x1b[2J'
JPEG = b"\xff\xd8\xff\xe0picture"


def gather(tmp_path: Path, *, chunks: int = 6, status: JobStatus | None = None, evil: str = "") -> GatheredReport:
    """Return the report of a job whose names, logs and errors hold what others have written."""
    spec = RenderJobSpec(
        name=f"turntable{evil}".replace("\x1b", ""),
        frames=FrameRange(first=1001, count=10 * chunks, per_chunk=10),
        command=("blender", f"scene{evil}.blend".replace("\x1b", ""), "{output}"),
        chunk_output="c/{chunk}.mp4",
        fps=24,
    )
    folder = JobFolder(DirectoryStore(tmp_path), "job")
    folder.store.create(folder.job_file, encode_job(spec))
    for chunk in range(chunks - 1):
        file = PublishedFile(
            path=f"{tmp_path}/c/{chunk}{evil}.mp4", size_bytes=5, sha256=f"{chunk:064x}", attempt_path="x"
        )
        done = Sidecar(
            key=chunk_key(chunk),
            digest="d",
            attempt="a",
            host=f"rdr-{chunk % 3}{evil}",
            files=(file,),
            render_seconds=60 + chunk,
            cpu_seconds=100,
            peak_memory_bytes=1 << 30,
            published_at=START + timedelta(minutes=1 + chunk),
            log=folder.log_path(chunk_key(chunk), "a"),
        )
        folder.store.create(folder.sidecar_path(done.key), encode_record(done))
    folder.store.create(f"{folder.pictures_dir}/000000-1001.jpg", JPEG)
    folder.store.create(f"{folder.pictures_dir}/000001-1011.jpg", b"<svg onload=alert(3)>")
    error = f"blender exited with code 1: Error: no camera {evil} | Blender quit"
    ended = START + timedelta(minutes=3)
    write_try(folder, FailedTry(chunk=chunks - 1, attempt="b", host="rdr-9", began=START, ended=ended, error=error))
    return gather_report(folder, status, now=START + timedelta(hours=1))


class Elements(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_what_others_have_written_is_shown_and_never_run(tmp_path: Path) -> None:
    page = write_page(gather(tmp_path, evil=EVIL, status=JobStatus(id="job", error=EVIL, state=JobState.FAILED)))

    elements = Elements(page).found
    assert {tag for tag, _ in elements} & {"script", "iframe", "object", "embed", "link", "form", "a"} == set()
    assert [name for _, values in elements for name in values if name.startswith("on") or name == "style"] == []
    assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page


def test_a_page_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    page = write_page(gather(tmp_path))

    loaded = [
        value
        for _, values in Elements(page).found
        for name, value in values.items()
        if name in ("src", "href", "xlink:href", "srcset", "poster", "data")
    ]
    assert loaded
    assert all((value or "").startswith("data:image/") for value in loaded)
    style = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert len(style) == 1
    assert "url(" not in style[0]
    assert "@import" not in style[0]
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in content_security_policy()
    (policy,) = [values["content"] for tag, values in Elements(page).found if values.get("http-equiv")]
    assert policy == content_security_policy()


def test_pictures_are_in_the_page_and_what_is_none_is_not(tmp_path: Path) -> None:
    gathered = gather(tmp_path)
    page = write_page(gathered)

    assert [picture.frame for picture in gathered.report.pictures] == [1001]
    assert f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}" in page
    assert "onload" not in page


def test_a_job_without_a_finished_chunk_has_a_report(tmp_path: Path) -> None:
    page = write_page(gather(tmp_path, chunks=1))

    assert "0 of 10 frames" in page
    assert "Error: no camera" in page


def test_what_temporal_knows_alone_is_told_where_it_knows_the_job(tmp_path: Path) -> None:
    metrics = JobMetrics(billed_seconds=7200, cost_usd=12.5)
    told = write_page(gather(tmp_path / "told", status=JobStatus(id="a/b", state=JobState.COMPLETED, metrics=metrics)))
    forgotten = write_page(gather(tmp_path / "forgotten"))

    assert "12.50 USD" in told
    assert "a/b" in told
    assert "not known to Temporal" in forgotten
    assert "USD" not in forgotten
