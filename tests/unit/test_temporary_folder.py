"""A folder for temporary files goes with its process, however that ends."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from longtake.temporary_folder import TemporaryFolder

PROGRAM = """
import sys
from longtake.temporary_folder import TemporaryFolder
folder = TemporaryFolder(sys.argv[1])
(folder.path / "file").write_text("text")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return secrets.token_hex(4)


def start(purpose: str) -> tuple["subprocess.Popen[str]", Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, purpose], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_it_is_ours_alone_and_is_removed_with_what_is_in_it(purpose: str) -> None:
    folder = TemporaryFolder(purpose)
    (folder.path / "below").mkdir()
    (folder.path / "below" / "file").write_text("text")

    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.close()
    folder.close()

    assert not folder.path.exists()


def test_a_block_gives_its_path_and_removes_it_after_an_error(purpose: str) -> None:
    folder = TemporaryFolder(purpose)

    with pytest.raises(ZeroDivisionError), folder as path:
        path.joinpath("file").write_text(str(1 / 0))

    assert path == folder.path
    assert not path.exists()


def test_it_goes_when_the_interpreter_ends(purpose: str) -> None:
    process, path = start(purpose)
    assert (path / "file").is_file()

    process.communicate("")

    assert not path.exists()


def test_the_next_one_removes_what_a_killed_process_has_left_and_nothing_of_living_ones(
    purpose: str, tmp_path: Path
) -> None:
    living, kept = start(purpose)
    killed, left = start(purpose)
    other = TemporaryFolder(f"{purpose}other")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (left / "file").is_file()

    folder = TemporaryFolder(purpose)

    assert not left.exists()
    assert (kept / "file").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {kept.name, folder.path.name, other.path.name}
    living.communicate("")


def test_a_link_in_its_place_is_not_followed(purpose: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("text")
    (tmp_path / f"longtake-{purpose}-link").symlink_to(victim)

    TemporaryFolder(purpose).close()

    assert (victim / "file").is_file()


def test_many_that_begin_at_once_each_have_one(purpose: str) -> None:
    made: list[TemporaryFolder] = []
    threads = [threading.Thread(target=lambda: made.append(TemporaryFolder(purpose))) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({os.stat(folder.path).st_ino for folder in made}) == 50
