"""Read frame numbers as people write them, such as `1-10,15,20-100x2`, and cut them into chunks."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

from longtake.text import quote_value

# ffmpeg, printf patterns and most renderers count frames in a signed 32-bit number.
LARGEST_FRAME = 2**31 - 1
# Longer lists are better given as chunks; each part makes a chunk at least.
LONGEST_FRAME_LIST = 20_000
# Of more frames no list of single numbers is made.
MOST_SORTED = 100_000

_PART = re.compile(
    r"(-?\d{1,12})(?:\s*(?:-|\.\.|to)\s*(-?\d{1,12})(?:\s*(?:x|:|by|step|every)\s*(-?\d{1,12}))?)?",
    re.ASCII | re.IGNORECASE,
)
# A range with a blank in it, or a number below 0 behind another one.
_EITHER = re.compile(r"(\d)\s+-(?=\d)", re.ASCII)
# What text processors, mails and keyboards of other languages make of dashes, commas, digits and the sign for times.
_TYPED = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d", "-")
    | {"\xd7": "x", "\uff0c": ",", "\u3001": ",", "\uff1b": ";"}
    | {chr(0xFF10 + digit): str(digit) for digit in range(10)}
)


def describe_frames(numbers: range) -> str:
    """Return frame numbers as `7`, `1-10` or `1-19x2`."""
    if len(numbers) == 1:
        return str(numbers[0])
    return f"{numbers[0]}-{numbers[-1]}" + (f"x{numbers.step}" if numbers.step > 1 else "")


def format_frame_list(runs: Iterable[range]) -> str:
    """Return the shortest text that `parse_frame_list` reads as these runs."""
    return ",".join(map(describe_frames, runs))


@lru_cache(maxsize=64)
def parse_frame_list(text: str, step: int = 1) -> tuple[range, ...]:
    """Parse a list of frames into runs in ascending order; numbers that stand twice are taken once.

    Args:
        text: Numbers and ranges with commas or blanks between, as in `1-10,15,20-100x2`; `..` is a dash too, `:`, `by`,
            `step` and `every` are an `x`.
        step: Step of ranges that name none.

    Raises:
        ValueError: What is wrong and the fix, without the field's name.
    """
    if len(text) > LONGEST_FRAME_LIST:
        raise ValueError(f"has {len(text):,} characters; shorten it to {LONGEST_FRAME_LIST:,}, or write chunks")
    runs = [_read_part(part, step) for part in _split_parts(text.translate(_TYPED))]
    if not runs:
        raise ValueError('is empty; write frames as in "1-10,15,20-100x2"')
    return _merge_runs(sorted(runs, key=lambda run: (run[0], run[-1])))


def list_frames(text: str) -> tuple[int, ...]:
    """Parse a list of frames into their numbers, in ascending order.

    Raises:
        ValueError: What is wrong and the fix, without the field's name.
    """
    runs = parse_frame_list(text)
    if (total := sum(map(len, runs))) > MOST_SORTED:
        raise ValueError(f"has {total:,} frames, and {MOST_SORTED:,} can be named at once; name fewer")
    return tuple(number for run in runs for number in run)


def _split_parts(text: str) -> list[str]:
    parts: list[str] = []
    for part in re.split(r"[,;]", text):
        # Blanks may stand around a dash, and between parts.
        if not part.strip():
            continue
        if _EITHER.search(part):
            alone, ranges = _EITHER.sub(r"\1,-", part.strip()), _EITHER.sub(r"\1-", part.strip())
            raise ValueError(
                f"has {quote_value(part.strip())}, a blank and a dash, which may be a range or a number below 0; write "
                f"{alone}" + (f", or {ranges}" if _PART.fullmatch(ranges) else "")
            )
        words = part.split()
        parts += [part.strip()] if _PART.fullmatch(part.strip()) or not all(map(_PART.fullmatch, words)) else words
    return parts


def _read_part(part: str, step: int) -> range:
    found = _PART.fullmatch(part)
    if found is None:
        raise ValueError(f'has {quote_value(part)}, which is no frame; write frames as in "1-10,15,20-100x2"')
    first, last, own_step = int(found[1]), int(found[2] or found[1]), int(found[3] or step)
    if own_step == 0:
        raise ValueError(f"has {quote_value(part)}, a step of 0; make it at least 1")
    if last < first:
        upwards = describe_frames(range(first, last - 1, -abs(own_step))[::-1])
        raise ValueError(f"has {quote_value(part)}, which runs backwards; write {upwards}")
    if own_step < 0:
        raise ValueError(f"has {quote_value(part)}, a step below 0; write {first}-{last}x{-own_step}")
    if first < -LARGEST_FRAME or last >= LARGEST_FRAME:
        raise ValueError(f"has {quote_value(part)}, beyond {LARGEST_FRAME}, the last number renderers count to")
    return range(first, last + 1, min(own_step, last - first + 1))[:]


def _merge_runs(ordered: Sequence[range]) -> tuple[range, ...]:
    """Join runs of step 1 that touch, and take numbers once that stand in several runs."""
    if any(left[-1] >= right[0] for left, right in pairwise(ordered)):
        total = sum(map(len, ordered))
        if total > MOST_SORTED:
            raise ValueError(f"has parts that overlap, with {total:,} frames; write each frame once")
        ordered = [range(number, number + 1) for number in sorted({number for run in ordered for number in run})]
    runs: list[range] = []
    for run in ordered:
        # A run of one number has no step.
        plain = run.step == 1 or len(run) == 1
        if runs and plain and runs[-1].step == 1 and runs[-1].stop == run[0]:
            runs[-1] = range(runs[-1].start, run[-1] + 1)
        else:
            runs.append(range(run[0], run[0] + 1) if len(run) == 1 else range(run[0], run[-1] + 1, run.step))
    return tuple(runs)


class FrameChunks(Sequence[range]):
    """The frame numbers of each chunk: each run is cut into chunks of equal length, the last one may be shorter.

    Args:
        runs: Runs of frame numbers, in ascending order.
        per_chunk: Frames a chunk.
    """

    def __init__(self, runs: Sequence[range], per_chunk: int) -> None:
        self._runs = runs
        self._per_chunk = per_chunk
        self._firsts = [run[0] for run in runs]
        self._chunks = [0, *accumulate(-(-len(run) // per_chunk) for run in runs)]
        self._frames = [0, *accumulate(map(len, runs))]

    def __len__(self) -> int:
        return self._chunks[-1]

    def __getitem__(self, index: int) -> range:  # type: ignore[override]  # no slices
        if not 0 <= index < len(self):
            raise IndexError(f"chunk {index} of {len(self)}")
        number = bisect_right(self._chunks, index) - 1
        first = (index - self._chunks[number]) * self._per_chunk
        numbers = self._runs[number][first : first + self._per_chunk]
        # The frame after the last, whatever the step.
        return range(numbers[0], numbers[-1] + 1, numbers.step if len(numbers) > 1 else 1)

    def count_frames_before(self, chunk: int) -> int:
        """Return the number of frames of all chunks before a chunk, or of all of them."""
        number = bisect_right(self._chunks, chunk) - 1
        if number == len(self._runs):
            return self._frames[-1]
        within = (chunk - self._chunks[number]) * self._per_chunk
        return self._frames[number] + min(within, len(self._runs[number]))

    def find_chunk(self, frame: int) -> int | None:
        """Return the chunk that renders a frame; None if none does."""
        number = bisect_right(self._firsts, frame) - 1
        if number < 0 or frame not in self._runs[number]:
            return None
        return self._chunks[number] + self._runs[number].index(frame) // self._per_chunk


@lru_cache(maxsize=64)
def cut_frames(runs: tuple[range, ...], per_chunk: int) -> FrameChunks:
    """Cut runs of frame numbers into chunks; the same cut is made once."""
    return FrameChunks(runs, per_chunk)
