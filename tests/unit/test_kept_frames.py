"""Frames of unfinished chunks: kept while they are whole, set aside when they are not, and never taken on trust."""

import errno
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.jobs.images import Damage, damage, png
from support.jobs.open_jobs import open_job

from activities.attempts.finished_frames import FinishedFrameScanner
from activities.stores.job_folder import JobFolder, Sidecar
from activities.stores.kept_frames import FrameNumbers, KeptFrames
from activities.stores.publish import finish_claim, publish, revoke, stage_files
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_layout import chunk_key

KEY = chunk_key(3)
FRAMES = 8


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return job_folder(tmp_path)


def job_folder(base_dir: Path) -> JobFolder:
    folder = JobFolder(DirectoryStore(base_dir), "job")
    for name in ("chunks", "claims"):
        (Path(folder.path) / name).mkdir(parents=True)
    return folder


def rendered(folder: JobFolder, frames: Iterable[int], attempt: str = "a-1", size: int = 8) -> Path:
    """Write whole frames into the place of an attempt; return it."""
    place = Path(folder.attempt_dir(KEY, attempt))
    place.mkdir(parents=True, exist_ok=True)
    for frame in frames:
        (place / f"{frame}.png").write_bytes(png(frame, size=size))
    return place


def keep(folder: JobFolder, frames: Iterable[int], attempt: str = "a-1", size: int = 8) -> KeptFrames:
    place = rendered(folder, frames, attempt, size)
    kept = KeptFrames(folder, KEY)
    kept.keep(attempt, FinishedFrameScanner({frame: place / f"{frame}.png" for frame in range(FRAMES)}).take_finished())
    return kept


def aside(folder: JobFolder) -> list[bytes]:
    place = Path(folder.path) / "aside"
    return sorted(path.read_bytes() for path in place.iterdir()) if place.exists() else []


def states(paths: Iterable[Path]) -> dict[Path, tuple[bytes, int, int]]:
    return {path: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


@settings(max_examples=40)
@given(
    kept_frames=st.sets(st.integers(0, FRAMES - 1)),
    ways=st.dictionaries(st.integers(0, FRAMES - 1), st.sampled_from(Damage)),
    strangers=st.sets(st.integers(0, FRAMES - 1)),
)
def test_exactly_what_is_damaged_is_rendered_again(
    kept_frames: set[int], ways: dict[int, Damage], strangers: set[int]
) -> None:
    with TemporaryDirectory() as base:
        folder = job_folder(Path(base))
        kept = keep(folder, kept_frames)
        # The attempt's own files are gone with it.
        shutil.rmtree(folder.attempts_dir(KEY))
        files = kept.verified_files().files
        assert files.keys() == kept_frames
        bad = [damage(files[frame], how) for frame, how in ways.items() if frame in files]
        sound = {frame for frame in kept_frames if frame not in ways}
        before = states(files[frame] for frame in sound)
        for frame in strangers:
            Path(kept.path).mkdir(parents=True, exist_ok=True)
            (Path(kept.path) / f"{frame:06}.png").write_bytes(png(frame))

        again = kept.verified_files().files

        assert again.keys() == sound
        assert states(again.values()) == before
        assert aside(folder) == sorted(bad + [png(frame) for frame in strangers])
        assert kept.verified_files().files == again


def test_frames_are_links_until_the_attempts_files_are_gone(folder: JobFolder) -> None:
    kept = keep(folder, range(FRAMES))

    for frame, path in kept.verified_files().files.items():
        assert path.samefile(Path(folder.attempt_dir(KEY, "a-1")) / f"{frame}.png")


def test_frames_are_copied_where_no_link_can_be_had(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def refusing(source: Path, target: Path) -> None:
        if str(target).endswith(".png"):
            raise OSError(errno.EPERM, "no links here")
        link(source, target)

    monkeypatch.setattr(os, "link", refusing)
    files = keep(folder, range(FRAMES)).verified_files().files

    assert {frame: path.read_bytes() for frame, path in files.items()} == {n: png(n) for n in range(FRAMES)}


def test_a_crash_between_the_record_and_the_files_leaves_nothing_unknown(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, left = os.link, [4]

    def dying(source: Path, target: Path) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        link(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", dying)
        with pytest.raises(KeyboardInterrupt):
            keep(folder, range(FRAMES))

    assert KeptFrames(folder, KEY).verified_files().files.keys() == {0, 1, 2}
    assert aside(folder) == []
    assert keep(folder, range(FRAMES), "a-2").verified_files().files.keys() == set(range(FRAMES))


@pytest.mark.parametrize("content", [b"", b"{", b'{"frames": [{"frame": 0, "file": "../../../etc/passwd"}]}'])
def test_a_record_that_cannot_be_read_is_none(folder: JobFolder, content: bytes) -> None:
    kept = keep(folder, {0, 1})
    (record,) = Path(kept.path).glob("*.json")
    record.write_bytes(content)

    assert kept.verified_files().files == {}
    assert aside(folder) == sorted([content, png(0), png(1)])


def test_a_frame_of_another_size_than_most_is_set_aside(folder: JobFolder) -> None:
    keep(folder, {0, 1}, "a-1", size=9)
    kept = keep(folder, {2, 3, 4}, "a-2")

    assert kept.verified_files().files.keys() == {2, 3, 4}
    assert aside(folder) == [png(0, size=9), png(1, size=9)]


def test_of_two_files_of_a_frame_a_whole_one_is_taken(folder: JobFolder) -> None:
    first = keep(folder, {5}).verified_files().files[5]
    kept = keep(folder, {5}, "a-2")
    damage(first, Damage.TRUNCATED)

    assert kept.verified_files().files[5].read_bytes() == png(5)


def test_attempts_that_keep_at_the_same_time_do_not_disturb_each_other(folder: JobFolder) -> None:
    barrier = threading.Barrier(4)

    def work(attempt: str) -> None:
        barrier.wait()
        for frame in range(FRAMES):
            keep(folder, {frame}, attempt).verified_files()

    threads = [threading.Thread(target=work, args=(f"a-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert KeptFrames(folder, KEY).verified_files().files.keys() == set(range(FRAMES))
    assert aside(folder) == []


def test_a_frame_that_is_written_to_while_it_is_looked_at_is_not_kept(folder: JobFolder) -> None:
    place = rendered(folder, {0, 1})
    found = FinishedFrameScanner({frame: place / f"{frame}.png" for frame in (0, 1)}).take_finished()
    (place / "1.png").write_bytes(png(1) + b"more")
    kept = KeptFrames(folder, KEY)
    kept.keep("a-1", found)

    assert kept.verified_files().files.keys() == {0}


def published(folder: JobFolder) -> Sidecar:
    place = rendered(folder, range(FRAMES))
    made = [place / f"{frame}.png" for frame in range(FRAMES)]
    targets = [folder.store.locate(f"out/{path.name}") for path in made]
    files = stage_files(folder, made, str(place), targets)
    return publish(folder, Sidecar(key=KEY, digest="d", attempt="a-1", frames=FRAMES, files=files, width=8, height=8))


def test_publishing_ends_the_keeping(folder: JobFolder) -> None:
    keep(folder, range(FRAMES))
    published(folder)

    assert not Path(folder.frames_dir(KEY)).exists()
    keep(folder, {0}, "late")
    assert finish_claim(folder, KEY) is not None
    assert not Path(folder.frames_dir(KEY)).exists()


@settings(max_examples=40)
@given(ways=st.dictionaries(st.integers(0, FRAMES - 1), st.sampled_from([*Damage, None]), min_size=1))
def test_of_a_damaged_chunk_the_sound_frames_are_kept(ways: dict[int, Damage | None]) -> None:
    with TemporaryDirectory() as base:
        folder = job_folder(Path(base))
        published(folder)
        for frame, how in ways.items():
            path = Path(folder.store.url) / "out" / f"{frame}.png"
            if how is None:
                path.unlink()
            else:
                damage(path, how)

        revoke(folder, KEY)

        files = KeptFrames(folder, KEY).verified_files().files
        assert files.keys() == set(range(FRAMES)) - ways.keys()
        assert all(path.read_bytes() == png(frame) for frame, path in files.items())
        assert folder.sidecar(KEY) is None
        assert list((Path(folder.store.url) / "out").iterdir()) == []


def test_a_film_or_video_that_is_taken_back_keeps_no_frames(folder: JobFolder) -> None:
    place = rendered(folder, {0})
    files = stage_files(folder, [place / "0.png"], str(place), [folder.store.locate("film.mp4")])
    publish(folder, Sidecar(key="film", digest="d", attempt="a-1", frames=1, files=files, width=8, height=8))

    revoke(folder, "film")

    assert not Path(folder.frames_dir("film")).exists()
    assert aside(folder) != []


@pytest.mark.parametrize(
    ("first", "output", "name", "frame", "kind"),
    [
        (1, "out/f_{frame:04}.exr", "out/f_0004.normal.exr", 4, "out/f_#.normal.exr"),
        (1, "out/f_{frame:04}.exr", "out/meta/4.json", 4, "out/meta/#.json"),
        # Numbers of other things: a version, a layer, a codec, the shot.
        (1, "out/f_{frame:04}.exr", "out/v2/f_0004_v003.txt", 4, "out/v2/f_#_v003.txt"),
        (1, "out/f_{frame:04}.exr", "out/v2/2.txt", 2, "out/v2/#.txt"),
        (1, "out/f_{frame:04}.exr", "out/crypto_01.0003.exr", 3, "out/crypto_01.#.exr"),
        (1, "out/f_{frame:04}.exr", "out/take.mp4", None, "out/take.mp4"),
        (1, "shot_3/f_{frame:04}.exr", "shot_3/scene.json", None, "shot_3/scene.json"),
        # Folders of frames.
        (101, "out/{frame:04}/b.exr", "out/0104/normal.exr", 104, "out/#/normal.exr"),
        (101, "out/{frame:04}/b.exr", "out/0101/normal.exr", 101, "out/#/normal.exr"),
        (101, "out/f_{frame:04}.exr", "out/0104/normal.0104", 104, "out/#/normal.#"),
        (101, "{start:04}/f_{frame:04}.exr", "0101/f_0103.json", 103, "0101/f_#.json"),
        # Of two frames, of none, of another chunk.
        (1, "out/f_{frame:04}.exr", "out/blur_0003_0004.exr", None, "out/blur_0003_0004.exr"),
        (1, "out/f_{frame:04}.exr", "out/stats.json", None, "out/stats.json"),
        (1, "out/f_{frame:04}.exr", "out/f_0007.json", None, "out/f_0007.json"),
        # Below 0, and a dash that is none.
        (-3, "out/f_{frame:04}.exr", "out/f_-002.json", -2, "out/f_#.json"),
        (-3, "out/f_{frame:04}.exr", "out/f-0002.json", 2, "out/f-#.json"),
    ],
)
def test_the_frame_of_a_file_is_told_by_the_number_in_its_name(
    tmp_path: Path, first: int, output: str, name: str, frame: int | None, kind: str
) -> None:
    job = open_job(tmp_path, chunk_output=output, frames={"first": first, "count": 6, "per_chunk": 6}, also=["**"])

    found = FrameNumbers(job, job.chunks[0]).find_frame(name)

    assert found == (None if frame is None else frame - first, kind)


def test_a_chunk_that_is_rendered_as_a_whole_keeps_nothing(folder: JobFolder) -> None:
    kept = keep(folder, range(FRAMES))
    kept.forbid("a-2")

    found = kept.verified_files()

    assert (found.files, found.is_divisible) == ({}, False)
