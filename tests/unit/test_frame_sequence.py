"""Frames that are finished: told by their last byte, by rest, or by the next one; and kept when a stop comes."""

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.jobs.images import png
from support.remote.scripted_agent import Watcher

from activities.attempts.frame_sequence import FinishedFrameScanner, SequenceRender
from activities.backends.backend import RenderTask, RenderWatcher
from activities.processes.render_process import Usage
from activities.stores.job_folder import JobFolder
from activities.stores.kept_frames import KeptFrames
from longtake.chunks import Chunk
from longtake.models.outputs import OutputTemplate
from longtake.models.policies import Timeouts
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_records import chunk_key


def test_a_png_counts_only_when_its_last_byte_is_there(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    looks = FinishedFrameScanner({0: path})
    whole = png(0)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert looks.take_finished(writer_is_done=True) == []
    assert not looks.is_complete()

    path.write_bytes(whole)

    assert looks.is_complete()
    assert [found.path for found in looks.take_finished()] == [path]
    assert looks.take_finished() == []


def test_a_picture_of_another_format_than_its_name_says_never_counts(tmp_path: Path) -> None:
    path = tmp_path / "0.exr"
    path.write_bytes(png(0))

    assert FinishedFrameScanner({0: path}).take_finished(writer_is_done=True) == []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [0.0]

    def forward(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return forward


def test_a_picture_without_an_end_mark_counts_when_it_rests(
    tmp_path: Path, ffmpeg: str, clock: Callable[[float], None]
) -> None:
    path = tmp_path / "0.bmp"
    picture = [ffmpeg, "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=16x16", "-frames:v", "1"]
    subprocess.run([*picture, str(path)], check=True)
    looks = FinishedFrameScanner({0: path})

    assert not looks.is_complete()
    clock(1.9)
    os.utime(path)
    assert not looks.is_complete()
    clock(1.9)
    assert not looks.is_complete()
    clock(0.2)
    assert looks.is_complete()


def test_a_file_of_an_unknown_kind_counts_only_when_the_next_one_is_begun(
    tmp_path: Path, clock: Callable[[float], None]
) -> None:
    files = {number: tmp_path / f"{number}.raw" for number in range(3)}
    looks = FinishedFrameScanner(files)
    for number in (0, 1):
        files[number].write_bytes(b"lines")
        os.utime(files[number], ns=(number, number + 1))

    assert [found.frame for found in looks.take_finished()] == [0]
    clock(60)
    assert looks.take_finished() == []
    assert [found.frame for found in looks.take_finished(writer_is_done=True)] == [1]


class StoppedStore(DirectoryStore):
    """Has the render stopped while it makes its first record."""

    stop: Callable[[], object] | None = None

    def create(self, location: str, content: bytes) -> bool:
        if self.stop is not None:
            self.stop()
            self.stop = None
        return super().create(location, content)


class TwoFrames:
    """Renders both frames, and does not end by itself."""

    async def render(self, task: RenderTask, watcher: RenderWatcher) -> Usage:
        for frame in range(2):
            (task.cwd / f"{frame}.png").write_bytes(png(frame))
        await asyncio.Event().wait()
        raise AssertionError("it is stopped")


async def test_frames_that_are_finished_as_a_stop_comes_are_kept(tmp_path: Path) -> None:
    store = StoppedStore(tmp_path)
    folder = JobFolder(store, "job")
    key = chunk_key(0)
    place = Path(folder.attempt_dir(key, "a-1"))
    kept = KeptFrames(folder, key)

    def task(part: Chunk, place: Path, finished: FinishedFrameScanner) -> RenderTask:
        return RenderTask(("render",), place, {}, {}, place / "log", Timeouts())

    chunk = Chunk(0, range(2), (OutputTemplate("chunk_output", "{frame}.png"),), ("render",))
    render = SequenceRender(TwoFrames(), chunk, place, [Path("0.png"), Path("1.png")], kept, task)
    working = asyncio.ensure_future(render.render(Watcher()))
    loop = asyncio.get_running_loop()
    stopped = threading.Event()

    def cancel() -> None:
        working.cancel()
        stopped.set()

    def stop() -> None:
        loop.call_soon_threadsafe(cancel)
        assert stopped.wait(30)

    store.stop = stop
    await asyncio.wait({working}, timeout=60)
    assert working.cancelled()
    await asyncio.to_thread(render.keep)

    assert sorted(kept.verified_files()) == [0, 1]
