"""How often activities send heartbeats: each one is a write of the server under the lock of the activity's workflow."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from longtake.models.messages import Heartbeat

# What a workflow's lock is good for, beside its other work: a shard writes 200 times a second (5 ms a write).
_MOST_A_SECOND = 150
_LEAST_SECONDS = 0.2

# Where cancels do not wait for heartbeats, these show progress and that the worker lives.
_CALM_SECONDS = 2.0

# A heartbeat that is lost must not cost the activity, which is given away after 10 s without one.
_MOST_SECONDS = 5.0

# A span of short chunks has another one finished with each look.
_CHUNK_SECONDS = 1.0

# Fields that change all the time, and say little.
_PROGRESS = {"frames_done", "message", "cpu_seconds", "memory_bytes", "io_bytes"}

# Fields that change as a span goes on in order; a change of any other field is not waited for.
_CHUNK = {"chunk", "frames", "host", "rendered", "span_frames", "render_seconds", "billed_seconds", "cost_usd"}
_URGENT = Heartbeat.model_fields.keys() - _PROGRESS - _CHUNK


@dataclass(frozen=True)
class HeartbeatBudget:
    """Time between the heartbeats of an activity.

    Args:
        pushes_cancels: Whether the server pushes cancels. Where it does not, the answers to heartbeats bring them.
    """

    pushes_cancels: bool = False

    def least_seconds(self, running: int) -> float:
        """Return the time that any two heartbeats are apart, so that all together are at most 150 a second.

        Args:
            running: How many activities of the workflow run at once.
        """
        return min(_MOST_SECONDS, max(_LEAST_SECONDS, running / _MOST_A_SECOND))

    def seconds(self, before: Heartbeat, now: Heartbeat, running: int) -> float:
        """Return how long after the last heartbeat the next one is sent.

        Args:
            before: What the last one said.
            now: What the next one would say.
            running: How many activities of the workflow run at once.
        """
        least = self.least_seconds(running)
        if not self.pushes_cancels or (now is not before and _differ(before, now, _URGENT)):
            return least
        if now is not before and _differ(before, now, _CHUNK):
            return max(least, _CHUNK_SECONDS)
        return max(least, _CALM_SECONDS)


def _differ(before: Heartbeat, now: Heartbeat, names: set[str]) -> bool:
    return any(getattr(before, name) != getattr(now, name) for name in names)


_budget: ContextVar[HeartbeatBudget] = ContextVar("heartbeat_budget")


def current_budget() -> HeartbeatBudget:
    """Return the budget of the current activity, which is that of its worker's server."""
    return _budget.get(HeartbeatBudget())


@dataclass
class BudgetInterceptor(Interceptor):
    """Gives the activities of a worker their budget.

    Args:
        budget: The budget.
    """

    budget: HeartbeatBudget = field(default_factory=HeartbeatBudget)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap the call of an activity."""
        return _BudgetSetter(next, self.budget)


class _BudgetSetter(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, budget: HeartbeatBudget) -> None:
        super().__init__(next)
        self._budget = budget

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        _budget.set(self._budget)
        return await super().execute_activity(input)


async def find_budget(client: Client) -> HeartbeatBudget:
    """Return the budget for activities of this client's server.

    A server says that it sends commands to workers; the SDK listens for them where it does. That cancels are among
    these commands is a second setting, which no server tells: see `docs/production.md`.
    """
    try:
        answer = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError:
        # Whoever may run workers may not always describe namespaces.
        return HeartbeatBudget()
    return HeartbeatBudget(pushes_cancels=answer.namespace_info.capabilities.worker_commands)
