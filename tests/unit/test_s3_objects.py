"""Locations of a bucket: none leads out of its store, and each key has one."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.stores.s3_objects import Keys, split_parts

SCRATCH = Path("/scratch")
URL = "s3://bucket/shows/one"

PATHS = st.lists(st.sampled_from(["..", ".", "", "a", "b c", "...", "ü", "s3:", "shows", "one"]), max_size=8).map(
    "/".join
)


def keys(url: str = URL) -> Keys:
    return Keys(url, SCRATCH)


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("film.mov", f"{URL}/film.mov"),
        ("a/./b//c/../film.mov", f"{URL}/a/b/film.mov"),
        ("", URL),
        (".", URL),
        ("a/..", URL),
        (f"{URL}/film.mov", f"{URL}/film.mov"),
        (URL, URL),
        ("...", f"{URL}/..."),
        ("..a", f"{URL}/..a"),
        ("what?#1%20+&.mov", f"{URL}/what?#1%20+&.mov"),
    ],
)
def test_a_path_is_located_below_the_store(path: str, location: str) -> None:
    assert keys().locate(path) == location


@pytest.mark.parametrize(
    "path",
    ["..", "../film.mov", "a/../../film.mov", "/etc/passwd", "//etc/passwd", "s3://bucket/shows/two/film.mov",
     "s3://bucket/shows/one-two/film.mov", "s3://other/film.mov", "s3:/bucket/x"],
)  # fmt: skip
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"leads out of s3://bucket/shows/one; write a path below it"):
        keys().locate(path)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("a\0b", "holds a NUL"),
        ("a\\b", "holds a backslash"),
        ("\udc80", "holds half a character"),
        ("x" * 256, "longer than the 255 bytes of a name"),
        ("ü" * 128, "longer than the 255 bytes of a name"),
        ("/".join(["x" * 250] * 5), "longer than the 1024 bytes"),
        (f"{URL}/../two/film.mov", "holds an empty name, . or .."),
        (f"{URL}//film.mov", "holds an empty name, . or .."),
    ],
)
def test_a_name_that_cannot_be_a_key_is_refused(path: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        keys().locate(path)


@given(path=PATHS)
def test_no_path_leads_out(path: str) -> None:
    for url in (URL, "s3://bucket"):
        try:
            location = keys(url).locate(path)
        except ValueError:
            continue
        assert location == url or location.startswith(f"{url}/")
        assert ".." not in location.split("/")
        assert keys(url).locate(location) == location
        local = keys(url).local(location)
        assert local.is_relative_to(SCRATCH / "s3/bucket")
        assert keys(url).location(keys(url).folder(location).rstrip("/")).rstrip("/") == location


@pytest.mark.parametrize(
    "location", ["s3://bucket/shows/two", "s3://bucket/shows/one-two/a", "s3://bucket", "/shows/one/a", "film.mov"]
)
def test_a_location_of_another_store_is_refused(location: str) -> None:
    for ask in (keys().key, keys().folder, keys().local):
        with pytest.raises(ValueError, match=r"leads out of s3://bucket/shows/one; name a path below it"):
            ask(location)


@pytest.mark.parametrize("url", [URL, "s3://bucket", "s3://bucket/"])
def test_a_store_is_no_file_of_itself(url: str) -> None:
    with pytest.raises(ValueError, match="is the store itself"):
        keys(url).key(url.rstrip("/"))


def test_a_folder_is_what_its_keys_begin_with() -> None:
    assert keys().folder(URL) == "shows/one/"
    assert keys().folder(f"{URL}/a") == keys().folder(f"{URL}/a/") == "shows/one/a/"
    assert keys("s3://bucket").folder("s3://bucket") == ""
    assert keys().key(f"{URL}/a") == "shows/one/a"
    assert keys().local(f"{URL}/a") == SCRATCH / "s3/bucket/shows/one/a"


@given(size=st.integers(1, 50 << 40), part=st.integers(5 << 20, 64 << 20))
def test_parts_are_of_one_size_and_never_too_many(size: int, part: int) -> None:
    parts = split_parts(size, part)
    assert len(parts) <= 9_000
    assert {len(one) for one in parts[:-1]} <= {parts[0].stop}
    assert (parts[0].start, parts[-1].stop) == (0, size)
    assert all(one.stop == after.start for one, after in pairwise(parts))
