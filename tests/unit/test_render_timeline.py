"""Who rendered what, when, and how long frames took."""

from array import array
from datetime import UTC, datetime, timedelta

import pytest

from longtake.chunk_history import ChunkFacts, ChunkFrames, ChunkHistory, ChunkState
from longtake.chunks import ChunkPlan
from longtake.models.frames import FrameRange
from longtake.models.job import RenderJobSpec
from longtake.models.status import JobStatus, RunningChunk
from longtake.render_timeline import BarKind, find_quantile, make_timeline, measure_frame_times, sum_up_hosts
from longtake.stores.try_records import FailedTry

START = 1_800_000_000.0


def make_history(
    count: int, *, seconds: list[float], hosts: tuple[str, ...] = ("anna",), per_chunk: int = 1
) -> ChunkHistory:
    """Return the history of chunks that hosts took in turn, one after the other; the rest is to do."""
    frames = FrameRange(count=count * per_chunk, per_chunk=per_chunk)
    job = RenderJobSpec(frames=frames, command=("r", "{output}"), chunk_output="{chunk}.txt", fps=24)
    facts, states = ChunkFacts(count), bytearray(count)
    ends = [START] * len(hosts)
    for chunk, took in enumerate(seconds):
        host = chunk % len(hosts)
        ends[host] += took
        states[chunk] = ChunkState.DONE.number
        facts.host[chunk], facts.render_seconds[chunk], facts.published_at[chunk] = host + 1, took, ends[host]
        facts.cpu_seconds[chunk], facts.peak_memory_bytes[chunk] = 2 * took, 1024
    return ChunkHistory(facts, states, hosts, ChunkFrames(job, ChunkPlan(job)))


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(START + seconds, UTC)


def test_each_try_is_a_bar_of_its_host() -> None:
    history = make_history(6, seconds=[10, 20, 10], hosts=("anna", "berta"))
    tries = [FailedTry(chunk=4, host="berta", began=at(20), ended=at(25), error="x")]
    status = JobStatus(
        id="job",
        running=(
            RunningChunk(chunk=3, host="anna", began=at(5)),
            RunningChunk(chunk=4, host="berta", began=at(26), frozen=True),
            RunningChunk(chunk=5, host="", waiting=True),
        ),
    )

    bars = make_timeline(history, tries, status, now=at(30))

    shown = [(bar.host, bar.start - START, bar.stop - START, bar.chunk, bar.kind) for bar in bars]
    assert shown == [
        ("anna", 0, 10, 0, BarKind.RENDERED),
        # A span that began at 5 s: its chunk before this one ended at 20 s.
        ("anna", 10, 20, 2, BarKind.RENDERED),
        ("anna", 20, 30, 3, BarKind.RUNNING),
        ("berta", 0, 20, 1, BarKind.RENDERED),
        ("berta", 20, 25, 4, BarKind.FAILED),
        ("berta", 26, 30, 4, BarKind.FROZEN),
    ]
    assert [bar.chunk for bar in make_timeline(history, tries, None, now=at(30), since=START + 15)] == [2, 1, 4]


def test_of_many_bars_neighbours_of_a_host_are_merged_and_failures_stay() -> None:
    history = make_history(4000, seconds=[1.0] * 4000, hosts=("anna", "berta"))
    tries = [FailedTry(chunk=n, host="anna", began=at(n), ended=at(n + 1)) for n in range(10)]

    bars = make_timeline(history, tries, None, now=at(5000), most=100)

    assert len(bars) <= 100
    assert sum(bar.kind is BarKind.FAILED for bar in bars) == 10
    rendered = [bar for bar in bars if bar.kind is BarKind.RENDERED]
    assert sum(bar.chunks for bar in rendered) > 3500
    assert max(bar.stop - bar.start for bar in rendered) < 2 * 2000 / 50


def test_a_million_chunks_make_a_timeline_of_bounded_size() -> None:
    history = make_history(10, seconds=[])
    count = 200_000
    facts = ChunkFacts(count)
    facts.host = array("H", [1 + chunk % 40 for chunk in range(count)])
    facts.published_at = array("d", [START + chunk for chunk in range(count)])
    many = ChunkHistory(
        facts, bytearray([ChunkState.DONE.number]) * count, [f"h{n}" for n in range(40)], history._frames
    )

    bars = make_timeline(many, [], None, now=at(count))

    assert 3000 < len(bars) <= 5000
    assert {bar.host for bar in bars} == set(many.hosts)


def test_frames_that_took_much_longer_than_most_are_outliers() -> None:
    history = make_history(104, seconds=[20.0, 22.0] * 51 + [200.0], per_chunk=10)

    times = measure_frame_times(history)

    assert times.chunks == 103
    assert (times.p50, round(times.p95, 3), times.longest) == (2.2, 2.2, 20)
    assert [(slow.chunk, slow.seconds, slow.host) for slow in times.slow] == [(102, 20, "anna")]
    assert times.slow_count == 1
    assert sum(times.bins) == 103
    assert times.bins[-1] >= 1


def test_frames_that_all_took_alike_have_no_outliers() -> None:
    assert measure_frame_times(make_history(9, seconds=[1.0] * 8 + [1.1])).slow == ()


def test_without_a_finished_chunk_there_is_no_distribution() -> None:
    assert measure_frame_times(make_history(3, seconds=[])).chunks == 0


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 2), (0.75, 3), (0.95, 4), (1, 4)])
def test_quantiles_are_values_that_were_measured(share: float, value: float) -> None:
    assert find_quantile([1, 2, 3, 4], share) == value


def test_each_host_has_its_sum() -> None:
    history = make_history(4, seconds=[10, 30, 10], hosts=("anna", "berta"))
    tries = [FailedTry(chunk=3, host="carl", ended=at(1)), FailedTry(chunk=3, host="anna", ended=at(1) + timedelta(1))]

    work = sum_up_hosts(history, tries)

    assert [(each.host, each.chunks, each.render_seconds, each.cpu_seconds, each.failed_tries) for each in work] == [
        ("berta", 1, 30, 60, 0),
        ("anna", 2, 20, 40, 1),
        ("carl", 0, 0, 0, 1),
    ]
