"""Tell the hosts of a farm, what they render now, and what waits in its queues; from Temporal alone."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, Field
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    ListWorkersRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from longtake.models.backends import BackendKind
from longtake.models.status import JobStatus
from longtake.names import render_queue

# Workers tell of themselves once a minute; what has been silent for longer is gone, or cut off.
_SILENT_SECONDS = 90.0

_PAGE, _MOST_PAGES = 1000, 10

_WORKFLOWS = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
_ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY


class Rendering(BaseModel):
    """A chunk that a host renders now."""

    job: str
    name: str = ""
    chunk: int
    frames: int = 0
    frames_done: int = 0
    frozen: bool = False
    cpu_seconds: float = 0
    memory_bytes: int = 0
    message: str = ""


class FarmHost(BaseModel):
    """A host with workers of the farm."""

    name: str
    slots: int | None = Field(default=None, description="chunks that it renders at once; None where that is not told")
    used_slots: int | None = None
    running: tuple[Rendering, ...] = ()
    last_heard: datetime | None = Field(default=None, description="when it was last heard of")
    is_silent: bool = Field(default=False, description="it has not been heard of for a minute and a half")
    queues: tuple[str, ...] = ()
    workers: tuple[str, ...] = Field(default=(), description="processes, as Temporal names them")
    versions: tuple[str, ...] = ()
    cpu_usage: float | None = Field(default=None, description="0 to 1, of the whole host")
    memory_usage: float | None = Field(default=None, description="0 to 1, of the whole host")
    started: datetime | None = Field(default=None, description="when the oldest of its workers was started")


class FarmQueue(BaseModel):
    """A task queue of the farm."""

    name: str
    backlog: int = Field(default=0, description="tasks that no worker has taken")
    oldest_wait_seconds: float = Field(default=0, description="how long the oldest of them has waited")
    pollers: int = Field(default=0, description="workers that take tasks from it")


class FarmOverview(BaseModel):
    """The farm as a whole."""

    hosts: tuple[FarmHost, ...] = ()
    queues: tuple[FarmQueue, ...] = ()


async def read_farm(client: Client, task_queue: str, running: Sequence[JobStatus]) -> FarmOverview:
    """Read the farm of a task queue.

    Args:
        client: The client.
        task_queue: The queue.
        running: Jobs that render now, with the chunks that run.

    Raises:
        RPCError: Temporal does not answer.
    """
    workers = await _list_workers(client, task_queue)
    expected = [task_queue, *(render_queue(task_queue, kind) for kind in BackendKind)]
    names = dict.fromkeys([*expected, *sorted({worker.task_queue for worker in workers})])
    described = await asyncio.gather(*(_describe(client, name) for name in names))
    queues = dict(zip(names, described, strict=True))
    hosts = _Hosts(task_queue)
    for worker in workers:
        hosts.add_worker(worker)
    for name, answers in queues.items():
        for answer in answers:
            for poller in answer.pollers:
                hosts.add_poller(poller.identity, name, poller.last_access_time.ToDatetime(UTC))
    for status in running:
        hosts.add_running(status)
    return FarmOverview(
        hosts=hosts.build(),
        queues=tuple(
            queue
            for name, answers in queues.items()
            # Backends that nobody uses are no news.
            if (queue := _make_queue(name, answers)) and (queue.pollers or queue.backlog or name in expected[:2])
        ),
    )


async def _list_workers(client: Client, task_queue: str) -> list[WorkerHeartbeat]:
    """Return what the workers of the farm last told of themselves; nothing where the server keeps none of it."""
    workers: list[WorkerHeartbeat] = []
    token = b""
    for _ in range(_MOST_PAGES):
        request = ListWorkersRequest(namespace=client.namespace, page_size=_PAGE, next_page_token=token)
        try:
            answer = await client.workflow_service.list_workers(request)
        except RPCError as error:
            # Servers before 1.29 know no such call, and others may have it switched off.
            if error.status in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED):
                raise
            return []
        workers += [each.worker_heartbeat for each in answer.workers_info]
        token = answer.next_page_token
        if not token:
            break
    return [worker for worker in workers if f"{worker.task_queue}-".startswith(f"{task_queue}-") and worker.task_queue]


async def _describe(client: Client, name: str) -> list[DescribeTaskQueueResponse]:
    answers = []
    for kind in (_WORKFLOWS, _ACTIVITIES):
        request = DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=name), task_queue_type=kind, report_stats=True
        )
        answers.append(await client.workflow_service.describe_task_queue(request))
    return answers


def _make_queue(name: str, answers: Iterable[DescribeTaskQueueResponse]) -> FarmQueue:
    pollers: set[str] = set()
    backlog, oldest = 0, 0.0
    now = datetime.now(UTC)
    for answer in answers:
        backlog += answer.stats.approximate_backlog_count
        oldest = max(oldest, answer.stats.approximate_backlog_age.ToTimedelta().total_seconds())
        for poller in answer.pollers:
            if (now - poller.last_access_time.ToDatetime(UTC)).total_seconds() < _SILENT_SECONDS:
                pollers.add(poller.identity)
    # The age is told in whole nanoseconds of an empty queue too.
    return FarmQueue(name=name, backlog=backlog, oldest_wait_seconds=oldest if backlog else 0.0, pollers=len(pollers))


class _Hosts:
    """Gather what is known of each host."""

    def __init__(self, task_queue: str) -> None:
        self._task_queue = task_queue
        self._found: dict[str, _Facts] = {}

    def _of(self, name: str) -> "_Facts":
        return self._found.setdefault(name, _Facts(name))

    def add_worker(self, worker: WorkerHeartbeat) -> None:
        """Note what a worker tells of itself, as of one queue."""
        facts = self._of(_host_of(worker.worker_identity) or worker.host_info.host_name)
        heard = worker.heartbeat_time.ToDatetime(UTC)
        facts.hear(worker.worker_identity, worker.task_queue, heard)
        facts.versions.add(worker.deployment_version.build_id)
        started = worker.start_time.ToDatetime(UTC)
        facts.started = min(facts.started or started, started)
        if heard == facts.last_heard:
            facts.cpu_usage = worker.host_info.current_host_cpu_usage
            facts.memory_usage = worker.host_info.current_host_mem_usage
        if worker.task_queue != self._task_queue and datetime.now(UTC) - heard < timedelta(seconds=_SILENT_SECONDS):
            slots = worker.activity_task_slots_info
            facts.slots = (facts.slots or 0) + slots.current_available_slots + slots.current_used_slots
            facts.used_slots = (facts.used_slots or 0) + slots.current_used_slots

    def add_poller(self, identity: str, queue: str, heard: datetime) -> None:
        """Note that a worker has asked for work."""
        if host := _host_of(identity):
            self._of(host).hear(identity, queue, heard)

    def add_running(self, status: JobStatus) -> None:
        """Note which hosts render the chunks of a job, by their heartbeats."""
        for chunk in status.running:
            if not chunk.waiting and chunk.host:
                self._of(chunk.host).running.append(
                    Rendering(
                        job=status.id,
                        name=status.name,
                        chunk=chunk.chunk,
                        frames=chunk.frames,
                        frames_done=chunk.frames_done,
                        frozen=chunk.frozen,
                        cpu_seconds=chunk.cpu_seconds,
                        memory_bytes=chunk.memory_bytes,
                        message=chunk.message,
                    )
                )

    def build(self) -> tuple[FarmHost, ...]:
        """Return the hosts by name."""
        return tuple(self._found[name].build() for name in sorted(self._found))


class _Facts:
    """What is known of one host."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.slots: int | None = None
        self.used_slots: int | None = None
        self.cpu_usage: float | None = None
        self.memory_usage: float | None = None
        self.started: datetime | None = None
        self.last_heard: datetime | None = None
        self.versions: set[str] = set()
        self.running: list[Rendering] = []
        self._queues: set[str] = set()
        self._workers: set[str] = set()

    def hear(self, identity: str, queue: str, heard: datetime) -> None:
        """Note a word of one of its workers."""
        self._workers.add(identity)
        self._queues.add(queue)
        self.last_heard = max(self.last_heard or heard, heard)

    def build(self) -> FarmHost:
        """Return the host."""
        now = datetime.now(UTC)
        silent = self.last_heard is not None and now - self.last_heard > timedelta(seconds=_SILENT_SECONDS)
        return FarmHost(
            name=self._name,
            slots=self.slots,
            used_slots=self.used_slots,
            running=tuple(sorted(self.running, key=lambda each: (each.job, each.chunk))),
            last_heard=self.last_heard,
            is_silent=silent and not self.running,
            queues=tuple(sorted(self._queues)),
            workers=tuple(sorted(self._workers)),
            versions=tuple(sorted(filter(None, self.versions))),
            cpu_usage=self.cpu_usage,
            memory_usage=self.memory_usage,
            started=self.started,
        )


def _host_of(identity: str) -> str:
    """Return the host in the name of a worker, `pid@host`."""
    with suppress(ValueError):
        pid, host = identity.split("@", 1)
        return host if pid.isdecimal() else ""
    return ""
