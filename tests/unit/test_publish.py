"""Publishing: the first verified result wins for ever, a crash at any step costs nothing, attempts never mix."""

import errno
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from activities.errors import AttemptError, AttemptLostError
from activities.stores.job_folder import JobFolder, Sidecar
from activities.stores.publish import discard_attempt, finish_claim, is_intact, publish, revoke, stage_files
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_layout import chunk_key
from longtake.stores.store import LARGEST_RECORD_BYTES

KEY = chunk_key(7)
FRAMES = 20


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    folder = JobFolder(DirectoryStore(tmp_path), "job")
    for name in ("chunks", "claims", "attempts", "logs"):
        (Path(folder.path) / name).mkdir(parents=True)
    return folder


def made(folder: JobFolder, attempt: str) -> Sidecar:
    """Return the claim of an attempt that made twenty files with its own name in each."""
    place = Path(folder.attempt_dir(KEY, attempt))
    place.mkdir(parents=True, exist_ok=True)
    outputs = [place / f"{frame}.png" for frame in range(FRAMES)]
    for frame, path in enumerate(outputs):
        path.write_text(attempt * (frame + 1))
    targets = [folder.store.locate(f"frames/{path.name}") for path in outputs]
    files = stage_files(folder, outputs, str(place), targets)
    return Sidecar(key=KEY, digest="d", attempt=attempt, frames=FRAMES, files=files)


def makers(folder: JobFolder) -> set[str]:
    """Return whose work the published files are."""
    return {path.read_text()[:1] for path in (Path(folder.store.url) / "frames").iterdir()}


def test_the_first_result_wins_and_the_second_takes_it_over(folder: JobFolder) -> None:
    first, second = made(folder, "a"), made(folder, "b")

    assert publish(folder, first).attempt == "a"
    before = Path(folder.sidecar_path(KEY)).read_bytes()
    assert publish(folder, second).attempt == "a"

    assert makers(folder) == {"a"}
    assert Path(folder.sidecar_path(KEY)).read_bytes() == before


DAMAGED = {
    "cut": b'{"key": "000007", "fil',
    "emptied": b"",
    "of somebody else": b'{"mood": "blue"}',
    "no text": b"\xff\x00",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("record", ["sidecar", "claim"])
def test_a_record_that_cannot_be_read_is_set_aside_and_its_chunk_is_rendered_again(
    folder: JobFolder, record: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    publish(folder, made(folder, "a"))
    damaged = Path(folder.sidecar_path(KEY) if record == "sidecar" else folder.claim_path(KEY))
    damaged.write_bytes(content)
    if record == "claim":
        # Killed before it had committed.
        Path(folder.sidecar_path(KEY)).unlink()

    assert folder.sidecar(KEY) is None
    standing = publish(folder, made(folder, "b"))

    # Of the winner that is still known, where that is so.
    assert standing.attempt == ("a" if record == "sidecar" else "b")
    assert makers(folder) == {standing.attempt}
    aside = [path for path in Path(folder.aside_dir).iterdir() if ".json." in path.name]
    assert [path.read_bytes() for path in aside] == [content]
    assert f"the record {damaged} cannot be read (" in caplog.text
    assert f"moved to {aside[0]}" in caplog.text


def test_a_record_that_is_far_too_long_is_set_aside_unread(folder: JobFolder) -> None:
    publish(folder, made(folder, "a"))
    with open(folder.sidecar_path(KEY), "r+b") as file:
        file.truncate(LARGEST_RECORD_BYTES + 1)

    assert folder.sidecar(KEY) is None
    assert publish(folder, made(folder, "b")).attempt == "a"


def test_a_record_that_was_mended_meanwhile_stays(folder: JobFolder) -> None:
    """Two workers find it damaged; the slower one must not take away what the quicker one has written since."""
    publish(folder, made(folder, "a"))
    good = Path(folder.sidecar_path(KEY)).read_bytes()

    class Mending(DirectoryStore):
        """A store in which another worker writes the record between a look at it and its move."""

        def move(self, source: str, target: str) -> bool:
            if source == folder.sidecar_path(KEY):
                Path(source).write_bytes(good)
            return super().move(source, target)

    Path(folder.sidecar_path(KEY)).write_bytes(b"{")
    standing = JobFolder(Mending(Path(folder.store.url)), "job").sidecar(KEY)

    assert standing is not None
    assert standing.attempt == "a"
    assert Path(folder.sidecar_path(KEY)).read_bytes() == good


def test_attempts_that_publish_at_the_same_moment_never_mix(folder: JobFolder) -> None:
    for number in range(8):
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


class Steps:
    """Lets a number of operations pass; the process dies at the next one."""

    def __init__(self, left: int) -> None:
        self._left = left

    def dying(self, operation: Callable[..., object]) -> Callable[..., object]:
        def step(*given: Any, **named: Any) -> object:
            if not self._left:
                raise Crash
            self._left -= 1
            return operation(*given, **named)

        return step


@pytest.mark.parametrize("links_before_crash", range(FRAMES + 2))
def test_whoever_comes_next_finishes_what_a_dead_winner_began(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch, links_before_crash: int
) -> None:
    winner = made(folder, "a")
    steps = Steps(links_before_crash)

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", steps.dying(os.link))
        with pytest.raises(Crash):
            publish(folder, winner)
    assert folder.sidecar(KEY) is None

    standing = publish(folder, made(folder, "b"))

    # Before the claim was written nobody had won; after it the dead attempt has.
    assert standing.attempt == ("b" if links_before_crash == 0 else "a")
    assert makers(folder) == {standing.attempt}
    assert finish_claim(folder, KEY) == standing


def bad_files(folder: JobFolder, winner: Sidecar) -> dict[str, bytes]:
    """Put a file of each bad kind where frames must go; return what was put there by whom we do not know."""
    whole = [Path(file.attempt_path).read_bytes() for file in winner.files]
    bad = {"3.png": b"", "7.png": whole[7][:-1], "11.png": whole[12], "12.png": b"x" * len(whole[12])}
    place = Path(folder.store.url) / "frames"
    place.mkdir()
    for name, content in bad.items():
        (place / name).write_bytes(content)
    return bad


def aside(folder: JobFolder) -> list[bytes]:
    return sorted(path.read_bytes() for path in (Path(folder.path) / "aside").iterdir())


def test_a_foreign_file_is_set_aside_and_never_lost(folder: JobFolder, caplog: pytest.LogCaptureFixture) -> None:
    winner = made(folder, "a")
    bad = bad_files(folder, winner)

    assert publish(folder, winner).attempt == "a"

    assert makers(folder) == {"a"}
    assert aside(folder) == sorted(bad.values())
    assert all(f"frames/{name} is not what was rendered" in caplog.text for name in bad)


@pytest.mark.parametrize("steps_before_crash", range(48))
def test_a_crash_while_foreign_files_are_set_aside_loses_neither(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch, steps_before_crash: int
) -> None:
    winner = made(folder, "a")
    bad = bad_files(folder, winner)
    steps = Steps(steps_before_crash)

    with monkeypatch.context() as patched:
        for module, name in ((os, "link"), (os, "rename"), (os, "unlink"), (shutil, "rmtree"), (os, "open")):
            patched.setattr(module, name, steps.dying(getattr(module, name)))
        with suppress(Crash):
            publish(folder, winner)

    standing = publish(folder, made(folder, "b"))

    assert makers(folder) == {standing.attempt}
    assert sorted(content for content in aside(folder) if content) == sorted(filter(None, bad.values()))
    assert finish_claim(folder, KEY) == standing
    assert not Path(folder.attempts_dir(KEY)).exists()


def test_two_that_finish_one_claim_do_not_set_each_others_files_aside(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner = made(folder, "a")
    bad = bad_files(folder, winner)
    set_aside = JobFolder.set_aside

    def late(self: JobFolder, path: str, name: str) -> str:
        # The other one comes in between, and even clears the attempt away.
        monkeypatch.setattr(JobFolder, "set_aside", set_aside)
        finish_claim(folder, KEY)
        return set_aside(self, path, name)

    monkeypatch.setattr(JobFolder, "set_aside", late)
    sidecar = publish(folder, winner)

    assert is_intact(folder.store, sidecar)
    assert makers(folder) == {"a"}
    assert aside(folder) == sorted(bad.values())


def test_a_file_that_another_job_has_published_is_never_touched(folder: JobFolder) -> None:
    other = JobFolder(folder.store, "other")
    for name in ("chunks", "claims"):
        (Path(other.path) / name).mkdir(parents=True)
    publish(other, made(other, "o"))
    before = {path: path.read_bytes() for path in (Path(folder.store.url) / "frames").iterdir()}

    with pytest.raises(AttemptError, match="stands where this job must publish, and job other has made it") as refused:
        publish(folder, made(folder, "a"))

    assert refused.value.fatal
    assert {path: path.read_bytes() for path in (Path(folder.store.url) / "frames").iterdir()} == before
    assert folder.sidecar(KEY) is None


def test_what_another_job_is_about_to_publish_is_its_own(folder: JobFolder) -> None:
    other = JobFolder(folder.store, "other")
    for name in ("chunks", "claims"):
        (Path(other.path) / name).mkdir(parents=True)
    claim = made(other, "o")
    other.store.create(other.claim_path(KEY), claim.model_dump_json().encode())
    assert other.store.copy(claim.files[0].attempt_path, claim.files[0].path)

    with pytest.raises(AttemptError, match="job other has made it"):
        publish(folder, made(folder, "a"))


def test_a_winner_that_could_not_be_published_keeps_its_files(folder: JobFolder) -> None:
    winner = made(folder, "a")
    folder.store.create(folder.claim_path(KEY), winner.model_dump_json().encode())

    discard_attempt(folder, KEY, "a")
    assert finish_claim(folder, KEY) is not None

    assert makers(folder) == {"a"}


def test_a_claim_whose_files_are_gone_is_no_claim(folder: JobFolder) -> None:
    winner = made(folder, "a")
    folder.store.create(folder.claim_path(KEY), winner.model_dump_json().encode())
    for file in winner.files:
        Path(file.attempt_path).unlink()

    assert finish_claim(folder, KEY) is None
    assert publish(folder, made(folder, "b")).attempt == "b"


def test_damaged_outputs_are_noticed_and_taken_back(folder: JobFolder) -> None:
    sidecar = publish(folder, made(folder, "a"))
    assert is_intact(folder.store, sidecar)
    Path(sidecar.files[4].path).write_text("cut")
    assert not is_intact(folder.store, sidecar)

    revoke(folder, KEY)

    assert folder.sidecar(KEY) is None
    assert publish(folder, made(folder, "b")).attempt == "b"
    assert makers(folder) == {"b"}


def test_a_frame_of_the_same_size_and_other_content_is_noticed(folder: JobFolder) -> None:
    sidecar = publish(folder, made(folder, "a"))
    frame = sidecar.files[4]
    Path(frame.path).write_text("z" * frame.size_bytes)

    assert not is_intact(folder.store, sidecar)


def test_files_restored_from_a_backup_are_still_the_published_ones(folder: JobFolder) -> None:
    sidecar = publish(folder, made(folder, "a"))
    for file in sidecar.files:
        os.utime(file.path, (1, 1))

    assert is_intact(folder.store, sidecar)


def test_a_store_on_another_file_system_gets_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "made", tmp_path / "far" / "film.mp4"
    source.write_text("film")
    link = os.link

    def across(one: Path, other: Path) -> None:
        if Path(one).parent != Path(other).parent:
            raise OSError(errno.EXDEV, "another file system")
        link(one, other)

    monkeypatch.setattr(os, "link", across)

    assert DirectoryStore(tmp_path).put(source, str(target))
    assert not DirectoryStore(tmp_path).put(source, str(target))
    assert [path.name for path in target.parent.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize(
    ("call", "code", "error", "said"),
    [
        ("activities.stores.publish.digest_stream", errno.EIO, AttemptError, r"a/0\.png: Input/output error"),
        ("os.fsync", errno.EIO, AttemptError, r"a/0\.png: Input/output error"),
        ("os.fsync", errno.ENOSPC, AttemptLostError, r"a/0\.png: its disk is full"),
    ],
)
def test_an_output_that_cannot_be_read_is_no_store_to_wait_for(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch, call: str, code: int, error: type[Exception], said: str
) -> None:
    def fail(*given: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(call, fail)
        with pytest.raises(error, match=said):
            made(folder, "a")


def test_a_file_that_cannot_be_read_where_one_is_published_is_set_aside(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner = made(folder, "a")
    in_the_way = Path(winner.files[3].path)
    in_the_way.parent.mkdir()
    in_the_way.write_text("bbbb")
    read = DirectoryStore.digest

    def digest(store: DirectoryStore, location: str) -> str:
        if location == str(in_the_way) and in_the_way.read_text() == "bbbb":
            raise OSError(errno.EIO, "Input/output error", location)
        return read(store, location)

    monkeypatch.setattr(DirectoryStore, "digest", digest)

    assert publish(folder, winner).attempt == "a"
    assert makers(folder) == {"a"}
    assert [path.read_text() for path in Path(folder.aside_dir).iterdir()] == ["bbbb"]


@pytest.mark.parametrize("winner", ["a", "b"], ids=["files as claimed", "files damaged"])
def test_where_a_sidecar_cannot_be_read_its_claim_and_the_files_decide(folder: JobFolder, winner: str) -> None:
    publish(folder, made(folder, "a"))
    Path(folder.sidecar_path(KEY)).write_text("{")
    if winner == "b":
        Path(folder.store.locate("frames/7.png")).write_text("c")

    revoke(folder, KEY)

    assert folder.store.stat(folder.sidecar_path(KEY)) is None
    assert publish(folder, made(folder, "b")).attempt == winner
    assert makers(folder) == {winner}
