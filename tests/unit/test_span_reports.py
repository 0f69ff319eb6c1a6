"""Sums of a job count each chunk once, whatever becomes of its tries."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from longtake.models.messages import ChunkBill, SpanReport
from longtake.models.status import RemoteStop, RemoteStops
from workflows.span_reports import MOST_STOPS, Totals

ENDS = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)


def test_reports_add_up() -> None:
    totals = Totals()
    totals.add_report(
        SpanReport(done=((0, 2),), render_seconds=2, cpu_seconds=1, peak_memory_bytes=7, billed_seconds=20.5)
    )
    totals.add_report(SpanReport(done=((2, 3),), render_seconds=1, cpu_seconds=2, peak_memory_bytes=5, cost_usd=0.25))

    metrics = totals.metrics
    assert (metrics.render_seconds, metrics.cpu_seconds, metrics.peak_memory_bytes) == (3, 3, 7)
    assert (metrics.billed_seconds, metrics.cost_usd) == (20.5, 0.25)
    assert totals.stops == RemoteStops()


def test_a_failed_chunk_is_paid_for_and_its_bill_goes_into_that_of_the_try_that_publishes_it() -> None:
    totals = Totals()
    totals.add_report(SpanReport(failed=((3, 4),), open_bills=(ChunkBill(chunk=3, seconds=10, usd=0.5),)))
    assert (totals.metrics.billed_seconds, totals.metrics.cost_usd) == (10, 0.5)

    totals.add_report(SpanReport(failed=((3, 4),), open_bills=(ChunkBill(chunk=3, seconds=25, usd=1.25),)))
    assert (totals.metrics.billed_seconds, totals.metrics.cost_usd) == (25, 1.25)

    totals.add_report(SpanReport(done=((3, 4),), billed_seconds=30, cost_usd=1.5))
    assert (totals.metrics.billed_seconds, totals.metrics.cost_usd) == (30, 1.5)


def test_the_sums_of_a_batch_count_each_chunk_once() -> None:
    totals, batch = Totals(), Totals()
    totals.add_report(SpanReport(failed=((3, 5),), open_bills=(ChunkBill(chunk=3, usd=1), ChunkBill(chunk=4, usd=2))))
    stops = (RemoteStop(chunk=4, confirmed=True, seconds=2), RemoteStop(chunk=5))
    batch.add_report(SpanReport(done=((3, 4),), render_seconds=7, cost_usd=1.5, stops=stops))
    batch.add_report(SpanReport(open_bills=(ChunkBill(chunk=4, usd=4),)))

    totals.add_saved(batch.save(), done=[(3, 4)])
    assert (totals.metrics.cost_usd, totals.metrics.render_seconds) == (5.5, 7)
    assert (totals.stops.confirmed, totals.stops.slowest_seconds, totals.stops.unconfirmed_count) == (1, 2, 1)
    assert totals.stops.unconfirmed == stops[1:]


@given(
    st.lists(
        st.tuples(st.integers(min_value=0, max_value=5), st.sampled_from(["fails", "is stopped", "is lost"])),
        max_size=30,
    )
)
def test_whatever_happens_on_the_way_a_finished_job_has_paid_for_each_try_once(tries: list[tuple[int, str]]) -> None:
    totals, made = Totals(), dict.fromkeys(range(6), 0)
    for chunk, end in tries:
        made[chunk] += 1
        bill = ChunkBill(chunk=chunk, seconds=10.0 * made[chunk], usd=made[chunk])
        # A worker that is lost takes its report along; the store still knows of the try.
        totals.add_report(SpanReport() if end == "is lost" else SpanReport(open_bills=(bill,)))
    for chunk, before in made.items():
        totals.add_report(
            SpanReport(done=((chunk, chunk + 1),), billed_seconds=10.0 * (before + 1), cost_usd=before + 1)
        )

    assert totals.metrics.billed_seconds == 10 * (len(tries) + 6)
    assert totals.metrics.cost_usd == len(tries) + 6


def test_stops_are_counted_until_the_job_goes_on() -> None:
    totals = Totals()
    heard = RemoteStop(chunk=0, where="lambda render", confirmed=True, seconds=0.8)
    silent = RemoteStop(chunk=1, where="lambda render", seconds=10, ends_at=ENDS)
    totals.add_report(SpanReport(stops=(heard, silent)))
    totals.add_report(SpanReport(stops=(heard.model_copy(update={"seconds": 1.25}),)))

    assert totals.stops == RemoteStops(
        where="lambda render", confirmed=2, slowest_seconds=1.25, unconfirmed_count=1, unconfirmed=(silent,)
    )
    totals.reset_stops()
    assert totals.stops == RemoteStops()


def test_a_farm_that_is_silent_still_fits_a_status() -> None:
    totals = Totals()
    for chunk in range(300):
        totals.add_report(SpanReport(stops=(RemoteStop(chunk=chunk, seconds=10, ends_at=ENDS),)))

    assert totals.stops.unconfirmed_count == 300
    assert [stop.chunk for stop in totals.stops.unconfirmed] == list(range(MOST_STOPS))


def test_the_next_run_goes_on_with_the_sums() -> None:
    totals = Totals()
    totals.add_report(SpanReport(done=((0, 2),), render_seconds=2, cpu_seconds=1, billed_seconds=20.5, cost_usd=1))
    totals.add_report(SpanReport(open_bills=(ChunkBill(chunk=3, seconds=10, usd=0.5),), stops=(RemoteStop(chunk=3),)))
    saved = totals.save()
    after = Totals(type(saved).model_validate_json(saved.model_dump_json()))
    assert (after.metrics, after.stops) == (totals.metrics, totals.stops)

    after.add_report(SpanReport(done=((3, 4),), billed_seconds=30, cost_usd=1.5))
    assert (after.metrics.billed_seconds, after.metrics.cost_usd) == (50.5, 2.5), "not 10 and 0.5 more"


def test_a_hundred_thousand_open_bills_are_handed_over_in_few() -> None:
    totals = Totals()
    for chunk in range(100_000):
        totals.add_report(SpanReport(open_bills=(ChunkBill(chunk=chunk, seconds=1, usd=0.25),)))
    saved = totals.save()

    assert len(saved.model_dump_json()) < 100_000
    assert Totals(saved).metrics == totals.metrics
