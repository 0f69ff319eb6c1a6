"""Group commit in a directory and a bucket: a crash at any operation loses nothing finished, and mixes no attempts."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from activities.errors import AttemptError, AttemptLostError
from activities.stores.job_folder import JobFolder, Sidecar
from activities.stores.publish import finish_claim, is_intact, publish, revoke, stage_files
from activities.stores.segment_writer import SegmentWriter
from longtake.stores.job_layout import chunk_key
from longtake.stores.store import Store, StoreError

pytestmark = pytest.mark.integration

CHUNKS = 3
FILES = 2


class Crash(BaseException):
    """The process dies here."""


class Dying:
    """A store whose process dies before one of its writing operations, or right after it."""

    WRITES = ("create", "replace", "put", "copy", "move", "remove", "remove_all", "sync")

    def __init__(self, store: Store, left: int) -> None:
        self._store = store
        self.left = left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in self.WRITES:
            return found

        def step(*given: Any, **named: Any) -> object:
            if self.left <= 0:
                raise Crash
            self.left -= 1
            return found(*given, **named)

        return step


class Span:
    """A span of three chunks with two files each, whose attempts write their own letter."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folder = JobFolder(store, "job")

    def stage(self, store: Store, chunk: int, attempt: str) -> Sidecar:
        key, folder = chunk_key(chunk), JobFolder(store, "job")
        place = folder.attempt_dir(key, attempt)
        made = []
        for number in range(FILES):
            path = self.store.local(f"{place}/{chunk}-{number}.txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(attempt * (chunk + number + 1))
            made.append(path)
        targets = [self.target(chunk, number) for number in range(FILES)]
        files = stage_files(folder, made, place, targets, sync=False)
        return Sidecar(key=key, digest="d", attempt=attempt, frames=FILES, files=files)

    def target(self, chunk: int, number: int) -> str:
        return self.store.locate(f"out/{chunk}-{number}.txt")

    def run(self, attempt: str, *, store: Store | None = None, reported: dict[str, str] | None = None) -> list[str]:
        """Run an attempt at the span to its end; return the keys of the chunks that it had to render."""
        store = store or self.store
        writer = SegmentWriter(JobFolder(store, "job"), 0, CHUNKS, attempt)
        rendered = []
        writer.open()
        for chunk in range(CHUNKS):
            if (standing := writer.finish(chunk_key(chunk))) is None:
                rendered.append(chunk_key(chunk))
                writer.publish(self.stage(store, chunk, attempt))
            elif reported is not None:
                reported[standing.key] = standing.attempt
            if chunk == 1:
                writer.commit()
                self.report(writer, reported)
        writer.commit()
        self.report(writer, reported)
        writer.close()
        return rendered

    @staticmethod
    def report(writer: SegmentWriter, reported: dict[str, str] | None) -> None:
        committed = writer.take_committed()
        assert not committed.failed
        if reported is not None:
            reported.update((record.key, record.attempt) for record in committed.finished)

    def check(self) -> dict[str, str]:
        """Check that the files of each finished chunk are wholly those of its record; return who made them."""
        made = {}
        for record in self.folder.finished_sidecars():
            assert is_intact(self.store, record)
            for number in range(FILES):
                content = self.store.read(self.target(int(record.key), number)).decode()
                assert set(content) == {record.attempt}, f"{record.key} is a mix"
            made[record.key] = record.attempt
        return made


@pytest.fixture
def span(any_store: Store) -> Span:
    return Span(any_store)


KEYS = [chunk_key(chunk) for chunk in range(CHUNKS)]


def test_a_span_leaves_one_file_of_records(span: Span) -> None:
    assert span.run("a") == KEYS

    assert span.check() == dict.fromkeys(KEYS, "a")
    assert span.store.names(span.folder.segments_dir) == ["000000-000002.a.jsonl"]
    assert span.store.names(span.folder.sidecars_dir) == []
    assert not list(span.store.folders(f"{span.folder.path}/attempts"))
    assert span.run("b") == [], "nothing is rendered again"
    assert span.store.names(span.folder.segments_dir) == ["000000-000002.a.jsonl"]


@pytest.mark.parametrize("steps", range(0, 40))
def test_a_crash_at_any_operation_loses_nothing_that_was_reported(span: Span, steps: int) -> None:
    reported: dict[str, str] = {}
    dying = Dying(span.store, steps)
    try:
        span.run("a", store=dying, reported=reported)
        is_dead = False
    except Crash:
        is_dead = True
    before = span.check()

    rendered = span.run("b")

    assert not set(rendered) & reported.keys(), "a chunk that was reported is not rendered again"
    made = span.check()
    assert made.keys() == set(KEYS)
    assert {key: made[key] for key in reported} == reported
    assert {key: made[key] for key in before} == before
    assert all(made[key] == "b" for key in rendered)
    if not is_dead:
        assert steps > 20, "all operations were interrupted once"
    assert span.run("c") == []
    assert span.check() == made


@pytest.mark.parametrize("first", [0, 3, 6, 9, 12, 15])
def test_a_crash_of_the_one_that_takes_over_loses_nothing_either(span: Span, first: int) -> None:
    for steps in range(0, 24, 2):
        place = Span(span.store)
        place.folder = JobFolder(span.store, "job")
        reported: dict[str, str] = {}
        for attempt, left in (("a", first), ("b", steps)):
            with suppress(Crash):
                place.run(attempt, store=Dying(span.store, left), reported=reported)
        rendered = place.run("c")
        assert not set(rendered) & reported.keys()
        made = place.check()
        assert made.keys() == set(KEYS)
        assert {key: made[key] for key in reported} == reported
        span.store.remove_all(span.folder.path)
        span.store.remove_all(span.store.locate("out"))


def test_a_zombie_whose_segment_was_sealed_publishes_nothing_more(span: Span) -> None:
    zombie = SegmentWriter(span.folder, 0, CHUNKS, "a")
    zombie.open()
    zombie.publish(span.stage(span.store, 0, "a"))
    zombie.commit()
    zombie.publish(span.stage(span.store, 1, "a"))

    assert span.run("b") == KEYS[1:]
    made = span.check()
    with pytest.raises(AttemptLostError, match="another attempt has taken over"):
        zombie.commit()
    assert [record.key for record in zombie.take_committed().finished] == KEYS[:1]

    zombie.close()
    assert span.check() == made == {KEYS[0]: "a", KEYS[1]: "b", KEYS[2]: "b"}
    assert span.run("c") == []


@pytest.mark.parametrize("when", ["claimed", "placed"])
def test_a_zombie_that_stands_between_two_steps_wins_and_is_finished_by_its_successor(span: Span, when: str) -> None:
    stands, goes_on = threading.Event(), threading.Event()

    class Slow(Dying):
        """A store in which the zombie stands before its first file, or after its last one."""

        def __getattr__(self, name: str) -> Any:
            found = getattr(self._store, name)
            if name != ("copy" if when == "claimed" else "remove_all"):
                return found

            def wait(*given: Any, **named: Any) -> object:
                stands.set()
                assert goes_on.wait(30)
                return found(*given, **named)

            return wait

    lost: list[BaseException] = []

    def run() -> None:
        try:
            span.run("a", store=Slow(span.store, 0))
        except AttemptLostError as error:
            lost.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert stands.wait(30)

    rendered = span.run("b")
    made = span.check()
    goes_on.set()
    thread.join(30)

    assert rendered == KEYS[2:]
    assert made == {KEYS[0]: "a", KEYS[1]: "a", KEYS[2]: "b"}
    assert lost
    assert span.check() == made, "what is published stays"


def test_attempts_at_the_same_moment_never_mix(span: Span) -> None:
    barrier = threading.Barrier(3)
    ended: list[object] = []

    def race(attempt: str) -> None:
        barrier.wait()
        try:
            ended.append(span.run(attempt))
        except (AttemptLostError, FileNotFoundError) as error:
            # A quicker one may have cleared its files away.
            ended.append(error)

    threads = [threading.Thread(target=race, args=(attempt,)) for attempt in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ended) == 3
    span.check()
    span.run("d")
    assert span.check().keys() == set(KEYS)


def test_a_single_chunk_and_a_span_never_both_win(span: Span) -> None:
    """A retry of one chunk has a sidecar of its own, and seals the span that is at work on it."""
    writer = SegmentWriter(span.folder, 0, CHUNKS, "a")
    writer.open()
    assert publish(span.folder, span.stage(span.store, 0, "b")).attempt == "b"
    writer.publish(span.stage(span.store, 0, "a"))
    with pytest.raises(AttemptLostError):
        writer.commit()
    assert span.check() == {KEYS[0]: "b"}

    later = SegmentWriter(span.folder, 0, CHUNKS, "c")
    later.open()
    later.publish(span.stage(span.store, 1, "c"))
    later.commit()
    standing = finish_claim(span.folder, KEYS[1])
    assert standing is not None
    assert standing.attempt == publish(span.folder, span.stage(span.store, 1, "d")).attempt == "c"
    assert span.check() == {KEYS[0]: "b", KEYS[1]: "c"}


def test_a_foreign_file_is_set_aside_and_never_lost(span: Span) -> None:
    span.store.create(span.target(1, 0), b"mine")

    assert span.run("a") == KEYS

    assert span.check() == dict.fromkeys(KEYS, "a")
    assert [span.store.read(file.location) for file in span.store.files(span.folder.aside_dir)] == [b"mine"]


def test_a_file_of_another_job_is_never_touched_and_bars_its_chunk_alone(span: Span) -> None:
    other = JobFolder(span.store, "other")
    taken = span.stage(span.store, 1, "o").model_copy(update={"key": KEYS[1]})
    publish(other, taken)
    writer = SegmentWriter(span.folder, 0, CHUNKS, "a")
    writer.open()
    for chunk in range(CHUNKS):
        writer.publish(span.stage(span.store, chunk, "a"))
    writer.commit()
    committed = writer.take_committed()
    writer.close()

    assert [record.key for record in committed.finished] == [KEYS[0], KEYS[2]]
    ((record, error),) = committed.failed
    assert record.key == KEYS[1]
    assert "job other has made it" in str(error)
    assert [each.key for each in span.folder.finished_sidecars()] == [KEYS[0], KEYS[2]]
    assert set(span.store.read(span.target(1, 0)).decode()) == {"o"}
    with pytest.raises(AttemptError, match="job other has made it"):
        finish_claim(span.folder, KEYS[1])
    # What was rendered is kept, and published once the name is free.
    for number in range(FILES):
        span.store.remove(span.target(1, number))
    assert span.run("b") == []
    assert span.check() == dict.fromkeys(KEYS, "a")


def test_a_chunk_that_is_taken_back_is_rendered_again_alone(span: Span) -> None:
    span.run("a")

    revoke(span.folder, KEYS[1], attempt="another")
    assert span.check() == dict.fromkeys(KEYS, "a")
    revoke(span.folder, KEYS[1], attempt="a")

    assert span.check().keys() == {KEYS[0], KEYS[2]}
    assert span.run("b") == [KEYS[1]]
    assert span.check() == {KEYS[0]: "a", KEYS[1]: "b", KEYS[2]: "a"}


def test_a_commit_that_failed_on_the_way_is_repeated(span: Span) -> None:
    class Flaky(Dying):
        """A store each of whose first calls fails once it has done its work."""

        def __init__(self, store: Store) -> None:
            super().__init__(store, 0)
            self.failed: set[tuple[str, str]] = set()

        def __getattr__(self, name: str) -> Any:
            found: Callable[..., object] = getattr(self._store, name)
            if name not in ("create", "copy", "sync"):
                return found

            def fail(*given: Any, **named: Any) -> object:
                result = found(*given, **named)
                if (name, str(given)) not in self.failed:
                    self.failed.add((name, str(given)))
                    raise StoreError("is away", "the store", is_temporary=True)
                return result

            return fail

    flaky = Flaky(span.store)
    folder = JobFolder(flaky, "job")
    writer = SegmentWriter(folder, 0, CHUNKS, "a")

    def until_done(work: Callable[[], None]) -> None:
        for _ in range(50):
            try:
                work()
                return
            except StoreError:
                continue
        raise AssertionError("the work never succeeds")

    until_done(writer.open)
    for chunk in range(CHUNKS):
        writer.publish(span.stage(span.store, chunk, "a"))
    until_done(writer.commit)
    until_done(writer.close)

    assert [record.key for record in writer.take_committed().finished] == KEYS
    assert span.check() == dict.fromkeys(KEYS, "a")


def test_an_output_that_its_disk_cannot_take_is_no_finished_chunk(
    span: Span, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not span.store.is_local:
        pytest.skip("outputs of a bucket are uploaded before")
    writer = SegmentWriter(span.folder, 0, CHUNKS, "a")
    writer.open()
    for chunk in range(CHUNKS):
        writer.publish(span.stage(span.store, chunk, "a"))
    sync = os.fsync

    def fail(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/1-1.txt"):
            raise OSError(5, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    writer.commit()

    committed = writer.take_committed()
    assert [record.key for record in committed.finished] == [KEYS[0], KEYS[2]]
    assert "Input/output error" in str(committed.failed[0][1])
    monkeypatch.undo()
    writer.close()
    assert span.run("b") == [KEYS[1]]
