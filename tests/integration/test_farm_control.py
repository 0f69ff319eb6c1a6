"""Orders of jobs, told to all workers of a farm by one workflow; and the same promises where it is not there."""

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import pytest
from support.farm import Farm, eventually, serving, standing, until, until_state, worker_settings
from support.measurements import Distribution
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from activities import job_watch
from activities.farm_listener import FarmListener
from activities.job_watch import JobOrders, JobWatch, JobWatches
from longtake import JobState
from longtake.connection import connect
from longtake.models.messages import FarmOrder
from longtake.models.status import PauseMode
from longtake.names import FARM_ORDER, RENDER_JOB_WORKFLOW, Control, farm_control_id
from workflows.farm_control import FarmControl

pytestmark = pytest.mark.integration


class Audience:
    """Writes down what a listener tells."""

    def __init__(self) -> None:
        self.orders: list[FarmOrder] = []
        self.gaps = 0
        self.answers = 0

    def hear_order(self, order: FarmOrder) -> None:
        self.orders.append(order)

    def hear_answer(self) -> None:
        self.answers += 1

    def hear_gap(self) -> None:
        self.gaps += 1


def order(freeze: int) -> FarmOrder:
    return FarmOrder(job="job-1", run="run-1", control=Control.FREEZE.value, freeze=freeze)


@asynccontextmanager
async def listening(client: Client, task_queue: str, contact_seconds: float = 30) -> AsyncIterator[Audience]:
    """Follow the orders of a farm, from when this begins."""
    audience, listener = Audience(), FarmListener(client, task_queue)
    task = asyncio.create_task(listener.listen(audience, contact_seconds))
    try:
        await eventually(lambda: listener.is_hearing, "the orders are heard")
        yield audience
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def tell(farm: Farm, freeze: int) -> None:
    await farm.client.get_workflow_handle(farm_control_id(farm.task_queue)).signal(FARM_ORDER, order(freeze))


def freezes(audience: Audience) -> list[int]:
    return [each.freeze for each in audience.orders]


async def test_orders_are_heard_in_order_and_only_from_now_on_while_no_worker_runs(bare: Farm) -> None:
    async with listening(bare.client, bare.task_queue) as first:
        await tell(bare, 1)
        await eventually(lambda: freezes(first) == [1], "the first order is heard")
        async with listening(bare.client, bare.task_queue) as second:
            for number in (2, 3):
                await tell(bare, number)
            await eventually(lambda: freezes(second) == [2, 3], "later orders are heard")
        await eventually(lambda: freezes(first) == [1, 2, 3], "all are heard by the first")
    assert (first.gaps, second.gaps) == (1, 1), "both look into the memos once"


async def test_no_order_is_lost_in_silence_where_the_history_begins_anew(bare: Farm) -> None:
    async with (
        Worker(bare.client, task_queue=bare.task_queue, workflows=[FarmControl]),
        listening(bare.client, bare.task_queue) as audience,
    ):
        for number in range(250):
            await tell(bare, number)
        await eventually(lambda: len(audience.orders) >= 250 or audience.gaps > 1, "all orders are heard, or a gap is")

    assert freezes(audience) == sorted(set(freezes(audience)))
    description = await bare.client.get_workflow_handle(farm_control_id(bare.task_queue)).describe()
    assert description.history_length < 450


async def test_a_farm_workflow_that_was_terminated_is_started_again_and_a_gap_is_told(bare: Farm) -> None:
    workflow = bare.client.get_workflow_handle(farm_control_id(bare.task_queue))
    async with listening(bare.client, bare.task_queue) as audience:
        await tell(bare, 1)
        await eventually(lambda: freezes(audience) == [1], "the order is heard")
        await workflow.terminate()
        await eventually(lambda: audience.gaps == 2, "the gap is told")
        await tell(bare, 2)
        await eventually(lambda: freezes(audience) == [1, 2], "the order after it is heard")
    assert (await workflow.describe()).status is WorkflowExecutionStatus.RUNNING


async def test_workers_are_told_when_there_is_a_split_in_the_memo(farm: Farm) -> None:
    """Chunks 2 to 4 are one span, by what 0 and 1 took; all others are done before the first of them."""
    waits = f'[ "$1" -lt 2 ] || [ "$1" -ge 5 ] || until [ -e {farm.gate} ]; do sleep 0.02; done'
    command = ("sh", "-c", f'{waits}; echo > "$2"', "sh", "{chunk}", "{output}")
    async with listening(farm.client, farm.task_queue) as audience:
        job = await farm.submit(farm.job(chunks=12, max_parallel=2, command=command))
        await eventually(lambda: any(each.job == job.id for each in audience.orders), "the farm is told")
        assert {each.control for each in audience.orders} == {Control.RUN.value}
        farm.open_gate()
        assert (await until_state(job, JobState.COMPLETED)).completed_chunks == 12


async def test_what_is_no_order_is_ignored(bare: Farm) -> None:
    async with listening(bare.client, bare.task_queue) as audience:
        workflow = bare.client.get_workflow_handle(farm_control_id(bare.task_queue))
        await workflow.signal(FARM_ORDER, "freeze everything")
        await workflow.signal("another", order(1))
        await workflow.signal(FARM_ORDER)
        await tell(bare, 2)
        await eventually(lambda: bool(audience.orders), "the order is heard")
    assert freezes(audience) == [2]


async def test_orders_go_through_the_codec_and_a_worker_without_the_key_looks_into_the_memos(
    bare: Farm, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGTAKE_CODEC", "longtake.encryption:aes_gcm")
    monkeypatch.setenv("LONGTAKE_CODEC_KEYS", f"new={base64.b64encode(secrets.token_bytes(32)).decode()}")
    sealed = Farm(server, bare.task_queue, await connect(address=server), bare.render, bare.store)
    async with (
        listening(sealed.client, bare.task_queue) as audience,
        listening(bare.client, bare.task_queue) as keyless,
    ):
        await tell(sealed, 1)
        await eventually(lambda: freezes(audience) == [1], "the order is heard")
        await eventually(lambda: keyless.gaps == 2, "it is known that there was one")
    assert keyless.orders == []
    history = await bare.client.get_workflow_handle(farm_control_id(bare.task_queue)).fetch_history()
    assert b"job-1" not in b"".join(event.SerializeToString() for event in history.events)


@pytest.mark.slow
@pytest.mark.timed
async def test_a_freeze_is_shown_at_once_and_costs_the_job_little(farm: Farm) -> None:
    job = await farm.started()
    seconds: list[float] = []
    for _ in range(10):
        began = time.monotonic()
        status = await job.pause(mode=PauseMode.FREEZE, wait=True)
        seconds.append(time.monotonic() - began)
        assert status.frozen_chunks == 2
        assert all(map(standing, farm.ledger.pids))
        await job.resume(wait=True)
        await until(job, lambda status: status.running_chunks == 2)

    print(f"freeze shown after {Distribution.of(seconds)}")
    assert Distribution.of(seconds).p50 < 0.5
    handle = farm.client.get_workflow_handle(job.id)
    told = [
        event
        async for event in handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED
    ]
    assert len(told) == 20, "one signal for each change of the orders"


async def test_a_job_that_nobody_pauses_tells_nothing(farm: Farm) -> None:
    job = await farm.submit(farm.job(chunks=2))
    await until_state(job, JobState.COMPLETED)

    kinds = {event.event_type async for event in farm.client.get_workflow_handle(job.id).fetch_history_events()}
    assert EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED not in kinds


async def test_an_order_that_was_told_to_nobody_is_found_when_the_farm_workflow_is_back(farm: Farm) -> None:
    job = await farm.started()
    workflow = farm.client.get_workflow_handle(farm_control_id(farm.task_queue))
    for _ in range(3):
        await workflow.terminate()
        status = await job.pause(mode=PauseMode.FREEZE, wait=True)
        assert status.frozen_chunks == 2
        await workflow.terminate()
        await job.resume(wait=True)
        await until(job, lambda status: status.running_chunks == 2)
        await eventually(lambda: not any(map(standing, farm.ledger.pids)), "the renders go on")

    await job.cancel(wait=True)


async def test_orders_say_from_which_event_on_the_memo_has_them(farm: Farm) -> None:
    async with listening(farm.client, farm.task_queue) as audience:
        job = await farm.started()
        await job.pause(mode=PauseMode.FREEZE, wait=True)
        await job.resume(wait=True)
        await eventually(lambda: len(audience.orders) == 2, "both orders are heard")
        await job.cancel(wait=True)

    written: dict[int, list[EventType.ValueType]] = {}
    async for event in farm.client.get_workflow_handle(job.id).fetch_history_events():
        for attributes in (
            event.signal_external_workflow_execution_initiated_event_attributes,
            event.workflow_properties_modified_event_attributes,
        ):
            written.setdefault(attributes.workflow_task_completed_event_id, []).append(event.event_type)
    for each in audience.orders:
        assert set(written[each.events]) == {
            EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
            EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED,
        }


@dataclass
class Looks:
    """The looks of workers at the memos of jobs.

    Attributes:
        count: How many there were.
        watchers: How many workers each answer says that there are; None leaves it as it is.
    """

    count: int = 0
    watchers: int | None = None


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    looks, read_orders = Looks(), job_watch.read_orders

    async def count(*arguments: object) -> JobOrders | None:
        looks.count += 1
        orders = await read_orders(*arguments)  # type: ignore[arg-type]
        return orders and replace(orders, watchers=looks.watchers or orders.watchers)

    monkeypatch.setattr(job_watch, "read_orders", count)
    return looks


async def test_an_order_that_is_told_late_takes_nothing_back(
    bare: Farm, monkeypatch: pytest.MonkeyPatch, looks: Looks
) -> None:
    """A resume and a freeze right after it: the worker finds the freeze in the memo before it hears of the resume."""
    may_tell, told = asyncio.Semaphore(0), list[FarmOrder]()
    tell, hear = FarmListener._tell_order, JobWatches.hear_order

    async def tell_late(*arguments: object) -> None:
        await may_tell.acquire()
        await tell(*arguments)  # type: ignore[arg-type]

    def note(watches: JobWatches, order: FarmOrder) -> None:
        hear(watches, order)
        told.append(order)

    async def hear_next() -> FarmOrder:
        known = len(told)
        may_tell.release()
        await eventually(lambda: len(told) > known, "an order is told")
        return told[-1]

    monkeypatch.setattr(FarmListener, "_tell_order", tell_late)
    monkeypatch.setattr(JobWatches, "hear_order", note)
    monkeypatch.setattr(job_watch, "_TOLD_SECONDS", 0.1)
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=2)):
        job = await bare.started()
        await job.pause(mode=PauseMode.FREEZE, wait=True)
        assert (await hear_next()).control == Control.FREEZE.value
        await job.resume()
        await until(job, lambda status: status.state is JobState.RUNNING)
        await job.pause(mode=PauseMode.FREEZE, wait=True)
        assert all(map(standing, bare.ledger.pids))

        monkeypatch.setattr(job_watch, "_TOLD_SECONDS", 60)
        known = looks.count
        await eventually(lambda: looks.count > known, "the memo is read for the last time")
        assert (await hear_next()).control == Control.RUN.value
        # A render looks at its orders ten times a second.
        for _ in range(50):
            await asyncio.sleep(0.01)
            assert all(map(standing, bare.ledger.pids))
        assert (await hear_next()).control == Control.FREEZE.value
        may_tell.release()
        bare.open_gate()
        await job.resume()
        assert (await until_state(job, JobState.COMPLETED)).completed_chunks == 6


async def test_workers_that_may_not_follow_the_farm_ask_each_job(bare: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: FarmListener) -> None:
        raise RPCError("workflows of this type are not allowed", RPCStatusCode.PERMISSION_DENIED, b"")

    monkeypatch.setattr(FarmListener, "_find_place", refuse)
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=2)):
        job = await bare.started()
        status = await job.pause(mode=PauseMode.FREEZE, wait=True)
        assert status.frozen_chunks == 2
        await job.resume(wait=True)
        bare.open_gate()
        await until_state(job, JobState.COMPLETED)


WATCHERS = 300
SECONDS = 15.0


@pytest.mark.slow
@pytest.mark.timed
async def test_watchers_that_have_nothing_to_hear_call_seldom(
    bare: Farm, monkeypatch: pytest.MonkeyPatch, looks: Looks
) -> None:
    """Under a tenth of a call a second each, so that 1,000 workers make less than 100."""
    polled, poll = 0, FarmListener._poll
    # One activity stands for all workers, and they for a thousand.
    looks.watchers = 1000

    async def count_polled(*arguments: object) -> object:
        nonlocal polled
        polled += 1
        return await poll(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(FarmListener, "_poll", count_polled)
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=1)):
        job = await bare.started(chunks=1, running=1)
        run = (await bare.client.get_workflow_handle(job.id).describe()).run_id
        heard = 0
        listeners: list[FarmListener] = []
        refreshed: list[JobWatch] = []

        async def watch() -> None:
            nonlocal heard
            listeners.append(FarmListener(bare.client, bare.task_queue))
            async with JobWatches(bare.client, 30, listeners[-1]).watch() as watched:
                await watched.refresh()
                refreshed.append(watched)
                while watched.orders.control is Control.RUN:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                heard += 1

        environment = ActivityEnvironment()
        environment.info = replace(
            environment.info, workflow_id=job.id, workflow_run_id=run, workflow_type=RENDER_JOB_WORKFLOW
        )
        watching = [asyncio.ensure_future(environment.run(watch)) for _ in range(WATCHERS)]
        await eventually(lambda: len(refreshed) == WATCHERS, "all have asked the job")
        await eventually(lambda: all(each.is_hearing for each in listeners), "all follow the farm")
        calls = float("inf")
        # The first window has the looks into the memo with which each begins.
        for _ in range(3):
            if calls >= WATCHERS / 10:
                looks.count = polled = 0
                await asyncio.sleep(SECONDS)
                look_rate, poll_rate = looks.count / SECONDS, polled / SECONDS
                calls = look_rate + poll_rate
                print(f"{WATCHERS} watchers: {look_rate:.1f} looks and {poll_rate:.1f} polls a second")

        began = time.monotonic()
        await job.pause(mode=PauseMode.FREEZE)
        await asyncio.wait(watching)
        print(f"all have heard of a freeze after {time.monotonic() - began:.2f} s")
        await job.cancel(wait=True)
    assert calls < WATCHERS / 10
    assert heard == WATCHERS
