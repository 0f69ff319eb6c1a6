"""The cache of inputs on a host: within its limit, on a disk that is full, after a kill."""

import errno
import hashlib
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from handed_inputs import SCENE, HandIn, bytes_in, found_in
from s3_server import S3Server
from s3_stores import bucket_store

from activities.stores.input_cache import InputCache
from longtake.stores.store import StoreError

LIMIT = 10**9


@pytest.fixture
def hand_in(s3_server: S3Server, tmp_path: Path) -> HandIn:
    return HandIn(bucket_store(s3_server, tmp_path / "scratch"))


def test_what_was_not_used_for_longest_goes_first(hand_in: HandIn, tmp_path: Path) -> None:
    jobs = [hand_in({f"{name}.bin": os.urandom(1000)}) for name in "abc"]
    cache = InputCache(tmp_path / "cache", 2500)
    for handed in (jobs[0], jobs[1], jobs[0], jobs[2]):
        with cache.lay_out(handed.job):
            pass
    contents = {path.name for path in (tmp_path / "cache" / "contents").iterdir()}
    kept = {hashlib.sha256(content).hexdigest() for handed in (jobs[0], jobs[2]) for content in handed.files.values()}

    assert contents == kept
    assert len(list((tmp_path / "cache" / "manifests").iterdir())) == 2


def test_what_is_in_use_stays_and_goes_later(hand_in: HandIn, tmp_path: Path) -> None:
    first, second = hand_in({"a.bin": os.urandom(1000)}), hand_in({"b.bin": os.urandom(1000)})
    cache = InputCache(tmp_path / "cache", 0)
    with cache.lay_out(first.job) as one:
        with cache.lay_out(second.job) as other:
            assert bytes_in(tmp_path / "cache") == 2000
            assert (found_in(one), found_in(other)) == (first.files, second.files)
        assert bytes_in(tmp_path / "cache") == 1000
    assert bytes_in(tmp_path / "cache") == 0


def test_a_killed_process_keeps_nothing_in_use(hand_in: HandIn, tmp_path: Path) -> None:
    handed = hand_in(SCENE)
    child = os.fork()
    if child == 0:
        try:
            with ExitStack() as stack:
                stack.enter_context(InputCache(tmp_path / "cache", LIMIT).lay_out(handed.job))
                os.kill(os.getpid(), 9)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    assert len(list((tmp_path / "cache" / "uses").iterdir())) == 1
    with InputCache(tmp_path / "cache", LIMIT).lay_out(handed.job) as tree:
        assert found_in(tree) == SCENE
        assert len(list((tmp_path / "cache" / "uses").iterdir())) == 1


def test_a_disk_without_room_is_one_sentence_and_nothing_half_made(
    hand_in: HandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = hand_in({"old.bin": os.urandom(1000)}), hand_in({"new.bin": os.urandom(1000)})
    cache = InputCache(tmp_path / "cache", LIMIT)
    with cache.lay_out(old.job):
        pass
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=500))
    with (
        pytest.raises(StoreError, match=r"has 500 bytes free, and inputs of a job take 1,000") as full,
        cache.lay_out(new.job),
    ):
        raise AssertionError("there is no room")

    assert full.value.passing
    # What was there made room first, although the limit would have let it stay.
    assert bytes_in(tmp_path / "cache") == 0
    assert list((tmp_path / "cache" / "uses").iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(
    hand_in: HandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed = hand_in(SCENE)
    cache = InputCache(tmp_path / "cache", LIMIT)
    link = os.link

    def no_room(source: str, target: str) -> None:
        if "b.txt" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device", target)
        link(source, target)

    def copy_without_room(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", no_room)
        patch.setattr(shutil, "copyfile", copy_without_room)
        with pytest.raises(StoreError, match="No space left on device") as full, cache.lay_out(handed.job):
            raise AssertionError("there is no room")

    assert full.value.passing
    assert list((tmp_path / "cache" / "uses").iterdir()) == []
    with cache.lay_out(handed.job) as tree:
        assert found_in(tree) == SCENE
