"""The pictures of a host hold up no chunk: neither a store that hangs, nor a file that is none."""

import logging
import subprocess
import threading
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import pytest
from support.jobs.images import png
from support.jobs.open_jobs import open_job

from activities.attempts.output_check import Proof
from activities.attempts.pictures import PictureWriter
from activities.media.images.facts import ImageFacts
from activities.stores.job_folder import OpenJob
from longtake.chunks import Chunk
from longtake.stores.directory import DirectoryStore

FRAMES = {"frames": {"count": 2, "per_chunk": 2}, "chunk_output": "f/{frame}.png"}


def proof(**fields: Any) -> Proof:
    return Proof(frames=2, images=ImageFacts(width=8, height=8, format="PNG"), **fields)


def sequence(folder: Path) -> list[Path]:
    files = [folder / f"{number}.png" for number in range(2)]
    for number, file in enumerate(files):
        file.write_bytes(png(number))
    return files


class HangingStore(DirectoryStore):
    """A folder whose share answers when it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.is_reached = threading.Event()
        self.answers = threading.Event()

    def replace(self, location: str, content: bytes) -> None:
        self.is_reached.set()
        self.answers.wait(60)
        super().replace(location, content)


def accepted(job: OpenJob) -> OpenJob:
    job.folder.store.replace(job.folder.job_file, b"{}")
    return job


def hanging_job(folder: Path, **fields: Any) -> tuple[OpenJob, HangingStore]:
    job, store = accepted(open_job(folder, **{**FRAMES, **fields})), HangingStore(folder)
    job.folder.store = store
    return job, store


def test_a_store_that_hangs_holds_nobody_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chunks = {"frames": {"count": 200, "per_chunk": 2}}
    (job, store), writer, files = hanging_job(tmp_path, **chunks), PictureWriter(), sequence(tmp_path)

    with caplog.at_level(logging.WARNING):
        for chunk in job.chunks:
            with writer.prepare(job, chunk, files, [proof()], tmp_path, 1e4) as pictures:
                pictures.submit()
    assert store.is_reached.wait(60)
    assert not writer.settle(0.01)
    store.answers.set()

    assert writer.settle(60)
    made = len(list((tmp_path / ".longtake/job/pictures").iterdir()))
    assert 64 <= made < 200
    assert [record for record in caplog.messages if "faster" in record] == caplog.messages != []


def test_a_job_that_was_deleted_meanwhile_is_left_alone(tmp_path: Path) -> None:
    job, writer, files = open_job(tmp_path, **FRAMES), PictureWriter(), sequence(tmp_path)

    with writer.prepare(job, job.chunks[0], files, [proof()], tmp_path, 1e4) as pictures:
        pictures.submit()

    assert writer.settle(60)
    assert not (tmp_path / ".longtake").exists()


def test_files_that_are_no_pictures_are_told_once_a_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job, writer, files = open_job(tmp_path, **FRAMES), PictureWriter(), sequence(tmp_path)
    files[0].write_bytes(b"no picture")
    files[1].unlink()
    files[1].symlink_to(files[0])

    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with writer.prepare(job, job.chunks[0], files, [proof()], tmp_path, 1e4) as pictures:
                pictures.submit()
        assert writer.settle(60)

    assert len(caplog.messages) == 1
    assert "no picture of" in caplog.messages[0]


def test_a_chunk_that_was_not_published_leaves_none(tmp_path: Path) -> None:
    job, writer, files = open_job(tmp_path, **FRAMES), PictureWriter(), sequence(tmp_path)

    with writer.prepare(job, job.chunks[0], files, [proof()], tmp_path, 1e4) as pictures:
        assert len(pictures.tasks) == 2

    assert not writer.is_busy
    assert pictures.tasks == []
    assert not (tmp_path / ".longtake").exists()


def test_the_output_of_the_film_is_shown_and_else_the_first_that_can_be_seen(tmp_path: Path) -> None:
    outputs = [{"path": "d/{chunk}.csv", "name": "data"}, {"path": "v/{chunk}.mp4", "name": "video"}]
    job = open_job(tmp_path, frames={"count": 2}, fps=25, outputs=outputs, command=("r", "{output.data}"))
    video = Proof(frames=2, first=av.VideoFrame(640, 360, "yuv420p"))
    data = Proof(frames=2)

    with PictureWriter().prepare(job, job.chunks[0], [tmp_path, tmp_path], [data, video], tmp_path, 1e4) as pictures:
        assert [Path(task.location).name for task in pictures.tasks] == ["000000-0.jpg"]


def test_texts_and_jobs_without_pictures_cost_nothing(tmp_path: Path) -> None:
    text = open_job(tmp_path, frames={"count": 2}, chunk_output="{chunk}.txt")
    none = open_job(tmp_path, **FRAMES, pictures="none")

    for job in (text, none):
        with PictureWriter().prepare(job, job.chunks[0], [], [], tmp_path, 1e4) as pictures:
            assert pictures.tasks == []


@pytest.mark.slow
def test_pictures_take_a_hundredth_of_the_time_of_renders(tmp_path: Path) -> None:
    chunks = {"frames": {"count": 1000, "per_chunk": 2}, "chunk_output": "f/{frame}.exr"}
    job, writer, files = accepted(open_job(tmp_path, **chunks)), PictureWriter(), [tmp_path / "a.exr"] * 2
    source = ("-f", "lavfi", "-i", "testsrc2=s=1920x1080,format=gbrpf32le", "-frames:v", "1")
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, str(files[0])], check=True)

    def leaves_pictures(chunk: Chunk, seconds: float) -> bool:
        with writer.prepare(job, chunk, files, [proof()], tmp_path, seconds) as pictures:
            found = bool(pictures.tasks)
            pictures.submit()
        assert writer.settle(120)
        return found

    # Those that are free.
    count = sum(leaves_pictures(chunk, 0.01) for chunk in job.chunks)
    assert 0 < count < 100
    assert not leaves_pictures(job.chunks[0], 0.01)
    assert leaves_pictures(job.chunks[0], 1000.0)
