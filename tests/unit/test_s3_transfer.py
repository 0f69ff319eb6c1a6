"""Parts of large files in a bucket."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from longtake.stores.s3_transfer import ranges_of


@given(size=st.integers(1, 50 << 40), part=st.integers(5 << 20, 64 << 20))
def test_parts_are_of_one_size_and_never_too_many(size: int, part: int) -> None:
    parts = ranges_of(size, part)
    assert len(parts) <= 9_000
    assert {len(one) for one in parts[:-1]} <= {parts[0].stop}
    assert (parts[0].start, parts[-1].stop) == (0, size)
    assert all(one.stop == after.start for one, after in pairwise(parts))
