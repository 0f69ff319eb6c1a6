"""Publishing: the first verified result wins for ever, a crash at any step costs nothing, attempts never mix."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from activities.failures import AttemptError
from activities.stores.files import link_new, write_new
from activities.stores.job_folder import JobFolder, chunk_key
from activities.stores.publish import finish_claim, is_intact, publish, published_file, revoke
from activities.stores.records import Sidecar

KEY = chunk_key(7)
FRAMES = 20


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path, "job")
    for name in ("chunks", "claims", "attempts", "logs"):
        (folder.path / name).mkdir(parents=True)
    return folder


def made(folder: JobFolder, attempt: str) -> Sidecar:
    """Return the claim of an attempt that made twenty files with its own name in each."""
    place = folder.attempt_dir(KEY, attempt)
    place.mkdir(parents=True, exist_ok=True)
    outputs = []
    for frame in range(FRAMES):
        path = place / f"{frame}.png"
        path.write_text(attempt * (frame + 1))
        outputs.append(published_file(path, folder.base_dir / "frames" / f"{frame}.png"))
    return Sidecar(key=KEY, digest="d", attempt=attempt, frames=FRAMES, files=tuple(outputs))


def makers(folder: JobFolder) -> set[str]:
    """Return whose work the published files are."""
    return {path.read_text()[:1] for path in (folder.base_dir / "frames").iterdir()}


def test_the_first_result_wins_and_the_second_takes_it_over(folder: JobFolder) -> None:
    first, second = made(folder, "a"), made(folder, "b")

    assert publish(folder, first).attempt == "a"
    before = folder.sidecar_path(KEY).read_bytes()
    assert publish(folder, second).attempt == "a"

    assert makers(folder) == {"a"}
    assert folder.sidecar_path(KEY).read_bytes() == before


def test_attempts_that_publish_at_the_same_moment_never_mix(folder: JobFolder) -> None:
    for number in range(20):
        attempts = [made(folder, name) for name in "abcd"]
        barrier = threading.Barrier(4)
        stood: list[str] = []

        def race(sidecar: Sidecar, barrier: threading.Barrier = barrier, stood: list[str] = stood) -> None:
            barrier.wait()
            stood.append(publish(folder, sidecar).attempt)

        threads = [threading.Thread(target=race, args=(attempt,)) for attempt in attempts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(stood) == 4, f"round {number}"
        assert set(stood) == makers(folder)
        revoke(folder, KEY)


class Crash(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("links_before_crash", range(FRAMES + 2))
def test_whoever_comes_next_finishes_what_a_dead_winner_began(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch, links_before_crash: int
) -> None:
    winner = made(folder, "a")
    left = [links_before_crash]

    def dying(operation: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
        def link(source: Path, target: Path) -> None:
            if not left[0]:
                raise Crash
            left[0] -= 1
            operation(source, target)

        return link

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", dying(os.link))
        with pytest.raises(Crash):
            publish(folder, winner)
    assert folder.sidecar(KEY) is None

    standing = publish(folder, made(folder, "b"))

    # Before the claim was written nobody had won; after it the dead attempt has.
    assert standing.attempt == ("b" if links_before_crash == 0 else "a")
    assert makers(folder) == {standing.attempt}
    assert finish_claim(folder, KEY) == standing


def test_a_file_that_is_not_ours_is_never_overwritten(folder: JobFolder) -> None:
    foreign = folder.base_dir / "frames" / "3.png"
    foreign.parent.mkdir()
    foreign.write_text("somebody's work")

    with pytest.raises(AttemptError, match="stands where this job must publish and is not its own") as refused:
        publish(folder, made(folder, "a"))

    assert refused.value.fatal
    assert foreign.read_text() == "somebody's work"
    assert folder.sidecar(KEY) is None


def test_a_claim_whose_files_are_gone_is_no_claim(folder: JobFolder) -> None:
    winner = made(folder, "a")
    write_new(folder.claim_path(KEY), winner.model_dump_json().encode())
    for file in winner.files:
        Path(file.attempt_path).unlink()

    assert finish_claim(folder, KEY) is None
    assert publish(folder, made(folder, "b")).attempt == "b"


def test_damaged_outputs_are_noticed_and_taken_back(folder: JobFolder) -> None:
    sidecar = publish(folder, made(folder, "a"))
    assert is_intact(sidecar)
    Path(sidecar.files[4].path).write_text("cut")
    assert not is_intact(sidecar)

    revoke(folder, KEY)

    assert folder.sidecar(KEY) is None
    assert publish(folder, made(folder, "b")).attempt == "b"
    assert makers(folder) == {"b"}


def test_a_store_on_another_file_system_gets_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "made", tmp_path / "far" / "film.mp4"
    source.write_text("film")
    link = os.link

    def across(one: Path, other: Path) -> None:
        if Path(one).parent != Path(other).parent:
            raise OSError(errno.EXDEV, "another file system")
        link(one, other)

    monkeypatch.setattr(os, "link", across)

    assert link_new(source, target)
    assert not link_new(source, target)
    assert [path.name for path in target.parent.iterdir()] == ["film.mp4"]
