"""The Longtake worker: connects to Temporal, offers workflows and activities, and runs until it is told to stop.

`python worker.py --dev` brings its own Temporal server, for development and for `make demo`.
"""

import os

from activities.processes.privacy import hide_environment

if __name__ == "__main__":
    # Before anything else is imported: it starts this program again.
    hide_environment(os.environ.get("LONGTAKE_PASS_ENV", "").split(os.pathsep))

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

import devserver
from activities.allowed_stores import AllowedStores
from activities.attempts.chunk_attempt import ChunkAttempt
from activities.attempts.host import build_host
from activities.drain import DrainActivities
from activities.job_watch import JobWatches, OtherHosts, worker_identity
from activities.plan import PlanActivities
from activities.processes.orphans import kill_orphans
from activities.processes.supervisor import Supervisor
from activities.remote.call_records import RemoteHost, is_left_running
from activities.remote.services import Services, make_remote_attempts
from activities.remote.store_executor import StoreExecutor
from activities.render import RenderActivities
from activities.settings import WorkerSettings
from activities.stitch import StitchActivities
from activities.stop_agents import StopActivities
from activities.stores.scratch import clear_scratch
from longtake.client import connect
from longtake.errors import LongtakeError
from longtake.models.backends import BackendKind
from longtake.names import SEARCH_ATTRIBUTES, render_queue
from longtake.prices import Prices
from ports import PortTakenError
from workflows.render_job import RenderJob

_log = logging.getLogger(__name__)


async def register_search_attributes(client: Client) -> bool:
    """Return whether the namespace has Longtake's search attributes, adding those it lacks where that is allowed."""
    try:
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
        lacking = {
            key.name: IndexedValueType.ValueType(key.indexed_value_type)
            for key in SEARCH_ATTRIBUTES
            if key.name not in listed.custom_attributes
        }
        if lacking:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=lacking)
            )
    except RPCError as error:
        _log.warning(
            "jobs will not show in lists by state: search attributes %s cannot be registered (%s)",
            ", ".join(key.name for key in SEARCH_ATTRIBUTES),
            error.message,
        )
        return False
    return True


# Without a server that pushes cancels, one reaches a running activity with the answer to a heartbeat, at most this long
# after it was asked for. Measured on server 1.29: 37 ms at the median, 155 ms at most.
_HEARTBEAT_THROTTLE = timedelta(seconds=0.25)

# Without one the SDK hashes the bytecode of every loaded module at start.
_BUILD_ID = f"longtake-{version('longtake')}"

# A worker that is cut off has asked for work and never hears the answer: each such request costs jobs the 10 s of a
# workflow task that is lost. With the SDK's five a job was seen to stand for a minute.
_WORKFLOW_POLLERS = PollerBehaviorSimpleMaximum(2)

# Planning and draining hardly work; a stitch reads and writes a whole film.
_ORCHESTRATION_SLOTS = 20

# Hashing, checking and publishing of all chunks that render here, and looking up names.
_THREADS = 64

# Each remote chunk looks into its store once a second, which takes 10 to 50 ms: enough for some hundreds of them.
_REMOTE_THREADS = 16


def build_workers(
    client: Client, settings: WorkerSettings, supervisor: Supervisor, *, search_attributes: bool
) -> list[Worker]:
    """Return the workers of this process, one a queue, ready to run; the supervisor must outlive them."""
    places = partial(AllowedStores, settings.roots, settings.stores)
    tools = settings.tools_dir or devserver.cache_dir() / "tools"
    host = build_host(settings, supervisor, tools=tools, make_allowed=places)
    services = Services(settings)
    watches = JobWatches(client, settings.contact_seconds)
    plan = PlanActivities(host, places, services.check, search_attributes=search_attributes)
    remote_host = _remote_host(client, settings)
    stitch, drain, stop = StitchActivities(host, watches), DrainActivities(client), StopActivities(host, remote_host)
    others = OtherHosts(client, render_queue(settings.task_queue, BackendKind.LOCAL), settings.host)
    local = RenderActivities(host, partial(ChunkAttempt, host), watches, others)
    workers = [
        _worker(
            client,
            settings,
            settings.task_queue,
            [plan.plan_job, stitch.stitch_job, drain.find_waiting, stop.stop_agents],
            slots=_ORCHESTRATION_SLOTS,
            workflows=True,
        ),
        _worker(
            client,
            settings,
            render_queue(settings.task_queue, BackendKind.LOCAL),
            [local.render_span],
            slots=settings.slots,
        ),
    ]
    # Where the host makes no difference, no chunk is passed on to another one.
    remote = RenderActivities(host, make_remote_attempts(services, host, remote_host), watches, None)
    for kind, slots in services.list_backends():
        queue = render_queue(settings.task_queue, kind)
        workers.append(_worker(client, settings, queue, [remote.render_span], slots=slots))
    return workers


def _worker(
    client: Client,
    settings: WorkerSettings,
    task_queue: str,
    activities: Sequence[Callable[..., Any]],
    *,
    slots: int,
    workflows: bool = False,
) -> Worker:
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[RenderJob] if workflows else [],
        activities=activities,
        workflow_runner=SandboxedWorkflowRunner(),
        workflow_task_poller_behavior=_WORKFLOW_POLLERS,
        max_concurrent_activities=slots,
        max_heartbeat_throttle_interval=_HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=timedelta(seconds=settings.shutdown_grace_seconds),
        identity=worker_identity(os.getpid(), settings.host),
        build_id=_BUILD_ID,
    )


def _remote_host(client: Client, settings: WorkerSettings) -> RemoteHost:
    """Return what this worker offers to attempts that services make for it."""
    prices = Prices.parse(settings.prices)
    return RemoteHost(
        secret=settings.signing_secret,
        executor=StoreExecutor(_REMOTE_THREADS, "remote-records"),
        price=lambda backend, result: prices.compute_cost(backend, result.billed_seconds, memory_mb=result.memory_mb),
        is_left_running=partial(is_left_running, client),
    )


async def run(settings: WorkerSettings, *, dev: bool, address: str | None, database: Path, ui_port: int) -> None:
    """Serve until SIGINT or SIGTERM; then let renders end within the grace, stop the rest, and return."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    if swept := await asyncio.to_thread(kill_orphans):
        _say(f"ended {len(swept)} processes that a killed worker had left behind: {', '.join(map(str, swept))}")
    await asyncio.to_thread(clear_scratch, settings.scratch)
    # Python's own six threads of a small host would let file work delay looking up the hosts of services.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="worker"))
    async with AsyncExitStack() as stack:
        if dev:
            server = await devserver.start_dev_server(
                await asyncio.to_thread(devserver.find_temporal, _say),
                database=database,
                address=address,
                ui_port=ui_port,
                say=_say,
            )
            stack.push_async_callback(server.stop)
            address = server.address
            if address != devserver.DEFAULT_ADDRESS:
                _say(f"tell `longtake` where it is: export TEMPORAL_ADDRESS={address}")
        client = await connect(address=address, runtime=Runtime(telemetry=TelemetryConfig()))
        attributes = await register_search_attributes(client)
        supervisor = await stack.enter_async_context(Supervisor())
        for worker in build_workers(client, settings, supervisor, search_attributes=attributes):
            await stack.enter_async_context(worker)
        _announce(client, settings, dev=dev)
        await stopping.wait()
        _say("stopping: renders that do not end within the grace are stopped, and given to other workers")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="worker.py",
        description="Runs Longtake jobs: plans, renders on this host, joins.",
        epilog="Settings come from LONGTAKE_* and TEMPORAL_* variables; see docs/workers.md.",
    )
    parser.add_argument("--dev", action="store_true", help="bring a Temporal server of its own; allow all programs")
    parser.add_argument(
        "--address",
        help="Temporal server, host:port; default: TEMPORAL_ADDRESS or localhost:7233, with --dev 127.0.0.1:7233 or a "
        "free port",
    )
    parser.add_argument("--slots", type=int, help="chunks rendered at once on this host; default: its cores")
    parser.add_argument("--database", type=Path, help="with --dev: SQLite file that survives restarts")
    parser.add_argument(
        "--ui-port", type=int, default=0, help="with --dev: port of the Temporal UI; default: 8233, or a free one"
    )
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # The SDK prints a stack for each failed or cancelled activity; those of ours say in one line what happened.
    logging.getLogger("temporalio.activity").setLevel(logging.ERROR)
    # Where it found its credentials, once for each client.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    try:
        settings = WorkerSettings.from_environ(os.environ, dev=given.dev, slots=given.slots)
        database = given.database or devserver.cache_dir() / "dev" / "temporal.db"
        asyncio.run(run(settings, dev=given.dev, address=given.address, database=database, ui_port=given.ui_port))
    except (LongtakeError, devserver.TemporalNotFound, devserver.DevServerError, PortTakenError) as error:
        print(f"worker.py: {error}", file=sys.stderr)
        return 2
    return 0


def _announce(client: Client, settings: WorkerSettings, *, dev: bool) -> None:
    roots = ":".join(str(root) for root in settings.roots)
    _say(f"ready: queue {settings.task_queue}, {settings.slots} slots, namespace {client.namespace}, folders {roots}")
    if os.getuid() == 0:
        _say("runs as root: renders can read all that this host has; start it under an account of its own")
    if settings.allowed_commands is None:
        _say("every program may run: --dev sets no LONGTAKE_ALLOWED_COMMANDS" if dev else "every program may run")


def _say(line: str) -> None:
    print(f"worker.py: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
