"""Backends: how many frames fit into the life of one."""

# a table is read by rows

import pytest

from longtake.models.backends import count_frames_within


@pytest.mark.parametrize(
    ("frames", "seconds", "fit"), [(50, 1200, 32), (50, 870, 45), (10, 100, 78), (1, 5000, 1), (50, 0, 50)]
)
def test_fewer_frames_are_proposed_from_measured_times(frames: int, seconds: float, fit: int) -> None:
    assert count_frames_within(870, frames=frames, seconds=seconds) == fit
