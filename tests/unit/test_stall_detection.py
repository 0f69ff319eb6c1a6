"""What stands still and what lingers: movement, and looks at outputs, with times made up."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from activities.backends.stall_detection import LingerDetector, OutputsSnapshot, StallDetector, inspect_outputs
from activities.processes.render_process import Usage


@dataclass
class Film:
    """Movement over a time of looks, four a second, with a new sample of the usage each second."""

    movement: StallDetector
    now: float = 0.0
    cpu: float = 0.0
    io: float = 0.0
    sampled: Usage = field(default_factory=Usage)

    def run(self, seconds: float, *, signs: object = None, cpu: float = 0.0, io: float = 0.0) -> float | None:
        """Return when it stood still, if it did; CPU and I/O are what it uses in a second."""
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            self.cpu += cpu / 4
            self.io += io / 4
            if self.now % 1 == 0:
                self.sampled = Usage(cpu_seconds=self.cpu, io_bytes=int(self.io))
            self.movement.update(self.now, signs, self.sampled)
            if self.movement.is_stalled(self.now):
                return self.now
        return None


def test_what_does_nothing_stands_still() -> None:
    # One second more, which a sample may be late.
    assert Film(StallDetector(10)).run(60) == 11


@pytest.mark.parametrize("window", [1, 10, 600])
@pytest.mark.parametrize(
    ("cpu", "io"), [(0.003, 0), (0.005, 9000), (0.0, 7000)], ids=["ticking", "browser", "shell loop"]
)
def test_an_idle_program_that_wakes_up_at_times_stands_still(window: float, cpu: float, io: float) -> None:
    assert Film(StallDetector(window)).run(4 * window + 8, cpu=cpu, io=io) is not None


@pytest.mark.parametrize("window", [1, 10, 600])
@pytest.mark.parametrize(("cpu", "io"), [(1.0, 0), (0.05, 0), (0, 1e6)], ids=["busy", "a little busy", "reading"])
def test_what_is_silent_and_busy_does_not_stand_still(window: float, cpu: float, io: float) -> None:
    assert Film(StallDetector(window)).run(5 * window, cpu=cpu, io=io) is None


def test_progress_counts_also_without_work() -> None:
    film = Film(StallDetector(10))
    for frame in range(20):
        assert film.run(5, signs=(frame, 0)) is None

    assert film.movement.silent_seconds(film.now) == 4.75


def test_work_that_ends_is_seen_to_end() -> None:
    film = Film(StallDetector(10))
    assert film.run(30, cpu=1) is None

    assert film.run(60) == 41
    assert film.movement.cpu_seconds == 0


def test_evidence_says_what_little_was_used() -> None:
    film = Film(StallDetector(10))

    assert film.run(60, cpu=0.003, io=100) == 11
    assert film.movement.cpu_seconds == pytest.approx(0.033)
    assert film.movement.io_bytes == 1100
    assert film.movement.still_seconds(film.now) == 11


def test_an_ended_process_that_takes_its_sums_with_it_is_no_work() -> None:
    movement = StallDetector(10)
    movement.update(0, None, Usage(cpu_seconds=50, io_bytes=10**9))
    movement.update(1, None, Usage(cpu_seconds=50, io_bytes=10**9))
    movement.update(5, None, Usage(cpu_seconds=1, io_bytes=0))
    movement.update(6, None, Usage(cpu_seconds=1.01, io_bytes=10))

    assert movement.still_seconds(6) == 6
    movement.update(7, None, Usage(cpu_seconds=2, io_bytes=10))
    assert movement.still_seconds(7) == 0


STATE = ((100, 1),)
BEFORE = ((50, 0),)


def whole(state: tuple[tuple[int, int], ...] = STATE, seconds: float = 0.0) -> OutputsSnapshot:
    return OutputsSnapshot(state, was_checked=True, is_whole=True, seconds=seconds)


def broken(seconds: float = 0.0) -> OutputsSnapshot:
    return OutputsSnapshot(STATE, was_checked=True, is_whole=False, seconds=seconds)


GROWING = OutputsSnapshot(BEFORE, was_checked=False, is_whole=False, seconds=0.0)
MISSING = OutputsSnapshot(None, was_checked=False, is_whole=False, seconds=0.0)


def next_look(linger: LingerDetector, now: float) -> float:
    """Return how long until the next look is due."""
    return next(step / 4 for step in range(100_000) if linger.is_due(now + step / 4, all_done=False))


def test_outputs_that_stay_whole_are_outlived() -> None:
    linger = LingerDetector(60)

    assert not linger.record_look(10, 10.1, whole())
    assert linger.whole_at == 10
    assert next_look(linger, 10.25) == 59.75
    assert linger.record_look(70, 70.1, whole())


def test_outputs_that_change_begin_anew() -> None:
    linger = LingerDetector(60)
    linger.record_look(10, 10, whole())

    assert not linger.record_look(70, 70, GROWING)
    assert linger.whole_at is None
    assert not linger.record_look(71, 71, whole(BEFORE))
    assert not linger.record_look(130, 130, whole(BEFORE))
    assert linger.record_look(131, 131, whole(BEFORE))


def test_one_long_proof_is_not_two() -> None:
    assert not LingerDetector(1).record_look(10, 500, whole(seconds=490))


def test_files_that_are_missing_or_growing_are_looked_at_once_a_second() -> None:
    linger = LingerDetector(60)
    for now in range(1, 50):
        assert not linger.record_look(now, now, GROWING if now % 2 else MISSING)
        assert next_look(linger, now) == 1


def test_proofs_that_fail_are_asked_for_less_and_less_often() -> None:
    linger = LingerDetector(60)
    now, pauses = 1.0, []
    for _ in range(8):
        linger.record_look(now, now, broken())
        pauses.append(next_look(linger, now))
        now += pauses[-1]

    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]


def test_a_dear_proof_takes_a_tenth_of_the_time_at_most() -> None:
    linger = LingerDetector(60)
    linger.record_look(10, 40, broken(seconds=30))

    assert next_look(linger, 40) == 300


def test_all_frames_done_makes_the_next_look_due_at_once() -> None:
    linger = LingerDetector(60)
    linger.record_look(10, 40, broken(seconds=30))

    assert not linger.is_due(41, all_done=False)
    assert linger.is_due(41, all_done=True)
    linger.record_look(41, 42, broken(seconds=1))
    assert not linger.is_due(43, all_done=True)


def test_the_proof_is_asked_for_when_files_have_come_to_rest(tmp_path: Path) -> None:
    asked = []

    def is_whole() -> bool:
        asked.append(True)
        return True

    outputs = [tmp_path / "1.png", tmp_path / "2.png"]
    outputs[0].write_bytes(b"1")
    nothing = inspect_outputs(outputs, is_whole, None)
    outputs[1].write_bytes(b"2")
    begun = inspect_outputs(outputs, is_whole, nothing.state)
    outputs[0].write_bytes(b"11")
    grown = inspect_outputs(outputs, is_whole, begun.state)
    os.utime(outputs[0], (5, 5))
    touched = inspect_outputs(outputs, is_whole, grown.state)

    assert [nothing.state, begun.was_checked, grown.was_checked, touched.was_checked, asked] == [
        None,
        False,
        False,
        False,
        [],
    ]
    rested = inspect_outputs(outputs, is_whole, touched.state)
    assert rested.is_whole
    assert asked == [True]


def test_a_file_that_goes_while_it_is_proven_is_no_failure(tmp_path: Path) -> None:
    def is_whole() -> bool:
        raise FileNotFoundError(tmp_path)

    assert not inspect_outputs((), is_whole, ()).is_whole


def test_a_proof_that_cannot_be_made_is_no_proof() -> None:
    sight = inspect_outputs((), lambda: False, ())

    assert sight.was_checked
    assert not sight.is_whole
