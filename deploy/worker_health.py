"""Check for a container runtime that the worker of this host works: exit code 0 when it polled Temporal of late."""

import asyncio
import os
import socket
import sys
import time

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.service import RPCError

from longtake.connection import connect
from longtake.errors import LongtakeError
from longtake.names import DEFAULT_TASK_QUEUE

# A worker polls at least once a minute, and Temporal remembers pollers for five minutes.
_RECENT_SECONDS = 150.0


async def has_polled(host: str, task_queue: str) -> bool:
    """Tell whether a worker of a host has polled a task queue within the last two and a half minutes.

    Raises:
        NotReachableError: No Temporal server answers.
        RPCError: The server does not list the pollers.
    """
    client = await connect(timeout_seconds=5)
    # Pollers of workflow tasks: a worker whose slots are all taken polls for no activities.
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    answer = await client.workflow_service.describe_task_queue(request)
    oldest = time.time() - _RECENT_SECONDS
    return any(
        poller.identity.partition("@")[2] == host and poller.last_access_time.seconds > oldest
        for poller in answer.pollers
    )


def main() -> int:
    """Check the worker, print what is wrong, and return the exit code."""
    host = os.environ.get("LONGTAKE_HOST") or socket.gethostname()
    task_queue = os.environ.get("LONGTAKE_TASK_QUEUE") or DEFAULT_TASK_QUEUE
    try:
        is_healthy = asyncio.run(has_polled(host, task_queue))
    except (LongtakeError, RPCError) as error:
        print(f"worker_health.py: {error}")
        return 1
    if not is_healthy:
        print(f"worker_health.py: no worker of {host} has asked for work on {task_queue} of late")
    return 0 if is_healthy else 1


if __name__ == "__main__":
    sys.exit(main())
