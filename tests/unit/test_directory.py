"""Directory stores: a full or vanished disk is a store that is away, and leaves no half-made file."""

import asyncio
import errno
import os
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from longtake.concurrency import run_in_thread
from longtake.stores.directory import DirectoryStore, link_or_copy
from longtake.stores.store import StoreError

AWAY = ["ENOSPC", "EDQUOT", "EROFS", "EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH"]

# Each call of a store, with what it needs to be there: the file `a`.
CALLS: dict[str, tuple[str, Callable[[DirectoryStore, str], object]]] = {
    "read": ("builtins.open", lambda store, base: store.read(f"{base}/a")),
    "stat": ("os.stat", lambda store, base: store.stat(f"{base}/a")),
    "files": ("os.scandir", lambda store, base: list(store.files(base))),
    "names": ("os.scandir", lambda store, base: store.names(base)),
    "folders": ("os.scandir", lambda store, base: list(store.folders(base))),
    "create": ("os.fsync", lambda store, base: store.create(f"{base}/b", b"new")),
    "replace": ("os.fsync", lambda store, base: store.replace(f"{base}/a", b"new")),
    "put": ("os.link", lambda store, base: store.put(Path(base, "a"), f"{base}/b")),
    "copy": ("os.link", lambda store, base: store.copy(f"{base}/a", f"{base}/b")),
    "move": ("shutil.move", lambda store, base: store.move(f"{base}/a", f"{base}/b")),
    "download": ("os.stat", lambda store, base: store.download(f"{base}/a", Path(base, "b"))),
    "remove": ("os.unlink", lambda store, base: store.remove(f"{base}/a")),
    "sync": ("os.fsync", lambda store, base: store.sync([base])),
}


def fail(monkeypatch: pytest.MonkeyPatch, what: str, code: int) -> None:
    """Let a function of the system fail as a disk does."""

    def failing(*args: Any, **kwargs: Any) -> Any:
        raise OSError(code, os.strerror(code), "disk")

    monkeypatch.setattr(what, failing)
    if what == "builtins.open":
        monkeypatch.setattr("io.open", failing)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", AWAY)
def test_each_call_says_of_a_disk_that_is_full_or_away_that_this_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: str
) -> None:
    (tmp_path / "a").write_text("old")
    store = DirectoryStore(tmp_path)
    what, work = CALLS[call]

    with monkeypatch.context() as patch:
        fail(patch, what, getattr(errno, code))
        with pytest.raises(StoreError) as raised:
            work(store, str(tmp_path))

    assert raised.value.is_temporary
    assert raised.value.sentence
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_an_error_that_only_a_person_mends_is_no_store_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail(patch, "os.fsync", errno.EACCES)
        with pytest.raises(PermissionError):
            DirectoryStore(tmp_path).create(str(tmp_path / "a"), b"new")


def test_a_copy_that_a_full_disk_cuts_short_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("old")

    with monkeypatch.context() as patch:
        fail(patch, "os.link", errno.EXDEV)
        fail(patch, "shutil.copyfileobj", errno.ENOSPC)
        with pytest.raises(OSError, match="No space"):
            link_or_copy(source, target)

    assert not target.exists()


@pytest.mark.parametrize("call", CALLS)
def test_no_call_begins_after_a_stop(tmp_path: Path, call: str) -> None:
    (tmp_path / "a").write_text("old")
    stop = threading.Event()
    stop.set()

    with pytest.raises(StoreError, match="interrupted"):
        asyncio.run(run_in_thread(partial(CALLS[call][1], DirectoryStore(tmp_path), str(tmp_path)), stop))

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def run_as_other(work: Callable[[], object]) -> None:
    """Run something as an account that permissions bind, which they do not with root."""
    if os.geteuid() != 0:
        work()
        return
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that all accounts reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
        yield folder


@pytest.mark.parametrize("locked", ["attempt", "attempt/inner"])
def test_a_folder_without_permissions_is_removed_all_the_same(open_folder: Path, locked: str) -> None:
    def lock_and_remove() -> None:
        inner = open_folder / "attempt/inner"
        inner.mkdir(parents=True)
        (inner / "f.png").write_text("picture")
        (open_folder / locked).chmod(0)
        DirectoryStore(open_folder).remove_all(str(open_folder / "attempt"))

    run_as_other(lock_and_remove)

    assert not (open_folder / "attempt").exists()
