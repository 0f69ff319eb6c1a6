"""Words and numbers of the command line: chunks, times, sizes, bills, stops and ends of jobs."""

from datetime import datetime, timedelta

import pytest
from support.jobs.statuses import BEGAN, NOON, job_status, lambda_job_status

from longtake.cli.formatting import (
    describe_end,
    describe_film,
    describe_stops,
    format_chunks,
    format_duration,
    format_usd,
    parse_chunks,
)
from longtake.errors import BadJobError
from longtake.models.status import (
    JobState,
    RemoteStop,
    RemoteStops,
    RenderJobResult,
)
from longtake.ranges import Range, RangeSet, format_ranges


@pytest.mark.parametrize(
    ("words", "ranges"),
    [
        (["3"], ((3, 4),)),
        (["3-7"], ((3, 8),)),
        (["3", "5-6", "4"], ((3, 7),)),
        (["3, 7-9"], ((3, 4), (7, 10))),
        (["0", "999999"], ((0, 1), (999_999, 1_000_000))),
        ([], ()),
    ],
)
def test_both_ends_of_a_range_belong_to_it(words: list[str], ranges: tuple[Range, ...]) -> None:
    assert parse_chunks(words) == ranges


@pytest.mark.parametrize(
    "word", ["", "x", "-3", "3-", "3-x", "3,,4", "1.5", "1000000", "0-1000000", "9" * 30, "\uff13"]
)
def test_what_is_no_chunk_is_refused_with_how_to_write_one(word: str) -> None:
    with pytest.raises(
        BadJobError, match=r"^--chunk: .* is no chunk; write its number, as in --chunk 3 or --chunk 3-7"
    ):
        parse_chunks(["1", word])


def test_a_range_that_runs_backwards_is_refused_with_the_one_meant() -> None:
    with pytest.raises(BadJobError, match=r"^--chunk: '7-3' ends before it begins; write --chunk 3-7$"):
        parse_chunks(["7-3"])


def test_what_messages_show_can_be_copied_into_the_option() -> None:
    failed = RangeSet([(3, 4), (7, 10), (12, 13)]).ranges

    assert format_chunks(failed) == "3,7-9,12"
    assert parse_chunks([format_chunks(failed)]) == parse_chunks([format_ranges(failed)]) == failed
    assert format_chunks(failed, most=2) == "3,7-9"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0:00"), (7.4, "0:07"), (750, "12:30"), (11_100, "3:05:00"), (187_200, "2 d 4 h")]
)
def test_spans_of_time_are_readable(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (
            RenderJobResult(output="/films/film.mp4", frames=90, missing_chunks=((3, 4), (7, 9))),
            "/films/film.mp4 (90 frames), without chunks 3, 7-8",
        ),
        (
            RenderJobResult(output="f.mov", frames=9, missing_chunks=((3, 4), (7, 9)), missing_count=500_000),
            "f.mov (9 frames), without chunks 3, 7-8 and 499997 more",
        ),
        (RenderJobResult(frames=90, missing_chunks=((3, 4),)), "90 frames in chunks, no film, without chunks 3"),
    ],
)
def test_a_film_with_gaps_says_which(result: RenderJobResult, told: str) -> None:
    assert describe_film(result) == told


def test_the_end_of_a_job_is_one_line_with_what_to_do_next() -> None:
    result = RenderJobResult(output="/films/film.mp4", sha256="ab" * 32, frames=100, duration_seconds=4)
    after = BEGAN + timedelta(seconds=65)
    assert describe_end(job_status(100, state=JobState.COMPLETED, updated_at=after, result=result)) == (
        "job-1 completed in 1:05: /films/film.mp4 (100 frames, 4 s, sha256 abababababab)"
    )
    assert "longtake retry job-1" in describe_end(job_status(state=JobState.FAILED, error="chunk 3 failed"))
    assert "longtake retry job-1" in describe_end(job_status(state=JobState.CANCELLED))


CONFIRMED = RemoteStops(where="lambda longtake-render", confirmed=8, slowest_seconds=1.21)
DEADLINE = NOON + timedelta(hours=2, minutes=32, seconds=10)
SILENT = RemoteStops(
    unconfirmed_count=2,
    unconfirmed=(
        RemoteStop(chunk=3, seconds=10.02, ends_at=DEADLINE - timedelta(seconds=9)),
        RemoteStop(chunk=4, seconds=10.01, ends_at=DEADLINE),
    ),
)


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0, "0.00 USD"),
     (0.0000004, "under 0.001 USD"), (0.0421, "0.042 USD"), (1.004, "1.00 USD"), (1234.5, "1,234.50 USD")],
)  # fmt: skip
def test_amounts_are_short(usd: float, text: str) -> None:
    assert format_usd(usd) == text


@pytest.mark.parametrize(
    ("stops", "now", "told"),
    [
        (RemoteStops(), NOON, None),
        (CONFIRMED, NOON, "8 chunks stopped on lambda longtake-render, confirmed after 1.2 s"),
        (RemoteStops(confirmed=1, slowest_seconds=0.4), NOON, "1 chunk stopped, confirmed after 0.4 s"),
        (
            SILENT,
            NOON,
            "2 chunks asked to stop, not confirmed within 10 s; they end by themselves at their deadline of 14:32:10 "
            "UTC at the latest",
        ),
        (
            SILENT,
            NOON + timedelta(days=1),
            "2 chunks asked to stop, not confirmed within 10 s; they ended by themselves by their deadline of "
            "2025-06-01 14:32:10 UTC at the latest",
        ),
        (
            RemoteStops(unconfirmed_count=1, unconfirmed=(RemoteStop(chunk=3, ends_at=DEADLINE),)),
            NOON,
            "1 chunk asked to stop, not confirmed; it ends by itself at its deadline of 14:32:10 UTC at the latest",
        ),
        (
            RemoteStops(unconfirmed_count=1),
            NOON,
            "1 chunk asked to stop, not confirmed; it ends by itself at its deadline",
        ),
        (
            CONFIRMED.model_copy(update={"unconfirmed_count": 2, "unconfirmed": SILENT.unconfirmed}),
            NOON,
            "8 chunks stopped on lambda longtake-render, confirmed after 1.2 s; 2 chunks asked to stop, not confirmed "
            "within 10 s; they end by themselves at their deadline of 14:32:10 UTC at the latest",
        ),
    ],
    ids=[
        "none",
        "confirmed ones say how long they took",
        "one is told without a plural",
        "silent ones say when they end",
        "silent ones of yesterday say when they ended",
        "one that was lost says when it ends",
        "one of which no deadline is known",
        "both kinds are told together",
    ],
)
def test_stops_of_remote_work_are_told(stops: RemoteStops, now: datetime, told: str | None) -> None:
    assert describe_stops(stops, now=now) == told


def test_the_end_of_a_cancelled_job_tells_what_became_of_its_remote_work() -> None:
    assert describe_end(lambda_job_status(JobState.CANCELLED, remote_stops=CONFIRMED)) == (
        "job-1 was cancelled after 0:12: 8 chunks stopped on lambda longtake-render, confirmed after 1.2 s; "
        "`longtake retry job-1` renders only what is missing"
    )
    assert "; 8 chunks stopped on" in describe_end(
        lambda_job_status(JobState.FAILED, error="no codec", remote_stops=CONFIRMED)
    )
    assert describe_end(lambda_job_status(JobState.CANCELLED)) == (
        "job-1 was cancelled after 0:12; `longtake retry job-1` renders only what is missing"
    )
