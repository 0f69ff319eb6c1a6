"""Other hosts that render: whom a chunk can be passed on to that fails here."""

import logging

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

_log = logging.getLogger(__name__)


def worker_identity(pid: int, host: str) -> str:
    """Return how a worker is called in Temporal, with its host in it."""
    return f"{pid}@{host}"


class OtherHosts:
    """Asks Temporal who else serves a queue.

    Args:
        client: Connection to Temporal.
        task_queue: The queue of renders.
        host: This host.
    """

    def __init__(self, client: Client, task_queue: str, host: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._host = host

    async def exist(self) -> bool:
        """Return whether a worker on another host has asked for work in the last minutes."""
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=self._task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        try:
            answer = await self._client.workflow_service.describe_task_queue(request)
        except RPCError as error:
            _log.warning("cannot ask who else renders: %s", error.message)
            return False
        return any(poller.identity.partition("@")[2] != self._host for poller in answer.pollers)
