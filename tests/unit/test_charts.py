"""Drawings of reports: each chunk has a cell, and what is rare is seen among a million."""

import io
import re
from base64 import b64decode

import numpy as np
import pytest
from av import VideoFrame
from av import open as open_media
from numpy.typing import NDArray

from longtake.chunk_history import ChunkFacts, ChunkFrames, ChunkHistory, ChunkState
from longtake.chunks import ChunkPlan
from longtake.models.frames import FrameRange
from longtake.models.job import RenderJobSpec
from longtake.render_timeline import BarKind, FrameTimes, TimelineBar
from longtake.report.charts import (
    Grid,
    draw_host_map,
    draw_progress,
    draw_state_map,
    draw_timeline,
    draw_times,
    draw_value_map,
    encode_png,
    find_nice_step,
)


def make_history(states: list[ChunkState]) -> ChunkHistory:
    frames = FrameRange(count=len(states), per_chunk=1)
    job = RenderJobSpec(frames=frames, command=("r", "{output}"), chunk_output="{chunk}.txt")
    numbers = bytearray(state.number for state in states)
    facts = ChunkFacts(len(states))
    for chunk in range(len(states)):
        facts.host[chunk] = 1 + chunk % 2
    return ChunkHistory(facts, numbers, ("anna", "berta"), ChunkFrames(job, ChunkPlan(job)))


def decode_png(data: bytes) -> NDArray[np.uint8]:
    with open_media(io.BytesIO(data), "r") as container:
        frame = next(container.decode(video=0))
        assert isinstance(frame, VideoFrame)
        return np.asarray(frame.to_ndarray(format="rgba"), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 7, 999, 4000, 4001, 100_000, 1_000_000])
def test_a_grid_holds_all_cells_and_is_no_wall(count: int) -> None:
    grid = Grid.fit(count)

    assert grid.columns * grid.rows >= count
    assert grid.columns * (grid.rows - 1) < count
    assert grid.height <= 1000
    left, top = grid.place(count - 1)
    assert left + grid.cell <= 1080
    assert top + grid.cell <= grid.height


def test_a_png_is_what_decoders_read() -> None:
    picture = decode_png(encode_png(bytes([0, 1, 1, 0, 0, 1]), 3, ["00000000", "ff8000ff"]))

    assert picture.shape == (2, 3, 4)
    assert picture[0, 1].tolist() == [255, 128, 0, 255]
    assert picture[0, 0, 3] == 0


def test_each_state_has_a_shape_of_its_own() -> None:
    drawn = draw_state_map(make_history(list(ChunkState)))

    kinds = re.findall(r'<path class="([\w -]+)"', drawn)
    assert {"done", "todo", "run", "run-line", "ice", "fail-line", "skip"} <= set(kinds)
    assert "<title>chunk 5, frames 5 to 5: failed</title>" in drawn


def test_one_failure_among_a_million_is_seen() -> None:
    states = [ChunkState.DONE] * 1_000_000
    states[500_000] = ChunkState.FAILED
    drawn = draw_state_map(make_history(states))

    data = re.findall(r'href="data:image/png;base64,([^"]+)"', drawn)
    assert len(data) == 1
    picture = decode_png(b64decode(data[0]))
    assert (picture[:, :, 0] == 0xE0).sum() >= 9
    assert len(drawn) < 100_000


def test_maps_of_values_and_hosts_leave_out_what_is_not_finished() -> None:
    history = make_history([ChunkState.DONE, ChunkState.TODO, ChunkState.DONE])

    for drawn in (draw_value_map(history, [1, 2, 3], [2, 2.5], "time"), draw_host_map(history, ["berta", "anna"])):
        assert drawn.count("<image") == 1


def test_bars_of_one_moment_stand_in_lanes_and_names_are_escaped() -> None:
    def bar(start: float, stop: float, kind: BarKind = BarKind.RENDERED) -> TimelineBar:
        return TimelineBar(host="<b>", start=1.8e9 + start, stop=1.8e9 + stop, chunk=0, kind=kind)

    drawn = draw_timeline([bar(0, 60), bar(10, 50), bar(60, 70, BarKind.FAILED)], ["<b>"])

    assert "&lt;b&gt;" in drawn
    assert "<b>" not in drawn
    tops = set(re.findall(r"M[\d.]+ ([\d.]+)h", drawn))
    assert len(tops) == 2
    assert draw_timeline([], []) == ""


def test_a_progress_bar_has_the_shares_it_is_given() -> None:
    drawn = draw_progress([("done", 0.5), ("fail", 0.25), ("run", 0)])

    assert re.findall(r'class="(\w+)" x="([\d.]+)" y="0" width="([\d.]+)"', drawn) == [
        ("done", "0.00", "540.00"),
        ("fail", "540.00", "270.00"),
    ]


def test_frame_times_are_drawn_with_what_half_and_most_took() -> None:
    times = FrameTimes(chunks=3, mean=1, p50=1, p95=2, longest=3, bin_seconds=0.5, bins=(0, 1, 1, 0, 1))

    drawn = draw_times(times)

    assert drawn.count('<rect class="done"') == 5
    assert ">p50</text>" in drawn
    assert draw_times(FrameTimes()) == ""


@pytest.mark.parametrize(
    ("least", "step"), [(0.013, 0.02), (0.9, 1), (3, 5), (11, 20), (59, 100), (61, 120), (4000, 7200), (1e9, 86400)]
)
def test_ticks_stand_at_round_numbers(least: float, step: float) -> None:
    assert find_nice_step(least) == pytest.approx(step)
