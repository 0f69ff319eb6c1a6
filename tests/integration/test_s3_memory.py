"""Large files go to a bucket, within it and home in little memory."""

from pathlib import Path

import pytest
from support.measurements import Memory
from support.s3.server import S3Server
from support.s3.stores import bucket_store

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Held whole, or in the parts that are on their way, it would be noticed; `make bench-store` moves 5 GB.
SIZE = 256 << 20
MOST_GROWTH = 64 << 20


def test_a_large_file_takes_little_memory(s3_server: S3Server, tmp_path: Path) -> None:
    store = bucket_store(s3_server, tmp_path)
    # What is made at a first call only is no growth.
    store.create(store.locate("first"), b"")
    film, copy, home = store.locate("film.mov"), store.locate("copy.mov"), tmp_path / "home.mov"
    file = tmp_path / "film.mov"
    with file.open("wb") as content:
        # All but its end are holes: only its size matters.
        content.truncate(SIZE - 4)
        content.seek(SIZE - 4)
        content.write(b"film")
    with Memory() as memory:
        assert store.put(file, film)
        assert store.copy(film, copy)
        store.download(copy, home)
    assert (home.stat().st_size, tail(home)) == (SIZE, b"film")
    for where in (film, copy):
        store.remove(where)
    assert memory.growth_bytes < MOST_GROWTH
    home.unlink()


def tail(file: Path) -> bytes:
    with file.open("rb") as content:
        content.seek(-4, 2)
        return content.read()
