"""Frames as people write them, and how they are cut into chunks."""

import json
from itertools import chain
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from longtake.chunks import ChunkPlan
from longtake.errors import BadJobError
from longtake.frame_list import FrameChunks, describe_frames, format_frame_list, parse_frame_list
from longtake.jobfile.loader import load_job, read_job
from longtake.models.frames import FrameRange
from longtake.models.job import RenderJobSpec

JOB = {
    "fps": 24,
    "command": ["render", "-s", "{start}", "-e", "{last}", "-j", "{step}", "{output_dir}"],
    "chunk_output": "f/f_{frame:04}.png",
}


def read(frames: object, **changes: object) -> RenderJobSpec:
    return read_job({**JOB, "frames": frames, **changes})


def chunks_of(job: RenderJobSpec) -> list[str]:
    return [describe_frames(chunk.frames) for chunk in ChunkPlan(job)]


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("1-100", "1-100"),
        ("15", "15"),
        ("1001-1100x2", "1001-1099x2"),
        ("1-10,15,20-100:2", "1-10,15,20-100x2"),
        ("-5--1", "-5--1"),
        ("-10..5", "-10-5"),
        ("-5 - 4, 20 to 22", "-5-4,20-22"),
        ("1-10 15 20-30", "1-10,15,20-30"),
        ("1-9 by 4; 11", "1-9x4,11"),
        ("1-9STEP4", "1-9x4"),
        # Given in any order and more than once, each frame is rendered once.
        ("20-30,1-10", "1-10,20-30"),
        ("1-10,11-20,21", "1-21"),
        ("1-10,5-15,5", "1-15"),
        ("1-9x2,2-10x2", "1-10"),
        ("1-100x10,1-100", "1-100"),
        # Single frames that happen to be at equal distances have no step.
        ("10,20,30", "10,20,30"),
        # A step beyond the end leaves one frame.
        ("1-10x20", "1"),
        # As text processors, mails and keyboards of other languages write dashes, signs and digits.
        ("1\u201310", "1-10"),
        ("\u22125\u2014\u22123", "-5--3"),
        ("1-10\xd72\uff0c\uff11\uff15", "1-9x2,15"),
    ],
)
def test_a_list_of_frames_is_read(text: str, runs: str) -> None:
    assert format_frame_list(parse_frame_list(text)) == runs
    assert parse_frame_list(runs) == parse_frame_list(text)


@given(
    st.lists(st.tuples(st.integers(-200, 200), st.integers(1, 30), st.integers(1, 7)), min_size=1, max_size=6),
    st.integers(1, 9),
)
def test_chunks_have_every_frame_of_a_list_once(parts: list[tuple[int, int, int]], per_chunk: int) -> None:
    written = [range(first, first + count * step, step) for first, count, step in parts]
    runs = parse_frame_list(format_frame_list(written))
    chunks = FrameChunks(runs, per_chunk)

    frames = [frame for chunk in chunks for frame in chunk]
    assert frames == sorted(set(chain(*written)))
    assert all(0 < len(chunk) <= per_chunk and chunk.stop == chunk[-1] + 1 for chunk in chunks)
    assert [chunks.find_chunk(frame) for frame in frames] == [n for n, chunk in enumerate(chunks) for _ in chunk]
    assert all(chunks.find_chunk(frame) is None for frame in range(-250, 500) if frame not in set(frames))
    assert [chunks.count_frames_before(index) for index in range(len(chunks) + 1)] == [
        sum(len(chunks[before]) for before in range(index)) for index in range(len(chunks) + 1)
    ]


@pytest.mark.parametrize(
    "frames",
    ["1-100", {"range": "1-100"}, {"first": 1, "count": 100}, {"range": "1-50,51-100"}, {"count": 100, "first": 1}],
)
def test_the_same_frames_are_the_same_work(frames: object) -> None:
    assert read(frames).digest() == RenderJobSpec(frames=FrameRange(first=1, count=100), **JOB).digest()


@pytest.mark.parametrize(
    ("frames", "chunks", "total"),
    [
        ({"range": "1-10,15,20-30", "per_chunk": 5}, ["1-5", "6-10", "15", "20-24", "25-29", "30"], 22),
        ({"first": 1, "count": 50, "per_chunk": 20, "step": 2}, ["1-39x2", "41-79x2", "81-99x2"], 50),
        ({"range": "1-10", "step": 3}, ["1-10x3"], 4),
        ([-2, "1-3", 7], ["-2", "1-3", "7"], 5),
        ({"first": -5, "count": 10, "per_chunk": 5}, ["-5--1", "0-4"], 10),
    ],
)
def test_a_list_is_cut_into_chunks_of_runs(frames: object, chunks: list[str], total: int) -> None:
    job = read(frames)

    assert chunks_of(job) == chunks
    assert (job.chunk_count, ChunkPlan(job).frame_count) == (len(chunks), total)
    # What travels is read again as the same job.
    assert read_job(json.loads(json.dumps(job.to_wire()))) == job
    assert RenderJobSpec.from_json(job.model_dump_json(exclude_defaults=True).encode()) == job


def test_a_chunk_with_a_step_names_its_frames_and_tells_the_step() -> None:
    chunk = ChunkPlan(read({"first": 1, "count": 6, "step": 2, "per_chunk": 3}))[1]

    assert chunk.outputs() == ("f/f_0007.png", "f/f_0009.png", "f/f_0011.png")
    command = chunk.expand_command(chunk.command_template, chunk.place_outputs(lambda path: f"/o/{path}"))
    assert command[1:] == ("-s", "7", "-e", "11", "-j", "2", "/o/f")
    part = chunk.slice_frames(1, 3)
    assert (describe_frames(part.frames), part.outputs()) == ("9-11x2", chunk.outputs()[1:])
    assert describe_frames(chunk.slice_frames(2, 3).frames) == "11"


def test_negative_frames_are_named_as_printf_names_them() -> None:
    (chunk,) = ChunkPlan(read("-5--4"))

    assert chunk.outputs() == ("f/f_-005.png", "f/f_-004.png")
    assert chunk.place_outputs(str)[0].output % -5 == chunk.outputs()[0]
    with pytest.raises(BadJobError, match="output: chunk 0 writes this file too"):
        read("-5--4", output="f/f_-005.png", merge_command=["merge", "{output}"])


@pytest.mark.parametrize(
    ("written", "overrides", "chunks"),
    [
        ("{first: 1, count: 100, per_chunk: 2}", {"frames": "12-15"}, ["12-13", "14-15"]),
        ("1-100", {"frames.per_chunk": 60}, ["1-60", "61-100"]),
        ("{count: 100, per_chunk: 60}", {"frames": {"first": 1, "count": 3}}, ["1-3"]),
        ("[1, 5]", {"frames.step": 2}, ["1", "5"]),
    ],
)
def test_frames_are_set_from_outside(
    tmp_path: Path, written: str, overrides: dict[str, object], chunks: list[str]
) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(JOB) + f"frames: {written}\n")

    assert chunks_of(load_job(tmp_path / "job.yaml", overrides=overrides)) == chunks


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ("10-1", "frames: has '10-1', which runs backwards; write 1-10"),
        # The same frames, with their step.
        ("20-1x2", "frames: has '20-1x2', which runs backwards; write 2-20x2"),
        ("10-1x-3", "frames: has '10-1x-3', which runs backwards; write 1-10x3"),
        ("1-10x-2", "frames: has '1-10x-2', a step below 0; write 1-10x2"),
        (
            "1 -5",
            "frames: has '1 -5', a blank and a dash, which may be a range or a number below 0; write 1,-5, or 1-5",
        ),
        (
            "-5 -3 -1",
            "frames: has '-5 -3 -1', a blank and a dash, which may be a range or a number below 0; write -5,-3,-1",
        ),
        (
            {"first": 1, "last": 10},
            'frames.last: is not a key of a job; write range, as in range: "1-10", or first and count',
        ),
        (
            {"start": 1, "end": 10},
            'frames.start: is not a key of a job; write range, as in range: "1-10", or first and count',
        ),
    ],
)
def test_frames_that_may_mean_others_are_refused_with_the_fix(frames: object, sentence: str) -> None:
    with pytest.raises(BadJobError) as caught:
        read(frames)

    assert str(caught.value) == sentence
