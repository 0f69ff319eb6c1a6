"""One behaviour of both stores: a directory, and a bucket of a real S3 server."""

import errno
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from support.s3.server import S3Server
from support.s3.stores import SMALL_PART_BYTES, bucket_store

from longtake.stores.directory import DirectoryStore
from longtake.stores.store import Store, StoredFile, map_parallel

pytestmark = pytest.mark.integration

RACERS = 20


def test_what_is_created_can_be_read(any_store: Store) -> None:
    where = any_store.locate("folder/of/a.json")
    assert any_store.create(where, b"content")
    assert any_store.read(where) == b"content"
    found = any_store.stat(where)
    assert found is not None
    assert (found.location, found.name, found.size_bytes) == (where, "a.json", 7)


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (0, 4), (3, 7), (6, 100), (10, 12), (50, 60), (4, 4)])
def test_a_part_of_a_file_can_be_read(any_store: Store, start: int, stop: int) -> None:
    where = any_store.locate("folder/part")
    assert any_store.create(where, b"0123456789")

    assert any_store.read_part(where, start, stop) == b"0123456789"[start:stop]


def test_a_part_of_no_file_is_an_error(any_store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        any_store.read_part(any_store.locate("folder/none"), 0, 1)


def test_an_empty_file_is_a_file(any_store: Store, tmp_path: Path, local_file: Callable[[bytes], Path]) -> None:
    empty, other, third = (any_store.locate(name) for name in ("empty", "other", "third"))
    assert any_store.create(empty, b"")
    assert any_store.put(local_file(b""), other)
    assert any_store.copy(empty, third)
    for where in (empty, other, third):
        assert any_store.read(where) == b""
        assert any_store.digest(where) == hashlib.sha256().hexdigest()
        assert any_store.download(where, tmp_path / "brought").read_bytes() == b""


def test_nothing_is_created_over_a_file(any_store: Store) -> None:
    where = any_store.locate("claim")
    assert any_store.create(where, b"first")
    assert not any_store.create(where, b"second")
    assert not any_store.create(where, b"first")
    assert any_store.read(where) == b"first"


@pytest.mark.parametrize("content", ["own", "same"])
def test_of_many_who_create_one_wins(any_store: Store, content: str) -> None:
    where = any_store.locate("claim")
    start = Barrier(RACERS)

    def race(racer: int) -> bool:
        start.wait()
        return any_store.create(where, f"{racer if content == 'own' else 'all'}".encode())

    with ThreadPoolExecutor(RACERS) as pool:
        won = list(pool.map(race, range(RACERS)))
    assert won.count(True) == 1
    assert any_store.read(where).decode() == (str(won.index(True)) if content == "own" else "all")


@pytest.mark.parametrize("size", [1000, SMALL_PART_BYTES + 1])
def test_of_many_who_copy_one_wins(any_store: Store, local_file: Callable[[bytes], Path], size: int) -> None:
    sources = [any_store.locate(f"attempts/{racer}") for racer in range(6)]
    contents = [os.urandom(size) for _ in sources]
    for source, content in zip(sources, contents, strict=True):
        any_store.put(local_file(content), source)
    target = any_store.locate("final")
    start = Barrier(len(sources))

    def race(source: str) -> bool:
        start.wait()
        return any_store.copy(source, target)

    with ThreadPoolExecutor(len(sources)) as pool:
        won = list(pool.map(race, sources))
    assert won.count(True) == 1
    assert any_store.read(target) == contents[won.index(True)]


@pytest.mark.parametrize("size", [20, SMALL_PART_BYTES * 2 + 7])
def test_of_many_who_put_one_wins(any_store: Store, local_file: Callable[[bytes], Path], size: int) -> None:
    contents = [os.urandom(size) for _ in range(4)]
    made = [local_file(content) for content in contents]
    target = any_store.locate("final")
    start = Barrier(len(made))

    def race(file: Path) -> bool:
        start.wait()
        return any_store.put(file, target)

    with ThreadPoolExecutor(len(made)) as pool:
        won = list(pool.map(race, made))
    assert won.count(True) == 1
    assert any_store.read(target) == contents[won.index(True)]


def test_readers_see_the_old_content_or_the_new_one(any_store: Store) -> None:
    where = any_store.locate("status.json")
    old, new = b"o" * 200_000, b"n" * 100_000
    any_store.replace(where, old)

    def write(round: int) -> None:
        any_store.replace(where, new if round % 2 else old)

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, round) for round in range(20)]
        while not all(future.done() for future in writing):
            assert any_store.read(where) in (old, new)
        for future in writing:
            future.result()


@pytest.mark.parametrize("size", [1, 300_000, SMALL_PART_BYTES, SMALL_PART_BYTES + 1, 3 * SMALL_PART_BYTES + 12_345])
def test_a_file_of_any_size_comes_back_as_it_went(
    any_store: Store, tmp_path: Path, local_file: Callable[[bytes], Path], size: int
) -> None:
    content = os.urandom(size)
    sha256 = hashlib.sha256(content).hexdigest()
    first, second, third = (any_store.locate(f"film/{name}.mov") for name in "abc")
    made = local_file(content)
    assert any_store.put(made, first)
    assert not any_store.put(made, first)
    assert any_store.copy(first, second)
    assert not any_store.copy(first, second)
    assert any_store.move(second, third)
    assert any_store.stat(second) is None
    for where in (first, third):
        found = any_store.stat(where)
        assert found is not None
        assert found.size_bytes == size
        assert found.sha256 in (None, sha256)
        assert any_store.digest(where) == sha256
        brought = any_store.download(where, tmp_path / "home" / "film.mov", sha256=sha256)
        assert hashlib.sha256(brought.read_bytes()).hexdigest() == sha256
    # Nothing of what was on its way is left there.
    assert [path.name for path in tmp_path.glob("home/*")] == ([] if any_store.is_local else ["film.mov"])


def test_what_is_missing_is_said_to_be(any_store: Store, tmp_path: Path) -> None:
    missing, target = any_store.locate("missing"), any_store.locate("target")
    assert any_store.stat(missing) is None
    any_store.remove(missing)
    any_store.remove_all(missing)
    assert list(any_store.files(missing)) == []
    assert any_store.names(missing) == []
    assert list(any_store.folders(missing)) == []
    asked: list[Callable[[], object]] = [
        lambda: any_store.read(missing),
        lambda: any_store.copy(missing, target),
        lambda: any_store.move(missing, target),
        lambda: any_store.digest(missing),
        lambda: any_store.download(missing, tmp_path / "into"),
        lambda: any_store.put(tmp_path / "nothing", target),
    ]
    for ask in asked:
        with pytest.raises(FileNotFoundError):
            ask()
    assert any_store.stat(target) is None
    assert not (tmp_path / "into").exists()


def test_a_move_never_goes_over_a_file(any_store: Store) -> None:
    source, target, missing = (any_store.locate(name) for name in ("source", "target", "missing"))
    any_store.create(source, b"source")
    any_store.create(target, b"target")
    assert not any_store.move(source, target)
    assert not any_store.move(missing, target)
    assert (any_store.read(source), any_store.read(target)) == (b"source", b"target")


def test_removing_a_folder_removes_what_this_host_holds_for_it(any_store: Store) -> None:
    where = any_store.locate("job/film.mov")
    local = any_store.local(where)
    local.parent.mkdir(parents=True, exist_ok=True)
    local.write_bytes(b"film")
    assert any_store.put(local, where)
    any_store.remove_all(any_store.locate("job"))
    assert not local.exists()
    assert any_store.stat(where) is None


def test_a_store_inside_a_store_sees_its_own_files_only(any_store: Store, tmp_path: Path, s3_server: S3Server) -> None:
    inner: Store
    if any_store.is_local:
        inner = DirectoryStore(tmp_path / "store" / "inner")
    else:
        inner = bucket_store(s3_server, tmp_path / "scratch", url=f"{any_store.url}/inner")
    any_store.create(any_store.locate("outer.txt"), b"outer")
    inner.create(inner.locate("inner.txt"), b"inner")
    assert inner.names(inner.url) == ["inner.txt"]
    assert any_store.read(any_store.locate("inner/inner.txt")) == b"inner"


def test_work_goes_on_as_many_at_once_as_the_store_likes(any_store: Store) -> None:
    made = map_parallel(
        any_store, lambda index: any_store.create(any_store.locate(f"each/{index % 40}"), b"x"), range(80)
    )
    assert made.count(True) == 40
    any_store.sync([any_store.locate("each")])


def test_a_location_of_the_store_stands_for_itself(any_store: Store) -> None:
    where = any_store.locate("a/./b/../c")
    assert where == any_store.locate("a/c") == f"{any_store.url}/a/c" == any_store.locate(where)
    assert any_store.locate(".") == any_store.url


def test_errors_of_a_local_file_stay_what_they_are(any_store: Store, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r".+") as raised:
        any_store.put(tmp_path, any_store.locate("folder"))
    assert raised.value.errno in (errno.EISDIR, errno.EPERM, errno.EEXIST)


def test_a_stored_file_is_named_by_its_location() -> None:
    assert StoredFile("s3://bucket/a/b c.txt", 1, 1).name == "b c.txt"
