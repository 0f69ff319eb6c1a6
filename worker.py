"""Run a Longtake worker: connect to Temporal, serve workflows and activities until SIGINT or SIGTERM.

`python worker.py --dev` brings its own Temporal server, for development and for `make demo`.
"""

import os

from activities.processes.privacy import hide_environment

if __name__ == "__main__":
    # Before other imports: it starts this program again.
    hide_environment(os.environ.get("LONGTAKE_PASS_ENV", "").split(os.pathsep))

import argparse
import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
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
from activities.farm_listener import FarmListener
from activities.heartbeat_budget import BudgetInterceptor, HeartbeatBudget, find_budget
from activities.job_watch import JobWatches, OtherHosts, worker_identity
from activities.notify.deliver import NotifyActivities
from activities.plan import PlanActivities
from activities.processes.orphans import kill_orphans
from activities.processes.supervisor import Supervisor
from activities.remote.call_records import RemoteHost, is_left_running
from activities.remote.services import Services, make_remote_attempts
from activities.render import RenderActivities
from activities.report import ReportActivities
from activities.settings import WorkerSettings
from activities.stitch import StitchActivities
from activities.stop_agents import StopActivities
from activities.stores.scratch import clear_scratch
from longtake.concurrency import run_in_thread
from longtake.connection import check_namespace, connect
from longtake.errors import LongtakeError
from longtake.models.backends import BackendKind
from longtake.names import SEARCH_ATTRIBUTES, render_queue
from longtake.prices import Prices
from longtake.render_user import RenderUser, find_render_user
from longtake.text import PlainFormatter
from ports import PortTakenError
from workflows.chunk_batch import ChunkBatch
from workflows.farm_control import FarmControl
from workflows.notifications import NotifyJob
from workflows.render_job import RenderJob

_log = logging.getLogger(__name__)

# How often an activity may send heartbeats; `HeartbeatBudget` decides how often it does. What it sends after a longer
# pause goes out at once.
_HEARTBEAT_THROTTLE = timedelta(seconds=0.2)

# Without a build id the SDK hashes the bytecode of every loaded module at start.
_BUILD_ID = f"longtake-{version('longtake')}"

# Each poll of a worker that is cut off may take a workflow task that then times out after 10 s. With the SDK's five
# pollers a job stood still for a minute.
_WORKFLOW_POLLERS = PollerBehaviorSimpleMaximum(2)

# The SDK ends a workflow task after 2 s (TMPRL1101) and repeats it; no setting changes that but debug mode, which lifts
# the sandbox. Measured: 4 ms at the median; at most 10 ms of CPU time in a job of a million chunks, and
# 0.2 s to read the longest list of chunks that travels. What ended a task of milliseconds on a machine with too much to
# do was a look of the garbage collector at the whole heap: see `_freeze_heap`.

# Plans and drains cost little; a stitch reads and writes a whole film.
_ORCHESTRATION_SLOTS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
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
    parser.add_argument(
        "--page-port",
        type=int,
        default=0,
        help="with --dev: port of the page of the farm; default: 8080, or a free one",
    )
    given = parser.parse_args(arguments)
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # The SDK logs a stack for each failed or cancelled activity; the activities' own errors are one line each.
    logging.getLogger("temporalio.activity").setLevel(logging.ERROR)
    # At INFO, botocore logs for each client where it found credentials.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    try:
        settings = WorkerSettings.from_environ(os.environ, dev=given.dev, slots=given.slots)
        database = given.database or devserver.cache_dir() / "dev" / "temporal.db"
        ports = DevPorts(given.ui_port, given.page_port)
        asyncio.run(run(settings, dev=given.dev, address=given.address, database=database, ports=ports))
    except (LongtakeError, devserver.TemporalNotFound, devserver.DevServerError, PortTakenError) as error:
        print(f"worker.py: {error}", file=sys.stderr)
        return 2
    return 0


@dataclass(frozen=True)
class DevPorts:
    """Ports of what `--dev` brings; 0 is the usual one, or another if that is taken."""

    ui: int = 0
    page: int = 0


async def run(settings: WorkerSettings, *, dev: bool, address: str | None, database: Path, ports: DevPorts) -> None:
    """Serve until SIGINT or SIGTERM; then let renders end within the grace, and stop the rest."""
    # Before anything is started: a worker whose renders would have its own account ends here.
    user = find_render_user(settings.render_user)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    if swept := await run_in_thread(kill_orphans):
        _print_line(f"ended {len(swept)} processes that a killed worker had left behind: {', '.join(map(str, swept))}")
    await run_in_thread(partial(clear_scratch, settings.scratch))
    async with AsyncExitStack() as stack:
        if dev:
            server = await devserver.start_dev_server(
                await run_in_thread(partial(devserver.find_temporal, _print_line)),
                database=database,
                address=address,
                ui_port=ports.ui,
                on_message=_print_line,
            )
            stack.push_async_callback(server.stop)
            address = server.address
            if address != devserver.DEFAULT_ADDRESS:
                _print_line(f"tell `longtake` where it is: export TEMPORAL_ADDRESS={address}")
            page = devserver.run_page(
                address, settings.task_queue, port=ports.page, ui=server.ui, on_message=_print_line
            )
            await stack.enter_async_context(page)
        client = await connect(address=address, runtime=Runtime(telemetry=TelemetryConfig()))
        await check_namespace(client)
        attributes = await register_search_attributes(client)
        supervisor = await stack.enter_async_context(Supervisor(user=user, nice=settings.render_nice))
        budget = await find_budget(client)
        for worker in build_workers(client, settings, supervisor, search_attributes=attributes, budget=budget):
            await stack.enter_async_context(worker)
        _freeze_heap()
        _print_ready(client, settings, user, dev=dev)
        await stopping.wait()
        _print_line("stopping: renders that do not end within the grace are stopped, and given to other workers")


async def register_search_attributes(client: Client) -> bool:
    """Register the search attributes that a namespace lacks; return whether it has all of them then."""
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


def build_workers(
    client: Client,
    settings: WorkerSettings,
    supervisor: Supervisor,
    *,
    search_attributes: bool,
    budget: HeartbeatBudget | None = None,
) -> list[Worker]:
    """Build the workers of this process, one for each task queue; the supervisor must outlive them."""
    build = partial(_build_worker, client, settings, budget or HeartbeatBudget())
    places = partial(AllowedStores, settings.roots, settings.stores)
    tools = settings.tools_dir or devserver.cache_dir() / "tools"
    host = build_host(settings, supervisor, tools=tools, make_allowed=places)
    services = Services(settings)
    watches = JobWatches(client, settings.contact_seconds, FarmListener(client, settings.task_queue))
    plan = PlanActivities(host, places, services.check, settings.receivers, search_attributes=search_attributes)
    notify = NotifyActivities(settings.receivers, host, web_url=settings.web_url)
    remote_host = _build_remote_host(client, settings)
    stitch, drain, stop = StitchActivities(host, watches), DrainActivities(client), StopActivities(host, remote_host)
    others = OtherHosts(client, render_queue(settings.task_queue, BackendKind.LOCAL), settings.host)
    local = RenderActivities(host, ChunkAttempt, watches, others)
    workers = [
        build(
            settings.task_queue,
            [
                plan.plan_job,
                plan.has_search_attributes,
                stitch.stitch_job,
                stitch.try_film,
                drain.find_waiting,
                stop.stop_agents,
                notify.find_receivers,
                notify.deliver,
                ReportActivities(host).write_report,
            ],
            slots=_ORCHESTRATION_SLOTS,
            workflows=True,
        ),
        build(render_queue(settings.task_queue, BackendKind.LOCAL), [local.render_span], slots=settings.slots),
    ]
    # None: a service renders the same whichever host calls it, so no chunk is passed on to another host.
    remote = RenderActivities(host, make_remote_attempts(services, remote_host), watches, None)
    for kind, slots in services.list_backends():
        queue = render_queue(settings.task_queue, kind)
        workers.append(build(queue, [remote.render_span], slots=slots))
    return workers


def _build_worker(
    client: Client,
    settings: WorkerSettings,
    budget: HeartbeatBudget,
    task_queue: str,
    activities: Sequence[Callable[..., Any]],
    *,
    slots: int,
    workflows: bool = False,
) -> Worker:
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[RenderJob, ChunkBatch, FarmControl, NotifyJob] if workflows else [],
        activities=activities,
        workflow_runner=SandboxedWorkflowRunner(),
        workflow_task_poller_behavior=_WORKFLOW_POLLERS,
        max_concurrent_activities=slots,
        interceptors=[BudgetInterceptor(budget)],
        max_heartbeat_throttle_interval=_HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=timedelta(seconds=settings.shutdown_grace_seconds),
        identity=worker_identity(os.getpid(), settings.host),
        build_id=_BUILD_ID,
    )


def _build_remote_host(client: Client, settings: WorkerSettings) -> RemoteHost:
    """Build what this worker offers to remote attempts."""
    prices = Prices.parse(settings.prices)
    return RemoteHost(
        secret=settings.signing_secret,
        price=lambda backend, result: prices.compute_cost(backend, result.billed_seconds, memory_mb=result.memory_mb),
        is_left_running=partial(is_left_running, client),
    )


def _freeze_heap() -> None:
    """Take what was made until now out of the garbage collector's sight, which would look at all of it time and again.

    Measured: 109,000 objects, 116 ms of CPU time a look, and 0.1 ms after this; in whichever thread makes the next
    object, that of a workflow task or the one that sends heartbeats.
    """
    gc.collect()
    gc.freeze()


def _print_ready(client: Client, settings: WorkerSettings, user: RenderUser | None, *, dev: bool) -> None:
    roots = ":".join(str(root) for root in settings.roots)
    _print_line(
        f"ready: queue {settings.task_queue}, {settings.slots} slots, namespace {client.namespace}, folders {roots}"
    )
    if user is not None:
        _print_line(f"renders run as {user.name} (uid {user.uid}), and cannot read what is this worker's alone")
    elif os.getuid() == 0:
        _print_line(
            "runs as root: renders can read all that this host has; set LONGTAKE_RENDER_USER, or start it under an "
            "account of its own"
        )
    if settings.allowed_commands is None:
        _print_line(
            "every program may run: --dev sets no LONGTAKE_ALLOWED_COMMANDS" if dev else "every program may run"
        )


def _print_line(line: str) -> None:
    print(f"worker.py: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
