"""Names and listings: the same in a directory and in a bucket of a real S3 server, odd names and many included."""

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longtake.stores.directory import DirectoryStore
from longtake.stores.store import Store, map_parallel

pytestmark = pytest.mark.integration

ODD_NAMES = [
    "a b.png",
    " leading and trailing ",
    "Ünïcödé-映画-🎬.mov",
    "100%.txt",
    "%41.txt",
    "a+b&c=d.txt",
    "what?.txt",
    "#1.txt",
    "quote\"'`.txt",
    "semi;colon,comma.txt",
    "~$^{}[]|<>!@().txt",
    "tab\there.txt",
    "-dash",
    "s3:",
    "e\u0301 decomposed",
]

NAMES = st.text(
    st.characters(exclude_characters="/\\\0", exclude_categories=("Cs", "Cc")), min_size=1, max_size=40
).filter(lambda name: name.strip() not in ("", ".", "..") and not name.startswith("."))


def test_a_folder_lists_its_own_files_only(any_store: Store) -> None:
    for path in ("f/b.txt", "f/a.txt", "f/.hidden", "f/sub/c.txt", "f/.longtake/d.txt", "f2/e.txt", "top.txt"):
        any_store.create(any_store.locate(path), path.encode())
    folder = any_store.locate("f")
    files = list(any_store.files(folder))
    assert [file.name for file in files] == ["a.txt", "b.txt"] == any_store.names(folder)
    assert [file.location for file in files] == [any_store.locate("f/a.txt"), any_store.locate("f/b.txt")]
    assert [file.size_bytes for file in files] == [7, 7]
    assert list(any_store.folders(folder)) == [".longtake", "sub"]
    assert list(any_store.folders(any_store.url)) == ["f", "f2"]
    assert any_store.names(any_store.url) == ["top.txt"]


def test_a_listing_and_a_look_tell_the_same(any_store: Store) -> None:
    where = any_store.locate("folder/file")
    any_store.create(where, b"content")
    (listed,) = any_store.files(any_store.locate("folder"))
    looked = any_store.stat(where)
    assert looked is not None
    assert (listed.location, listed.size_bytes, listed.modified_ns) == (
        looked.location,
        looked.size_bytes,
        looked.modified_ns,
    )


@pytest.mark.slow
def test_folders_of_more_files_than_a_page_are_listed_and_removed_whole(any_store: Store) -> None:
    paths = [f"many/{index:04}.txt" for index in range(1050)] + [f"many/in/{index:04}/x" for index in range(30)]
    assert all(map_parallel(any_store, lambda path: any_store.create(any_store.locate(path), b"x"), paths))
    folder = any_store.locate("many")
    any_store.create(any_store.locate("many.txt"), b"a neighbour")
    assert any_store.names(folder) == [f"{index:04}.txt" for index in range(1050)]
    assert list(any_store.folders(any_store.locate("many/in"))) == [f"{index:04}" for index in range(30)]
    any_store.remove_all(folder)
    assert any_store.names(folder) == []
    assert list(any_store.folders(any_store.url)) == []
    assert any_store.names(any_store.url) == ["many.txt"]


def test_odd_names_are_names(any_store: Store, tmp_path: Path, local_file: Callable[[bytes], Path]) -> None:
    for name in ODD_NAMES:
        first, second, third = (any_store.locate(f"{folder}/{name}") for folder in (f"x{name}", "y", "z"))
        assert any_store.put(local_file(b"content"), first), name
        assert any_store.copy(first, second), name
        assert any_store.move(second, third), name
        assert any_store.names(any_store.locate("z")) == [name]
        assert f"x{name}" in any_store.folders(any_store.url)
        assert any_store.download(third, tmp_path / "brought").read_bytes() == b"content", name
        found = any_store.stat(third)
        assert found is not None, name
        assert found.name == name
        any_store.remove(third)
        assert any_store.names(any_store.locate("z")) == []
        any_store.remove_all(any_store.locate(f"x{name}"))
        assert f"x{name}" not in any_store.folders(any_store.url)
        assert any_store.stat(first) is None, name


def test_a_folder_keeps_a_backslash_which_a_bucket_refuses(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    assert store.create(store.locate("a\\b"), b"content")
    assert store.names(store.url) == ["a\\b"]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(NAMES, st.binary(max_size=200), max_size=6))
def test_any_set_of_files_is_what_was_made(any_store: Store, files: dict[str, bytes]) -> None:
    folder = f"set-{secrets.token_hex(6)}"
    for name, content in files.items():
        assert any_store.create(any_store.locate(f"{folder}/{name}"), content)
    listed = list(any_store.files(any_store.locate(folder)))
    assert {file.name: any_store.read(file.location) for file in listed} == files
    assert [file.name for file in listed] == sorted(files)
    any_store.remove_all(any_store.locate(folder))
    assert any_store.names(any_store.locate(folder)) == []
