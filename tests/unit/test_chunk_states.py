"""What chunks take is learned by the region of the job that they are of."""

import pytest

from workflows.chunk_states import Durations


def test_neighbours_say_what_a_chunk_takes() -> None:
    durations = Durations(6400)
    assert durations.estimate(0) is None

    durations.learn((0, 100), 100, 10)
    durations.learn((6300, 6400), 100, 200)

    assert durations.estimate(50) == 0.1
    assert durations.estimate(3000) == 0.1, "the first half is as its nearest that is known"
    assert durations.estimate(3300) == 2
    assert durations.estimate(6399) == 2


def test_the_latest_durations_count_most() -> None:
    durations = Durations(10)
    durations.learn((0, 1), 1, 1)
    durations.learn((0, 1), 1, 2)
    assert durations.estimate(0) == pytest.approx(1.1)

    durations.learn((0, 1), 100, 200)
    assert durations.estimate(0) == pytest.approx(2, abs=0.001)
