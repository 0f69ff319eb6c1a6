"""Every activity is offered on the queue that it is sent to, with search attributes or without."""

from pathlib import Path

from support.farm import Farm, serving, worker_settings
from temporalio.client import Client
from temporalio.worker import Worker

from activities.processes.supervisor import Supervisor
from longtake import JobState, RenderClient
from longtake.models.backends import BackendKind
from longtake.names import render_queue
from worker import build_workers, register_search_attributes

SENT_TO = {
    "plan_job": "farm-7",
    "stitch_job": "farm-7",
    "try_film": "farm-7",
    "find_waiting": "farm-7",
    "stop_agents": "farm-7",
    "find_receivers": "farm-7",
    "deliver": "farm-7",
    "write_report": "farm-7",
    # A local activity, which runs where the workflow does.
    "has_search_attributes": "farm-7",
    "render_span": render_queue("farm-7", BackendKind.LOCAL),
}


def offered(workers: list[Worker]) -> dict[str, str]:
    return {
        name: worker.task_queue
        for worker in workers
        if worker._activity_worker is not None
        for name in worker._activity_worker._activities
    }


async def test_each_activity_is_offered_on_the_queue_it_is_sent_to(client: Client, store: Path) -> None:
    settings = worker_settings("farm-7", store, slots=1)
    workers = build_workers(client, settings, Supervisor(), search_attributes=True)

    assert offered(workers) == SENT_TO


async def test_search_attributes_are_registered_once_and_found_again(client: Client) -> None:
    assert await register_search_attributes(client)
    assert await register_search_attributes(client)


async def test_a_namespace_without_search_attributes_renders_all_the_same(
    client: Client, server: str, store: Path
) -> None:
    settings = worker_settings("without-attributes", store, slots=2)
    async with serving(client, settings, search_attributes=False):
        farm = Farm(server, settings.task_queue, client, RenderClient(client, task_queue=settings.task_queue), store)
        status = await farm.run(farm.job(chunks=2))

    assert status.state is JobState.COMPLETED
    description = await client.get_workflow_handle(status.id).describe()
    assert not [pair.key.name for pair in description.typed_search_attributes if pair.key.name.startswith("Longtake")]
