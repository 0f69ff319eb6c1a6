"""Files that change, and disks that fill up, while a bucket is read or written."""

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.s3.faulty_proxy import Spoil
from support.s3.faulty_store import LARGE, SMALL, FaultyScene, faulty_scene
from support.s3.server import S3Server
from support.s3.stores import SMALL_PART_BYTES, bucket_store
from support.small_disk import small_disk

from longtake.stores.store import StoreError

pytestmark = pytest.mark.integration

# A file in four parts.
LONG = 3 * LARGE


@pytest.fixture
def scene(s3_server: S3Server, tmp_path: Path) -> Iterator[FaultyScene]:
    with faulty_scene(s3_server, tmp_path) as offered:
        yield offered


@pytest.mark.parametrize("then", ["changed", "removed"])
@pytest.mark.parametrize("what", ["bring", "copy"])
def test_a_file_that_is_changed_in_the_middle_is_noticed(scene: FaultyScene, then: str, what: str) -> None:
    scene.store.put(scene.made(LARGE), scene.film)
    direct, other = scene.direct(), scene.folder / "other.mov"
    other.write_bytes(LARGE[::-1])
    middle = iter(range(100))

    def change(name: str) -> None:
        is_one = name.startswith("GET") if what == "bring" else "partNumber" in name
        # A download's first part tells what is to come.
        if is_one and next(middle) == (1 if what == "bring" else 0):
            direct.remove(scene.film)
            if then == "changed":
                direct.put(other, scene.film)

    scene.way.before = change
    ask: dict[str, Callable[[], object]] = {
        "bring": lambda: scene.store.download(scene.film, scene.folder / "brought"),
        "copy": lambda: scene.store.copy(scene.film, scene.copy),
    }
    with pytest.raises(StoreError) as raised:
        ask[what]()
    assert "changed or removed while it was read" in scene.said(raised.value)
    assert raised.value.is_temporary
    assert not (scene.folder / "brought").exists()
    assert scene.store.stat(scene.copy) is None


@pytest.mark.parametrize("how", ["cut", "written"])
def test_a_file_that_is_written_to_while_it_is_handed_in_is_refused(scene: FaultyScene, how: str) -> None:
    file = scene.made(LARGE)

    def write(name: str) -> None:
        if "partNumber=1" in name:
            with file.open("r+b") as content:
                content.truncate(SMALL_PART_BYTES) if how == "cut" else content.write(b"another beginning")

    scene.way.before = write
    with pytest.raises(StoreError) as raised:
        scene.store.put(file, scene.film)
    assert "was written to while it was handed in" in scene.said(raised.value)
    assert scene.store.stat(scene.film) is None


def test_a_full_disk_is_said_to_be_before_gigabytes_come(scene: FaultyScene) -> None:
    scene.store.put(scene.made(LONG), scene.film)
    with small_disk(scene.folder / "disk", SMALL_PART_BYTES * 2) as disk:
        with pytest.raises(StoreError) as raised:
            scene.store.download(scene.film, disk / "in" / "brought")
        assert "the disk of this host is full" in scene.said(raised.value)
        assert raised.value.is_temporary
        assert list(disk.glob("in/*")) == []
    assert [call for call in scene.way.calls if call.startswith("GET")] == [f"GET {path(scene.film)}"]
    assert scene.store.read(scene.film) == LONG


def test_a_disk_that_fills_up_on_the_way_is_noticed(scene: FaultyScene) -> None:
    scene.store.put(scene.made(LONG), scene.film)
    with small_disk(scene.folder / "disk", len(LONG) + (1 << 20)) as disk:

        def fill(name: str) -> None:
            # Not at the first part, after which the room is looked at.
            if name.startswith("GET") and sum(call.startswith("GET") for call in scene.way.calls) == 3:
                (disk / "other").write_bytes(bytes(2 << 20))

        scene.way.before = fill
        with pytest.raises(StoreError) as raised:
            scene.store.download(scene.film, disk / "in" / "brought")
        assert "the disk of this host is full" in scene.said(raised.value)
        assert list(disk.glob("in/*")) == []


def test_a_full_disk_keeps_the_file_that_was_there(scene: FaultyScene) -> None:
    scene.store.create(scene.film, SMALL)
    with small_disk(scene.folder / "disk", 16 << 10) as disk:
        into = disk / "brought"
        into.write_bytes(b"old")
        with pytest.raises(StoreError) as raised:
            scene.store.download(scene.film, into)
        assert raised.value.errno != errno.ENOSPC
        assert into.read_bytes() == b"old"


def path(location: str) -> str:
    return location.removeprefix("s3:/")


def test_a_stop_ends_an_upload_and_leaves_nothing(scene: FaultyScene) -> None:
    stop = threading.Event()
    store = bucket_store(scene.s3_server, scene.folder, url=scene.store.url, endpoint=scene.way.url, stop=stop)
    scene.way.before = lambda name: stop.set() if "partNumber=1" in name else None
    # What takes away what was begun is done after the stop, and tried again too.
    abort = scene.way.spoil(Spoil.ERROR, "DELETE .*uploadId", times=2)
    with pytest.raises(StoreError) as raised:
        store.put(scene.made(LARGE), scene.film)
    assert "interrupted" in scene.said(raised.value)
    assert abort.met == 2
    assert scene.store.stat(scene.film) is None
