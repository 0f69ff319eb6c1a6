"""Chunks as people name them on the command line: `3`, `3-7`, `3,7-9`."""

import re
from collections.abc import Iterable

from longtake.errors import BadJobError
from longtake.models.job import MOST_CHUNKS
from longtake.ranges import Range, RangeSet

_PART = re.compile(r"(\d{1,7})(?:-(\d{1,7}))?", re.ASCII)


def chunk_ranges(words: Iterable[str]) -> tuple[Range, ...]:
    """Return the chunks that words such as `3`, `3-7` and `3, 7-9` name, both ends of a range included.

    Raises:
        BadJobError: A word is no chunk.
    """
    named = RangeSet()
    for word in words:
        for part in word.split(","):
            found = _PART.fullmatch(part.strip())
            first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
            if not found or last >= MOST_CHUNKS:
                raise BadJobError(f"--chunk: {word!r} is no chunk; write its number, as in --chunk 3 or --chunk 3-7")
            if last < first:
                raise BadJobError(f"--chunk: {word!r} ends before it begins; write --chunk {last}-{first}")
            named.add(first, last + 1)
    return named.ranges


def as_words(chunks: Iterable[Range], most: int = 5) -> str:
    """Return the first of these chunks as `--chunk` takes them."""
    parts = [str(start) if stop == start + 1 else f"{start}-{stop - 1}" for start, stop in chunks]
    return ",".join(parts[:most])
