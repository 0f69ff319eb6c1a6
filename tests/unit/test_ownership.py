"""Folders of attempts change owners around a render; what it leaves in them leads to no file of anybody else."""

import os
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.errors import AttemptError
from activities.stores.ownership import check_reach, grant_folders, reclaim_file, reclaim_folders
from longtake.render_user import RenderUser

# Who is not root can give files to nobody, and is the account of renders in these tests.
ACCOUNT = 65534 if os.getuid() == 0 else os.getuid()
USER = RenderUser("render", ACCOUNT, ACCOUNT if os.getuid() == 0 else os.getgid(), (), "/")


@pytest.fixture
def place() -> Iterator[Path]:
    """The folder of an attempt, which the account may reach; those of pytest are closed."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        attempt = Path(folder, "store", "attempt")
        (attempt / "out").mkdir(parents=True)
        yield attempt


def owner(path: Path) -> int:
    return path.lstat().st_uid


def test_folders_are_given_away_and_files_in_them_are_not(place: Path) -> None:
    (place / "input").write_text("read by other renders too")
    (place / "elsewhere").symlink_to(place.parent)
    grant_folders([place, place / "missing"], USER)

    assert [owner(path) for path in (place, place / "out")] == [ACCOUNT, ACCOUNT]
    assert owner(place / "input") == owner(place.parent) == os.getuid()


def test_all_that_a_render_leaves_is_taken_back_and_no_link_is_followed(place: Path) -> None:
    outside = place.parent / "outside"
    outside.write_text("of somebody else")
    grant_folders([place], USER)
    for path in (place / "out/a.png", place / "out/deep/b.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("rendered")
        path.chmod(0o6666)
        os.chown(path, ACCOUNT, -1)
    os.chown(outside, ACCOUNT, -1)
    outside.chmod(0o666)
    (place / "out/link").symlink_to(outside)
    (place / "out/folder").symlink_to(place.parent)
    (place / "out/deep").chmod(0o000)
    reclaim_folders([place, place / "missing"], USER)

    for path in (place, place / "out", place / "out/deep", place / "out/a.png", place / "out/deep/b.png"):
        assert owner(path) == os.getuid(), path
        assert not path.stat().st_mode & (stat.S_IWOTH | stat.S_ISUID), path
    assert owner(outside) == ACCOUNT
    assert stat.S_IMODE(outside.stat().st_mode) == 0o666
    assert owner(place.parent) == os.getuid()


def write_again(place: Path) -> list[str]:
    """Return what the account can do to a file of its render and its name, in a process of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(ACCOUNT, ACCOUNT, ACCOUNT)
        os.setresuid(ACCOUNT, ACCOUNT, ACCOUNT)
        for word, act in (
            ("write", lambda: (place / "a.png").write_text("other")),
            ("rename", lambda: (place / "a.png").rename(place / "b.png")),
        ):
            try:
                act()
                os.write(writing, f"{word} ".encode())
            except PermissionError:
                pass
        os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as said:
        return said.read().split()


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs root, and access lists of Linux")
def test_what_a_render_has_granted_to_its_own_account_ends_with_it(place: Path) -> None:
    grant_folders([place], USER)
    output = place / "a.png"
    output.write_text("rendered")
    os.chown(output, ACCOUNT, ACCOUNT)
    nobody = 0xFFFFFFFF
    entries = ((1, 7, nobody), (2, 7, ACCOUNT), (4, 5, nobody), (16, 7, nobody), (32, 5, nobody))
    access_list = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    for path in (output, place):
        os.setxattr(path, "system.posix_acl_access", access_list)
    os.setxattr(place, "system.posix_acl_default", access_list)
    reclaim_folders([place], USER)

    assert not [name for path in (place, output) for name in os.listxattr(path) if "acl" in name]
    assert write_again(place) == []


def test_folders_without_end_are_left_at_some_depth(place: Path) -> None:
    deep = place
    for _ in range(150):
        deep = deep / "d"
    deep.mkdir(parents=True)
    reclaim_folders([place], USER)

    assert owner(place / "d/d/d") == os.getuid()


def test_a_folder_that_the_account_may_not_enter_is_named(place: Path) -> None:
    closed = place.parent
    closed.chmod(0o700)
    os.chown(closed, 0 if os.getuid() == 0 else -1, -1)
    user = RenderUser("render", 4711, 4711, (), "/")

    with pytest.raises(AttemptError, match=f"render, the account of renders, may not enter {closed}; `chmod o\\+x"):
        grant_folders([place], user)


def test_what_is_published_belongs_to_the_worker(place: Path) -> None:
    output = place / "a.mp4"
    output.write_text("rendered")
    output.chmod(0o666)
    os.chown(output, ACCOUNT, -1)
    with output.open("rb") as file:
        reclaim_file(file.fileno())

    assert owner(output) == os.getuid()
    if os.getuid() == 0:
        assert stat.S_IMODE(output.stat().st_mode) == 0o664


def test_a_folder_that_the_account_may_not_enter_is_named_with_the_fix(place: Path) -> None:
    program = place / "bin/python"
    program.parent.mkdir()
    check_reach(program, USER)
    # A bit of the owner's, where that is the account itself.
    place.chmod(0o700 if os.getuid() == 0 else 0o600)
    try:
        with pytest.raises(AttemptError) as caught:
            check_reach(program, USER, ", where Python is")
    finally:
        place.chmod(0o755)

    said = f"render, the account of renders, may not enter {place}, where Python is; `chmod o+x {place}` lets it"
    assert str(caught.value) == said
