"""Tells a container runtime whether the worker of this host is at work: exit code 0 when Temporal has heard of it."""

import asyncio
import os
import socket
import sys
import time

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.service import RPCError

from longtake.client import connect
from longtake.errors import LongtakeError
from longtake.names import DEFAULT_TASK_QUEUE

# A worker asks for work anew each minute, and Temporal remembers who asked for five.
_HEARD_SECONDS = 150.0


async def heard_of(host: str, task_queue: str) -> bool:
    """Return whether a worker of this host has asked for work in the last two and a half minutes.

    Raises:
        NotReachableError: No Temporal server answers.
        RPCError: The server does not tell who asks for work.
    """
    client = await connect(timeout_seconds=5)
    # Workflow tasks: a worker whose slots are all taken asks for no renders.
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    answer = await client.workflow_service.describe_task_queue(request)
    oldest = time.time() - _HEARD_SECONDS
    return any(
        poller.identity.partition("@")[2] == host and poller.last_access_time.seconds > oldest
        for poller in answer.pollers
    )


def main() -> int:
    """Print what is wrong, if anything is, and return the exit code."""
    host = os.environ.get("LONGTAKE_HOST") or socket.gethostname()
    task_queue = os.environ.get("LONGTAKE_TASK_QUEUE") or DEFAULT_TASK_QUEUE
    try:
        well = asyncio.run(heard_of(host, task_queue))
    except (LongtakeError, RPCError) as error:
        print(f"worker_health.py: {error}")
        return 1
    if not well:
        print(f"worker_health.py: no worker of {host} has asked for work on {task_queue} of late")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
