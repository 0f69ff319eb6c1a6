"""Heartbeats that reach the server, counted by the server: each is one more update of the workflow that it writes."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from support.farm import Farm, until
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.activity_context import send_heartbeats
from activities.heartbeat_budget import BudgetInterceptor, find_budget
from longtake.models.messages import Heartbeat

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timed]

SECONDS = 4.0

# 150 heartbeats, and a tenth more for the edges of the window.
MOST_A_SECOND = 165


async def count_updates(client: Client, job_id: str) -> float:
    """Return how many updates of a workflow the server writes in a second."""
    workflow: WorkflowHandle[object, object] = client.get_workflow_handle(job_id)
    loop, counts = asyncio.get_running_loop(), []
    for pause in (SECONDS, 0):
        counts.append(((await workflow.describe()).raw_info.state_transition_count, loop.time()))
        await asyncio.sleep(pause)
    (first, began), (last, ended) = counts
    return (last - first) / (ended - began)


@pytest.mark.parametrize("pushes_cancels", [True, False], ids=["pushed", "answered"])
async def test_many_activities_of_one_workflow_send_at_most_150_heartbeats_a_second(
    bare: Farm, bare_without_push: Farm, *, pushes_cancels: bool
) -> None:
    farm = bare if pushes_cancels else bare_without_push
    budget = await find_budget(farm.client)
    assert budget.pushes_cancels is pushes_cancels
    begun: set[str] = set()

    @activity.defn
    async def wait() -> None:
        begun.add(activity.info().activity_id)
        async with send_heartbeats(lambda: Heartbeat(chunk=0), running=lambda: RUNNING):
            await asyncio.Event().wait()

    async with Worker(
        farm.client,
        task_queue=farm.task_queue,
        workflows=[Waiting],
        activities=[wait],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_activities=RUNNING,
        max_heartbeat_throttle_interval=timedelta(seconds=0.2),
        interceptors=[BudgetInterceptor(budget)],
    ):
        waiting = await farm.client.start_workflow(
            Waiting.run, id=f"waiting-{uuid.uuid4().hex[:12]}", task_queue=farm.task_queue
        )
        async with asyncio.timeout(60):
            while len(begun) < RUNNING:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        a_second = float("inf")
        # A server that has much else to do may still be at the first heartbeats.
        for _ in range(4):
            if a_second > MOST_A_SECOND:
                a_second = await count_updates(farm.client, waiting.id)
                print(f"{RUNNING} activities: {a_second:.0f} updates a second")
        await waiting.terminate()
    # Each once in the 2 s that keep the budget, and none forgotten.
    assert RUNNING / 5 < a_second <= MOST_A_SECOND


RUNNING = 300


@workflow.defn(sandboxed=False)
class Waiting:
    """Many activities that only wait."""

    @workflow.run
    async def run(self) -> None:
        for _ in range(RUNNING):
            workflow.start_activity(
                "wait", start_to_close_timeout=timedelta(minutes=5), heartbeat_timeout=timedelta(seconds=10)
            )
        await workflow.wait_condition(lambda: False)


async def test_a_render_sends_a_heartbeat_every_two_seconds_where_cancels_are_pushed(farm: Farm) -> None:
    job = await farm.started(chunks=4, running=4)
    await until(job, lambda status: len([chunk for chunk in status.running if chunk.host]) == 4)

    a_second = await count_updates(farm.client, job.id)

    print(f"4 renders: {a_second:.1f} updates a second")
    assert a_second <= 4 / 2 + 1, "each of the four renders writes once in two seconds"
