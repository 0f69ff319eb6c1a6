"""Frames that are finished: told by their last byte, by rest, or by the next one."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.jobs.images import png
from support.jobs.open_jobs import open_job

from activities.attempts.finished_frames import FinishedFrameScanner, WholeFrameScanner
from activities.attempts.output_files import UndeclaredFiles


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


class Render:
    """A render of three frames that writes more than its outputs."""

    def __init__(self, base_dir: Path, files: type[UndeclaredFiles] = UndeclaredFiles) -> None:
        frames = {"first": 1, "count": 3, "per_chunk": 3}
        job = open_job(base_dir / "store", chunk_output="out/{frame}.png", frames=frames, also=["**"])
        self.place = base_dir / "place"
        (self.place / "out").mkdir(parents=True)
        outputs = {number: self.place / f"out/{number + 1}.png" for number in range(3)}
        self.undeclared = files(job, job.chunks[0])
        finished = FinishedFrameScanner(outputs)
        self.scan = WholeFrameScanner(finished, self.undeclared, self.place, set(outputs.values()), 1, 3)
        self._writes = 0

    def write(self, name: str, content: bytes) -> None:
        self._writes += 1
        path = self.place / "out" / name
        path.write_bytes(content)
        os.utime(path, ns=(self._writes, self._writes))

    def take(self, *, writer_is_done: bool = False) -> tuple[list[str], dict[str, str]]:
        """Return the names of the files that are finished, and those of others."""
        found, others = self.scan.take_finished(writer_is_done=writer_is_done)
        return [one.path.name for one in found], others


@pytest.fixture
def render(tmp_path: Path) -> Render:
    return Render(tmp_path)


def test_a_frame_is_finished_when_the_next_file_of_each_of_its_kinds_is_begun(render: Render) -> None:
    render.write("1.png", png(1))
    assert render.take() == ([], {})
    render.write("1.normal.png", png(1))
    assert render.take() == ([], {})
    render.write("1.json", b"{}")
    render.write("2.png", png(2))
    assert render.take() == ([], {})
    render.write("2.normal.png", png(2))
    render.write("2.json", b"{")

    names, others = render.take()
    assert names == ["1.png", "1.json", "1.normal.png"]
    assert others == {"out/2.json": "", "out/2.normal.png": ""}
    assert render.take() == ([], {})
    for name, content in (("3.png", png(3)), ("3.normal.png", png(3)), ("3.json", b"{}")):
        assert render.take()[0] == []
        render.write(name, content)
    assert render.take()[0] == ["2.png", "2.json", "2.normal.png"]
    assert render.take(writer_is_done=True) == (["3.png", "3.json", "3.normal.png"], {})


def test_pictures_beside_the_outputs_end_as_their_format_says(render: Render) -> None:
    for frame in (1, 2):
        render.write(f"{frame}.png", png(frame))
        render.write(f"normal.{frame}.png", png(frame)[: -1 if frame == 2 else None])

    assert render.take()[0] == ["1.png", "normal.1.png"]
    assert not render.scan.is_complete()
    render.write("normal.2.png", png(2))
    assert render.take()[0] == ["2.png", "normal.2.png"]
    render.write("3.png", png(3))
    render.write("normal.3.png", png(3))
    assert render.scan.is_complete()
    render.write("scene.json", b"{}")
    assert not render.scan.is_complete()


def test_a_frame_that_lacks_a_kind_of_file_is_not_finished(render: Render) -> None:
    render.write("1.png", png(1))
    render.write("2.png", png(2))
    render.write("normal.2.png", png(2))
    render.write("2.json.tmp", b"{")
    render.write("3.png", png(3))

    assert render.take() == (["2.png", "normal.2.png"], {})


def test_empty_files_count_when_the_renderer_has_ended_well(render: Render) -> None:
    for frame in (1, 2):
        render.write(f"{frame}.png", png(frame))
        render.write(f"{frame}.done", b"")

    assert render.take() == ([], {})
    assert render.take(writer_is_done=True)[0] == ["1.png", "1.done", "2.png", "2.done"]


def test_files_of_no_frame_are_told_with_their_digests_when_they_change(render: Render) -> None:
    render.write("scene.json", b"1")
    render.write("1.png", png(1))
    render.write("2.png", png(2))
    names, others = render.take()
    assert names == ["1.png"]
    assert others.keys() == {"out/scene.json"}
    render.write("3.png", png(3))
    assert render.take() == (["2.png"], {})
    render.write("scene.json", b"2")

    assert render.take(writer_is_done=True)[1].keys() == {"out/scene.json"}


class LateFiles(UndeclaredFiles):
    """Has the first file written to its end when the second one is looked at."""

    write: Callable[[], object] | None = None

    def find_frame(self, name: str) -> tuple[int | None, str]:
        if self.write is not None and name == "out/normal.2.png":
            self.write()
            self.write = None
        return super().find_frame(name)


def test_a_file_that_is_written_to_its_end_during_a_look_is_left_to_the_next_one(tmp_path: Path) -> None:
    render = Render(tmp_path, LateFiles)
    for frame in (1, 2):
        render.write(f"{frame}.png", png(frame))
        render.write(f"normal.{frame}.png", png(frame)[:-1])
    assert isinstance(render.undeclared, LateFiles)
    render.undeclared.write = lambda: render.write("normal.1.png", png(1))

    assert render.take()[0] == []
    assert render.take()[0] == ["1.png", "normal.1.png"]
