"""Cutting a job into chunks, and what a chunk's templates become."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.chunks import Chunk, ChunkPlan
from longtake.frame_list import LARGEST_FRAME
from longtake.models.frames import MOST_CHUNKS, ChunkList, ChunkSpec, FrameRange
from longtake.models.job import RenderJobSpec
from longtake.models.outputs import OutputTemplate
from longtake.output_patterns import OutputPlaces

frame_ranges = st.builds(
    FrameRange,
    first=st.integers(0, 10_000),
    count=st.integers(1, 2_000),
    per_chunk=st.integers(1, 2_100),
)


def job(frames: FrameRange, **changes: object) -> RenderJobSpec:
    values: dict[str, object] = {
        "frames": frames, "fps": "30", "command": ("render", "{output}"), "chunk_output": "c/{chunk:06}.mp4"
    }  # fmt: skip
    return RenderJobSpec.model_validate(values | changes)


@given(frame_ranges)
def test_chunks_cover_all_frames_once_and_in_order(frames: FrameRange) -> None:
    chunks = list(ChunkPlan(job(frames)))

    assert [n for chunk in chunks for n in range(chunk.start, chunk.stop)] == list(
        range(frames.first, frames.first + frames.count)
    )
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert all(chunk.count == frames.per_chunk for chunk in chunks[:-1])
    assert 0 < chunks[-1].count <= frames.per_chunk


@given(frame_ranges, st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 2_000))))
def test_frames_of_chunks_are_counted(frames: FrameRange, ranges: list[tuple[int, int]]) -> None:
    plan = ChunkPlan(job(frames))
    within = [(start, min(stop, len(plan))) for start, stop in ranges if start < min(stop, len(plan))]

    assert plan.count_frames(within) == sum(plan[index].count for start, stop in within for index in range(start, stop))
    assert plan.frame_count == frames.count


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 100)), min_size=1, max_size=30))
def test_listed_chunks_are_planned_as_they_are_listed(listed: list[tuple[int, int]]) -> None:
    chunks = tuple(ChunkSpec(start=start, count=count) for start, count in listed)
    plan = ChunkPlan(RenderJobSpec(chunks=chunks, fps="30", command=("r",), chunk_output="c/{chunk}.mp4"))

    assert [(chunk.start, chunk.count) for chunk in plan] == listed
    assert plan.frame_count == sum(count for _, count in listed)
    assert plan.count_frames([(0, 1)]) == listed[0][1]


def test_a_million_chunks_take_no_memory_and_a_kilobyte_on_the_wire() -> None:
    tracemalloc.start()
    try:
        million = job(FrameRange(count=MOST_CHUNKS * 24, per_chunk=24))
        plan = ChunkPlan(million)
        last = plan[MOST_CHUNKS - 1]
        frames = plan.frame_count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(plan) == MOST_CHUNKS
    assert frames == MOST_CHUNKS * 24
    assert (last.start, last.stop) == ((MOST_CHUNKS - 1) * 24, MOST_CHUNKS * 24)
    assert peak < 100_000
    assert len(json.dumps(million.to_wire())) < 1024


def test_the_last_frame_that_renderers_count_to_can_be_rendered() -> None:
    frames = FrameRange(first=LARGEST_FRAME - 10, count=10, per_chunk=4)

    assert [(chunk.start, chunk.stop) for chunk in ChunkPlan(job(frames))][-1][1] == LARGEST_FRAME


@pytest.mark.parametrize("index", [-1, 4, 10**9])
def test_there_is_no_chunk_beyond_the_job(index: int) -> None:
    with pytest.raises(IndexError, match=f"chunk {index} of 4"):
        ChunkPlan(job(FrameRange(count=10, per_chunk=3)))[index]


def test_a_list_in_a_file_is_planned_from_what_was_read() -> None:
    reference = ChunkList(path="l.json", sha256="0" * 64, count=2)
    in_file = RenderJobSpec(chunks=reference, fps="30", command=("render", "{start}"), chunk_output="c/{chunk}.mp4")
    plan = ChunkPlan(
        in_file, [ChunkSpec(start=5, count=2), ChunkSpec(start=9, count=1, output="x.mp4", command=("y",))]
    )

    assert [chunk.outputs() for chunk in plan] == [("c/0.mp4",), ("x.mp4",)]
    assert [chunk.command_template for chunk in plan] == [("render", "{start}"), ("y",)]
    assert plan.frame_count == 3


def places(chunk: Chunk) -> tuple[str, str]:
    (place,) = chunk.place_outputs(str)
    return place.output, place.output_dir


def chunk_of(output: str, *command: str) -> Chunk:
    templates = (OutputTemplate("chunk_output", output),)
    return Chunk(index=2, frames=range(20, 23), templates=templates, command_template=command)


def test_a_video_chunk_publishes_one_file() -> None:
    chunk = chunk_of("c/{chunk:06}.mp4")

    assert chunk.outputs() == ("c/000002.mp4",)
    assert places(chunk) == ("c/000002.mp4", "c")


def test_an_image_chunk_publishes_a_file_for_each_frame() -> None:
    chunk = chunk_of("f/{chunk}/{frame:04}.png")

    assert chunk.outputs() == ("f/2/0020.png", "f/2/0021.png", "f/2/0022.png")
    assert places(chunk) == ("f/2/%04d.png", "f/2")


def test_a_command_is_given_its_words() -> None:
    chunk = chunk_of("c.mp4", "-s", "{start}", "-e", "{last}", "-n", "{count}", "{output}", "{{x}}", "{output_dir}/log")
    command = chunk.expand_command(chunk.command_template, (OutputPlaces((), "/a/c.mp4", "/a/c.mp4"),))

    assert command == ("-s", "20", "-e", "22", "-n", "3", "/a/c.mp4", "{x}", "/a/log")


def test_what_stands_in_a_path_is_not_expanded_again() -> None:
    chunk = chunk_of("c.mp4", "{output}")

    assert chunk.expand_command(chunk.command_template, (OutputPlaces((), "/a/{chunk}/%d", ""),)) == ("/a/{chunk}/%d",)


@pytest.mark.parametrize(
    ("command", "in_place"),
    [(("r", "{output}"), False), (("r", "{output_dir}/x"), False), (("r", "x.mov"), True), (("r", "{{output}}"), True)],
)
def test_a_command_that_names_its_output_itself_is_known(command: tuple[str, ...], in_place: bool) -> None:
    assert chunk_of("x.mov", *command).writes_in_place is in_place


def frames_chunk(*command: str, output: str = "{start}/f_{frame:04}.png") -> Chunk:
    templates = (OutputTemplate("chunk_output", output),)
    return Chunk(index=2, frames=range(20, 30), templates=templates, command_template=("render", *command))


@pytest.mark.parametrize(
    ("chunk", "divisible"),
    [
        (frames_chunk("{output}", "{start}", "{count}"), True),
        (frames_chunk("{output_dir}", "from={start:04}", "to={last}"), True),
        (frames_chunk("{output}", "{start}", "{stop}"), True),
        (frames_chunk("{output}", "{chunk}", "{count}"), False),
        (frames_chunk("{output}", "{start}"), False),
        (frames_chunk("{output}", "{{start}}", "{count}"), False),
        (frames_chunk("out.png", "{start}", "{count}"), False),
        (frames_chunk("{output}", "{start}", "{count}", output="{chunk}.mp4"), False),
    ],
)
def test_a_chunk_is_divisible_when_its_command_is_told_which_frames(chunk: Chunk, divisible: bool) -> None:
    assert chunk.is_divisible is divisible


def test_a_part_renders_its_own_frames_into_the_files_of_the_whole() -> None:
    whole = frames_chunk("{output}", "{chunk}", "{start}", "{last}", "{count}")
    part = whole.slice_frames(4, 7)

    command = part.expand_command(part.command_template, (OutputPlaces((), "o", "o"),))
    assert command == ("render", "o", "2", "24", "26", "3")
    assert part.outputs() == whole.outputs()[4:7] == ("20/f_0024.png", "20/f_0025.png", "20/f_0026.png")
    assert part.place_outputs(str) == whole.place_outputs(str)
    assert part.slice_frames(1, 2).outputs() == ("20/f_0025.png",)
    with pytest.raises(ValueError, match="no part of"):
        whole.slice_frames(29, 31)
