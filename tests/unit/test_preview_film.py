"""Previews are cut into segments that only ever become more, each of frames that are finished."""

from itertools import pairwise

import pytest

from longtake import RenderJobSpec
from longtake.chunks import ChunkPlan
from longtake.ranges import RangeSet
from longtake.web.preview_film import MOST_SEGMENTS, PreviewFilm, PreviewSegment
from longtake.web.problems import ProblemError


def film(
    count: int, per_chunk: int, finished: int, output: str = "c/{chunk}.mp4", *, is_over: bool = False
) -> PreviewFilm:
    job = RenderJobSpec.model_validate(
        {
            "frames": {"count": count, "per_chunk": per_chunk},
            "fps": 25,
            "command": ["render", "{output}"],
            "chunk_output": output,
            "base_dir": "/farm",
        }
    )
    return PreviewFilm(job, ChunkPlan(job), RangeSet([(0, finished)] if finished else []), is_over=is_over)


@pytest.mark.parametrize("output", ["c/{chunk}.mp4", "f/{frame}.png"])
@pytest.mark.parametrize("per_chunk", [1, 7, 50, 120])
def test_a_list_only_ever_gets_longer_and_has_each_frame_once(output: str, per_chunk: int) -> None:
    before: list[PreviewSegment] = []
    count = 480
    for finished in range(1, -(-count // per_chunk) + 1):
        segments, _ = film(count, per_chunk, finished, output).list_segments(0)
        assert segments[: len(before)] == before
        before = segments

    assert sum(segment.frames for segment in before) == count
    assert all(one.at + one.frames == other.at for one, other in pairwise(before))
    whole = film(count, per_chunk, -(-count // per_chunk), output)
    frames = [
        part
        for segment in before
        for chunk, start, stop in whole.walk(segment)
        for part in whole.plan[chunk].frames[start:stop]
    ]
    assert frames == list(range(count))


def test_what_may_still_grow_is_not_listed_and_what_has_ended_is() -> None:
    assert film(100, 10, 3).list_segments(0) == ([], False)
    assert film(100, 10, 3, is_over=True).list_segments(0) == ([PreviewSegment(0, 0, 30, 0)], True)


def test_a_list_is_bounded() -> None:
    segments, is_over = film(10_000_00, 50, 20_000).list_segments(0)

    assert (len(segments), is_over) == (MOST_SEGMENTS, True)


@pytest.mark.parametrize(
    ("segment", "kind"),
    [
        (PreviewSegment(3, 0, 10, 0), "nothing-finished"),
        (PreviewSegment(2, 0, 20, 0), "nothing-finished"),
        (PreviewSegment(0, 5, 5, 0), "no-such-segment"),
        (PreviewSegment(0, 0, 15, 0), "no-such-segment"),
    ],
)
def test_no_segment_reaches_into_what_is_not_finished(segment: PreviewSegment, kind: str) -> None:
    with pytest.raises(ProblemError) as problem:
        list(film(100, 10, 3).walk(segment))

    assert problem.value.kind == kind
