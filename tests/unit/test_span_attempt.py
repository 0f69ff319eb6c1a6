"""One attempt at a span: waits for services without room, bills, and what became of orders to stop."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.attempts.attempt import Bill
from activities.attempts.host import Host
from activities.attempts.span_attempt import RetryError, SpanAttempt, throttle_delay_seconds
from activities.backends.backend import Progress, RenderTask, RenderWatcher
from activities.errors import AttemptError, AttemptLostError, ThrottledError
from activities.job_watch import JobOrders, JobWatch
from activities.processes.programs import Programs
from activities.processes.render_process import Usage
from activities.stores.input_cache import InputCache
from activities.stores.job_folder import JobFolder, OpenJob, Sidecar
from longtake.chunks import Chunk
from longtake.errors import ErrorType
from longtake.models.frames import FrameRange
from longtake.models.job import RenderJobSpec
from longtake.models.messages import ChunkBill, Heartbeat, JobRef, SpanOrder, SpanReport
from longtake.models.policies import FailurePolicy, Retry
from longtake.models.status import RemoteStop
from longtake.ranges import Range
from longtake.stores.factory import open_store
from longtake.stores.store import StoreError
from longtake.stores.try_records import read_tries

# What an attempt does when it is run: it returns when the chunk is published.
Script = Callable[[RenderWatcher], Awaitable[None]]

DONE = Sidecar(key="000000", digest="", attempt="a", frames=1, files=(), render_seconds=2)


class NoBackend:
    """Nothing is rendered here."""

    def open_span(self) -> AbstractAsyncContextManager["NoBackend"]:
        return nullcontext(self)

    async def render(self, task: RenderTask, watcher: RenderWatcher) -> Usage:
        raise AssertionError("a service renders")


class Service:
    """Attempts that do as they are told, one script a run; each run is billed with 10 s and 0.5 USD."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.runs: dict[int, int] = {}
        self.published: set[int] = set()
        # Chunks whose records no code can read.
        self.broken: set[int] = set()
        self.stop: RemoteStop | None = None
        self.bills_are_away = False

    def make(self, host: Host, job: OpenJob, chunk: Chunk, name: str) -> "Scripted":
        return Scripted(self, chunk.index, name)


class Scripted:
    """One try of one chunk."""

    is_begun = False
    log = "s3://films/.longtake/job/logs/000000.a.log"

    def __init__(self, service: Service, chunk: int, name: str) -> None:
        self.name = name
        self._service = service
        self._chunk = chunk

    @property
    def stop(self) -> RemoteStop | None:
        return self._service.stop

    async def published(self) -> Sidecar | None:
        if self._chunk in self._service.broken:
            raise KeyError("record")
        return DONE if self._chunk in self._service.published else None

    async def run(self, watcher: RenderWatcher) -> Sidecar:
        runs = self._service.runs
        runs[self._chunk] = runs.get(self._chunk, 0) + 1
        await self._service.scripts.pop(0)(watcher)
        self._service.published.add(self._chunk)
        return DONE

    async def bill(self) -> Bill:
        if self._service.bills_are_away:
            raise OSError("the store is away")
        runs = self._service.runs.get(self._chunk, 0)
        return Bill(seconds=10.0 * runs, usd=0.5 * runs)


async def publishes(watcher: RenderWatcher) -> None:
    watcher.on_progress(Progress(frames_done=1))


async def fails(watcher: RenderWatcher) -> None:
    raise AttemptError("exited with code 1")


async def has_no_room(watcher: RenderWatcher) -> None:
    raise ThrottledError("lambda render: Rate Exceeded")


class Scene:
    """A job of three chunks for a service."""

    def __init__(self, store: Path, service: Service, **fields: object) -> None:
        job = RenderJobSpec.model_validate(
            {
                "frames": FrameRange(count=3, per_chunk=1),
                "command": ("render", "{output}"),
                "chunk_output": "{chunk}.txt",
                "backend": "lambda",
                "retry": Retry(attempts=1),
                **fields,
            }
        )
        url = str(store)
        ref = JobRef(id="job-1", base_dir=url, digest=job.digest())
        self.job = OpenJob(JobFolder(open_store(url, scratch=store), "job-1"), ref, job, None)
        self.service = service
        self.host = Host(NoBackend(), Programs(None, "ffmpeg"), {}, InputCache(store, 0), store, name="node-1")

    def span(
        self, before: Heartbeat | None = None, *, published: tuple[Range, ...] = (), is_after_loss: bool = False
    ) -> SpanAttempt:
        order, before = SpanOrder(ref=self.job.ref, start=0, stop=3, published=published), before or Heartbeat(chunk=0)
        return SpanAttempt(self.host, self.service.make, None, self.job, order, before, is_after_loss=is_after_loss)

    async def render(self, span: SpanAttempt) -> None:
        async def ask(seconds: float) -> JobOrders:
            return JobOrders()

        async def work() -> None:
            await span.render(JobWatch(ask, contact_seconds=30))

        await ActivityEnvironment().run(work)


async def test_a_service_without_room_costs_no_try_and_is_asked_again_later(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Service(has_no_room, has_no_room, publishes, publishes, publishes))
    before: Heartbeat | None = None
    for throttled in (1, 2):
        span = scene.span(before)
        with pytest.raises(RetryError, match=r"^chunk 0 waits: lambda render: Rate Exceeded$") as waits:
            await scene.render(span)
        assert waits.value.type is ErrorType.THROTTLED
        assert 2 ** (throttled - 1) / 2 <= waits.value.wait_seconds <= 2 ** (throttled - 1)
        before = span.progress.heartbeat
        assert (before.throttled, before.failures, before.chunk) == (throttled, 0, 0)

    last = scene.span(before)
    await scene.render(last)

    assert last.progress.report().done == ((0, 3),)
    assert last.progress.heartbeat.throttled == 0


async def test_the_first_progress_ends_the_count(tmp_path: Path) -> None:
    async def works_and_has_no_room(watcher: RenderWatcher) -> None:
        watcher.on_progress(Progress(frames_done=1))
        raise ThrottledError("busy")

    scene = Scene(tmp_path, Service(works_and_has_no_room))
    span = scene.span(Heartbeat(chunk=0, throttled=12))
    with pytest.raises(RetryError) as waits:
        await scene.render(span)

    assert span.progress.heartbeat.throttled == 1
    assert waits.value.wait_seconds <= 1


@pytest.mark.parametrize(
    ("asked", "throttled", "least", "most"),
    [(None, 0, 0.5, 1), (None, 3, 4, 8), (None, 100_000, 30, 60), (7, 5, 7, 8.4), (0, 0, 0, 0), (1e9, 0, 3600, 4320)],
)
def test_waits_grow_and_never_fall_short_of_what_is_asked(
    asked: float | None, throttled: int, least: float, most: float
) -> None:
    waits = [throttle_delay_seconds(ThrottledError("busy", wait_seconds=asked), throttled) for _ in range(100)]

    assert least <= min(waits) <= max(waits) <= most
    assert len(set(waits)) > 1 or asked == 0, "not all chunks come back at once"


async def test_each_published_chunk_is_billed_once_over_all_its_tries(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Service(publishes, fails, publishes, publishes), retry=Retry(attempts=2, initial_seconds=0))
    first = scene.span()
    with pytest.raises(RetryError):
        await scene.render(first)
    assert (first.progress.heartbeat.billed_seconds, first.progress.heartbeat.cost_usd) == (10, 0.5)

    second = scene.span(first.progress.heartbeat)
    await scene.render(second)

    report = second.progress.report()
    assert report.done == ((0, 3),)
    assert (report.billed_seconds, report.cost_usd, report.open_bills) == (40, 2, ())
    assert (second.progress.heartbeat.billed_seconds, second.progress.heartbeat.cost_usd) == (40, 2)


async def test_chunks_that_are_given_up_leave_their_bills_open(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Service(fails, publishes, fails), on_chunk_failure=FailurePolicy.CONTINUE)
    span = scene.span()
    await scene.render(span)

    report = span.progress.report()
    assert report.failed == ((0, 1), (2, 3))
    assert (report.billed_seconds, report.cost_usd) == (10, 0.5)
    assert report.open_bills == (ChunkBill(chunk=0, seconds=10, usd=0.5), ChunkBill(chunk=2, seconds=10, usd=0.5))

    later = scene.span(span.progress.heartbeat)
    await scene.render(later)
    assert later.progress.report().open_bills == report.open_bills, "the attempt before could not report them"


async def test_a_bill_that_cannot_be_read_costs_no_chunk(tmp_path: Path) -> None:
    service = Service(publishes, publishes, publishes)
    service.bills_are_away = True
    scene = Scene(tmp_path, service)
    span = scene.span()
    await scene.render(span)

    assert span.progress.report().done == ((0, 3),)
    assert span.progress.report().billed_seconds == 0


async def test_a_cancel_reports_what_became_of_it_and_what_was_paid(tmp_path: Path) -> None:
    runs = asyncio.Event()

    async def never_ends(watcher: RenderWatcher) -> None:
        runs.set()
        await asyncio.Event().wait()

    service = Service(never_ends)
    service.stop = RemoteStop(chunk=0, where="lambda render", confirmed=True, seconds=1.2)
    scene = Scene(tmp_path, service)
    span = scene.span()
    trying = asyncio.create_task(scene.render(span))
    await runs.wait()
    assert not span.progress.has_news

    trying.cancel()
    await asyncio.wait([trying])

    assert trying.cancelled()
    assert span.progress.has_news
    assert span.progress.report() == SpanReport(
        stops=(service.stop,), open_bills=(ChunkBill(chunk=0, seconds=10, usd=0.5),)
    )


async def test_where_the_host_makes_no_difference_no_chunk_is_passed_on(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Service(publishes, publishes, publishes))
    span = scene.span(Heartbeat(chunk=0, failures=2, avoid=("node-1",)))
    await scene.render(span)

    assert span.progress.report().done == ((0, 3),)


async def test_a_worker_lost_at_a_chunk_again_and_again_costs_that_chunk_alone(tmp_path: Path) -> None:
    local = {"backend": "local", "on_chunk_failure": FailurePolicy.CONTINUE}
    scene = Scene(tmp_path, Service(publishes, publishes), **local)
    span = scene.span(Heartbeat(chunk=0, losses=4))
    await scene.render(span)

    assert span.progress.report().failed == ((0, 1),)
    assert span.progress.report().done == ((1, 3),)
    assert span.progress.reasons[0].error.startswith("4 workers were lost while they rendered it")
    assert span.progress.reasons[0].attempts == 4


async def test_a_chunk_of_a_service_cannot_take_workers_down(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Service(publishes, publishes, publishes))
    span = scene.span(Heartbeat(chunk=0, losses=99))
    await scene.render(span)

    assert span.progress.report().done == ((0, 3),)


@pytest.mark.parametrize(("by_render", "losses"), [(True, 1), (False, 0)])
async def test_a_try_that_is_lost_counts_where_the_render_may_be_the_cause(
    tmp_path: Path, by_render: bool, losses: int
) -> None:
    async def is_lost(watcher: RenderWatcher) -> None:
        raise AttemptLostError("its keeper was killed", by_render=by_render)

    scene = Scene(tmp_path, Service(is_lost))
    span = scene.span()
    with pytest.raises(RetryError) as lost:
        await scene.render(span)

    assert lost.value.type is ErrorType.ATTEMPT_LOST
    assert span.progress.heartbeat.losses == losses


async def test_tries_that_a_full_disk_ends_wait_longer_each_time_and_say_so(tmp_path: Path) -> None:
    async def meets_a_full_disk(watcher: RenderWatcher) -> None:
        watcher.on_progress(Progress(frames_done=1))
        raise AttemptLostError("/scratch: its disk is full; make room")

    before: Heartbeat | None = None
    waits = []
    scene = Scene(tmp_path, Service(*[meets_a_full_disk] * 9, publishes, publishes, publishes))
    for _ in range(9):
        span = scene.span(before)
        with pytest.raises(RetryError, match=r"make room; the try does not count, and the next one begins in") as lost:
            await scene.render(span)
        waits.append(lost.value.wait_seconds)
        before = Heartbeat.model_validate_json(span.progress.heartbeat.model_dump_json())
    span = scene.span(before)
    await scene.render(span)

    assert waits[0] == 1
    assert all(0.75 * 2**number <= wait <= 2**number for number, wait in enumerate(waits[:6]))
    assert all(45 <= wait <= 60 for wait in waits[6:])
    assert (span.progress.report().done, span.progress.heartbeat.away) == (((0, 3),), 0)


async def test_a_store_that_is_away_between_two_chunks_is_waited_for_as_well(tmp_path: Path) -> None:
    class Away(Service):
        def make(self, host: Host, job: OpenJob, chunk: Chunk, name: str) -> "Scripted":
            raise StoreError("its disk is full; make room", "/store", is_temporary=True)

    span = Scene(tmp_path, Away()).span(Heartbeat(chunk=0, away=3))
    with pytest.raises(RetryError, match="make room; the try does not count") as lost:
        await Scene(tmp_path, Away()).render(span)

    assert lost.value.wait_seconds >= 6
    assert span.progress.heartbeat.away == 4


async def test_a_worker_lost_at_a_later_chunk_than_it_told_of_counts_at_the_chunk_that_is_rendered_next(
    tmp_path: Path,
) -> None:
    """A chunk that kills its worker within a quarter of a second is in none of its heartbeats."""
    seen = []

    async def looks(watcher: RenderWatcher) -> None:
        seen.append((span.progress.heartbeat.chunk, span.progress.heartbeat.losses))

    service = Service(looks, looks)
    service.published = {0}
    scene = Scene(tmp_path, service)
    span = scene.span(Heartbeat(chunk=0, losses=3))
    await scene.render(span)

    assert seen == [(1, 3), (2, 0)]


async def test_an_error_that_no_code_expects_counts_as_a_try(tmp_path: Path) -> None:
    async def has_a_bug(watcher: RenderWatcher) -> None:
        raise KeyError("codec")

    scene = Scene(tmp_path, Service(has_a_bug, has_a_bug), retry=Retry(attempts=2, initial_seconds=0))
    first = scene.span()
    with pytest.raises(RetryError, match=r"chunk 0 .*: unexpected KeyError: 'codec'; see the log of"):
        await scene.render(first)
    last = scene.span(first.progress.heartbeat)
    await scene.render(last)

    assert last.progress.report().failed == ((0, 1),)


async def test_an_unexpected_error_before_a_render_is_a_try_of_that_chunk_alone(tmp_path: Path) -> None:
    """The chunks of its span that are published, and those after it, are not to blame."""
    service = Service(publishes, publishes)
    service.broken = {1}
    scene = Scene(tmp_path, service, on_chunk_failure=FailurePolicy.CONTINUE)
    span = scene.span()
    await scene.render(span)

    assert (span.progress.report().done, span.progress.report().failed) == (((0, 1), (2, 3)), ((1, 2),))
    assert "unexpected KeyError: 'record'" in span.progress.reasons[0].error


async def test_chunks_that_the_job_has_counted_are_not_counted_again(tmp_path: Path) -> None:
    service = Service(publishes)
    service.published = {0, 1}
    scene = Scene(tmp_path, service)
    span = scene.span(published=((1, 2),))
    await scene.render(span)

    report = span.progress.report()
    assert report.done == ((0, 1), (2, 3))
    assert (report.rendered, report.render_seconds) == (2, 2 * DONE.render_seconds)
    assert (span.progress.heartbeat.rendered, span.progress.heartbeat.render_seconds) == (2, 2 * DONE.render_seconds)


async def test_each_failed_try_is_written_down_with_its_host_and_its_end(tmp_path: Path) -> None:
    async def exits(watcher: RenderWatcher) -> None:
        watcher.on_progress(Progress(frames_done=1, usage=Usage(cpu_seconds=3.0, peak_memory_bytes=1 << 20)))
        raise AttemptError("exited with code 3: no camera", exit_code=3)

    scene = Scene(
        tmp_path,
        Service(exits, exits, publishes, publishes),
        retry=Retry(attempts=2, initial_seconds=0),
        on_chunk_failure=FailurePolicy.CONTINUE,
    )
    first = scene.span()
    with pytest.raises(RetryError):
        await scene.render(first)
    await scene.render(scene.span(first.progress.heartbeat))

    one, two = read_tries(scene.job.folder)
    assert (one.chunk, one.number, one.host, one.error, one.exit) == (
        0,
        1,
        "node-1",
        "exited with code 3: no camera",
        3,
    )
    assert (one.frames_done, one.cpu_seconds, one.peak_memory_bytes, one.log) == (1, 3.0, 1 << 20, Scripted.log)
    assert (one.last, two.last, two.number) == (False, True, 2)
    assert one.began is not None
    assert one.ended is not None
    assert one.began <= one.ended


async def test_a_lost_worker_is_written_down_by_the_attempt_that_takes_over(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Service(publishes, publishes, publishes))
    span = scene.span(Heartbeat(chunk=0, losses=1, host="node-9", frames_done=4), is_after_loss=True)
    await scene.render(span)

    (lost,) = read_tries(scene.job.folder)
    assert (lost.chunk, lost.host, lost.lost, lost.frames_done) == (0, "node-9", True, 4)
    assert span.progress.report().done == ((0, 3),)


async def test_a_store_that_takes_no_record_of_a_failed_try_costs_no_try(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Service(fails), retry=Retry(attempts=2, initial_seconds=0))
    # A file stands where the folder belongs.
    scene.job.folder.store.create(scene.job.folder.tries_dir, b"")
    with pytest.raises(RetryError, match="exited with code 1"):
        await scene.render(scene.span())

    assert read_tries(scene.job.folder) == []
