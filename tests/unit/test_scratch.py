"""What killed workers leave on a host goes in time, and what may be in use stays."""

import os
from pathlib import Path

import pytest

from activities.stores.scratch import clear_scratch, open_scratch
from longtake.errors import LongtakeError


def written(path: Path, seconds_ago: float, now: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("frame")
    for each in (path, path.parent):
        os.utime(each, (now - seconds_ago,) * 2)
    return path


@pytest.mark.parametrize("kind", ["attempts/000001/a-1/0.png", "frames/000001/0.png", "logs/000001.a-1.log"])
def test_old_leftovers_are_removed_and_young_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("time.time", lambda: 1e9)
    job = tmp_path / "bucket" / "shows" / ".longtake"
    old, young = written(job / "old" / kind, 100, 1e9), written(job / "young" / kind, 10, 1e9)

    assert clear_scratch(tmp_path, older_than_seconds=50) == 1
    assert not old.exists()
    assert young.exists()


def test_a_folder_in_which_one_file_is_young_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1e9)
    place = tmp_path / "bucket" / ".longtake" / "job" / "attempts" / "000001" / "a-1"
    old = written(place / "0-10" / "0.png", 100, 1e9)
    written(place / "0-10" / "1.png", 1, 1e9)

    assert clear_scratch(tmp_path, older_than_seconds=50) == 0
    assert old.exists()


def test_fetched_inputs_are_the_caches_own_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1e9)
    kept = written(tmp_path / "inputs" / "content" / "abc", 1e6, 1e9)

    assert clear_scratch(tmp_path, older_than_seconds=50) == 0
    assert kept.exists()


def test_no_scratch_is_nothing_to_clear(tmp_path: Path) -> None:
    assert clear_scratch(tmp_path / "none") == 0


def test_the_scratch_folder_is_for_one_account_alone(tmp_path: Path) -> None:
    scratch = open_scratch(tmp_path / "new" / "scratch")
    assert scratch.stat().st_mode & 0o777 == 0o700

    scratch.chmod(0o755)
    assert open_scratch(scratch).stat().st_mode & 0o777 == 0o700


def _planted(path: Path, kind: str) -> None:
    if kind == "link":
        path.with_name("elsewhere").mkdir()
        path.symlink_to(path.with_name("elsewhere"))
    elif kind == "file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o777 if kind == "world" else 0o770)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("link", "is a symbolic link"),
        ("file", "is no folder"),
        ("world", "has the mode 0777, so that others may write to it"),
        ("group", "has the mode 0770, so that others may write to it"),
    ],
)
def test_a_scratch_folder_that_somebody_else_made_is_refused(tmp_path: Path, kind: str, problem: str) -> None:
    _planted(tmp_path / "scratch", kind)

    with pytest.raises(LongtakeError, match=f"^LONGTAKE_SCRATCH: .* {problem}; remove it, or name a folder"):
        open_scratch(tmp_path / "scratch")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another account")
def test_a_scratch_folder_of_another_account_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    os.chown(tmp_path / "scratch", 12345, 12345)

    with pytest.raises(LongtakeError, match="belongs to the account 12345, and not to 0; remove it"):
        open_scratch(tmp_path / "scratch")
