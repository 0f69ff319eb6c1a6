"""Run chunks by Temporal alone: a workflow with one activity a chunk, in leaves, as its history is bounded."""

import asyncio
import subprocess
from datetime import timedelta

from peer import Asked, read_asked, say_done, wait_for_go
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

_LEAF = 500
_QUEUE = "peer"


@activity.defn
async def render(command: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL)
    if code := await process.wait():
        raise RuntimeError(f"{command[0]} ended with {code}")


@workflow.defn
class Leaf:
    @workflow.run
    async def run(self, commands: list[list[str]]) -> None:
        await asyncio.gather(
            *(
                workflow.execute_activity(render, command, start_to_close_timeout=timedelta(minutes=5))
                for command in commands
            )
        )


async def run(asked: Asked) -> None:
    client = await Client.connect(asked.address)
    worker = Worker(
        client,
        task_queue=_QUEUE,
        workflows=[Leaf],
        activities=[render],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_activities=asked.parallel,
    )
    async with worker:
        await asyncio.to_thread(wait_for_go)
        # One leaf begins before the one before has ended, so that no slot waits.
        going: set[asyncio.Task[None]] = set()
        for start in range(0, len(asked.commands), _LEAF):
            commands = asked.commands[start : start + _LEAF]
            leaf = client.execute_workflow(Leaf.run, commands, id=f"leaf-{start}", task_queue=_QUEUE)
            going.add(asyncio.create_task(leaf))
            if len(going) > 1:
                ended, going = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
                for one in ended:
                    one.result()
        await asyncio.gather(*going)
        say_done()


if __name__ == "__main__":
    asyncio.run(run(read_asked()))
