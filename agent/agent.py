"""Render the chunks of signed orders: check the stores that an order names, begin it once, write its result."""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from activities.allowed_stores import AllowedStores
from activities.attempts.host import Host, attempt_tag
from activities.errors import StoreNotSharedError, attempt_failure
from activities.processes.linux_table import process_table
from activities.remote.call_records import CallRecords
from activities.remote.protocol import RefusedOrderError, RemoteOrder, RemoteResult
from activities.stores.job_folder import OpenJob
from agent.call import BegunBeforeError, ForbiddenOrderError, Invocation
from agent.render_call import AgentResult, ChunkRunner
from agent.settings import AgentSettings
from longtake.allowed_paths import AllowedPaths
from longtake.chunks import Chunk
from longtake.concurrency import run_in_thread, run_with_timeout
from longtake.errors import BadJobError
from longtake.names import check_job_id
from longtake.stores.factory import is_bucket
from longtake.stores.job_layout import chunk_key

_log = logging.getLogger(__name__)

# To write the result, where the deadline leaves less or nothing.
_LEAST_SECONDS = 2.0
# A result that the store does not take within this time is in the answer of the call only.
_MOST_SECONDS = 8.0

# The memory limit of the instance, by cgroups version 2 and version 1.
_MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")

# Version 1 writes a number close to 2**63 for no limit.
_NO_LIMIT_BYTES = 1 << 50


class Admission:
    """Opens the job of an order and checks that the agent may touch its files; writes nothing.

    Args:
        settings: The stores that jobs may use, and the folder for scratch.
    """

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings

    def open(self, order: RemoteOrder) -> tuple[OpenJob, Chunk]:
        """Return the job and the chunk of an order; blocking.

        Raises:
            RefusedOrderError: The order names another store, or its job is not the one that was signed.
            OSError: The store is away.
        """
        try:
            check_job_id(order.ref.id)
            self._check_store(order.ref.store_url)
            job = OpenJob.read(order.ref, scratch=self._settings.scratch)
        except (BadJobError, StoreNotSharedError) as error:
            raise ForbiddenOrderError(str(error)) from error
        except ValidationError as error:
            raise RefusedOrderError(
                "the job is not one that this agent knows; use one version on both sides"
            ) from error
        try:
            chunk = job.chunks[order.chunk]
        except IndexError as error:
            raise RefusedOrderError(f"the job has no chunk {order.chunk}") from error
        self._check_outputs(job, chunk)
        return job, chunk

    def _check_store(self, url: str) -> None:
        if is_bucket(url):
            AllowedStores((), self._settings.buckets).check_store(url)
        elif not url.startswith("/") or not self._holds(Path(url)):
            raise ForbiddenOrderError(f"store: {url!r} is not one that this agent may use; add it to LONGTAKE_STORES")

    def _check_outputs(self, job: OpenJob, chunk: Chunk) -> None:
        """Raise unless all outputs of a chunk are in a store that the agent may use, links followed."""
        is_local = job.folder.store.is_local
        roots = AllowedPaths(self._settings.folders)
        for path in chunk.iter_outputs():
            try:
                target = job.target(path)
                if is_local:
                    roots.check(Path(target), job.job.output_field)
            except BadJobError as error:
                problem = f"{job.job.output_field}: {path} leads out of the stores that this agent may use"
                raise ForbiddenOrderError(f"{problem}; add that folder to LONGTAKE_STORES") from error
            except ValueError as error:
                raise ForbiddenOrderError(f"{job.job.output_field}: {error}") from error

    def _holds(self, folder: Path) -> bool:
        try:
            AllowedPaths(self._settings.folders).check(folder, "store")
        except BadJobError:
            return False
        return True


class RenderAgent:
    """Renders chunks for workers elsewhere, with processes of this instance.

    Args:
        settings: Stores, margin and name of the agent.
        host: Programs, folders and backend for attempts.
    """

    def __init__(self, settings: AgentSettings, host: Host) -> None:
        self._settings = settings
        self._host = host
        self._admission = Admission(settings)
        self._memory_mb = read_memory_mb(os.environ)

    async def render(self, order: RemoteOrder, call: Invocation) -> RemoteResult:
        """Render the chunk of a verified order; write the result to the store and return it.

        No process of the order runs any more then. Ordered to stop, at the deadline, without a caller, or when the
        instance is taken down, the agent ends the processes first, keeps finished frames and uploads the log.

        Raises:
            RefusedOrderError: The order names another store, or was begun before; nothing was written, nothing ran.
        """
        try:
            job, chunk = await run_in_thread(partial(self._admission.open, order))
            calls = CallRecords(job.folder, chunk_key(chunk.index))
            begun = await run_in_thread(partial(calls.begin, order.attempt))
        except OSError as error:
            return self._result(order, call, AgentResult.of_failure(attempt_failure(error)))
        if not begun:
            raise BegunBeforeError(f"the attempt {order.attempt} was begun before")
        _log.info("job %s: chunk %d is begun as %s", order.ref.id, order.chunk, order.attempt)
        outcome = await self._run(order, job, chunk, calls, call)
        tag = attempt_tag(job, chunk=str(chunk.index), attempt=order.attempt)
        result = self._result(order, call, outcome, survivors=await run_in_thread(partial(count_tagged, tag)))
        seconds = min(max(call.left_seconds / 2, _LEAST_SECONDS), _MOST_SECONDS)
        await run_with_timeout(seconds, partial(calls.finish, result))
        _log.info("job %s: chunk %d: %s %s", order.ref.id, order.chunk, result.outcome, result.error)
        return result

    async def _run(
        self,
        order: RemoteOrder,
        job: OpenJob,
        chunk: Chunk,
        calls: CallRecords,
        call: Invocation,
    ) -> AgentResult:
        try:
            runner = ChunkRunner(self._settings, self._host, job, chunk, calls, order.attempt, call, order.seconds)
            return await runner.run()
        except OSError as error:
            return AgentResult.of_failure(attempt_failure(error))
        except Exception as error:
            # The boundary of the agent: whatever broke, a worker waits for a result.
            _log.exception("job %s: chunk %d broke the agent", order.ref.id, order.chunk)
            said = f"the agent failed at this chunk ({type(error).__name__}); its own log says more"
            return AgentResult.of_failure(RuntimeError(said))

    def _result(
        self, order: RemoteOrder, call: Invocation, outcome: AgentResult, *, survivors: int = 0
    ) -> RemoteResult:
        return RemoteResult(
            attempt=order.attempt,
            host=self._settings.host,
            billed_seconds=round(call.elapsed_seconds, 3),
            memory_mb=self._memory_mb,
            survivors=survivors,
            **asdict(outcome),
        )


def read_memory_mb(environ: Mapping[str, str], groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory limit of the instance in MiB; 0 where there is none."""
    told = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    if told.isdigit():
        return int(told)
    for name in _MEMORY_LIMITS:
        try:
            limit = (groups / name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit() and int(limit) < _NO_LIMIT_BYTES:
            return int(limit) >> 20
    return 0


def count_tagged(tag: Mapping[str, str]) -> int:
    """Return how many living processes carry all variables of a tag; blocking.

    This looks at all processes anew, and does not rely on the supervisor that has ended the render.
    """
    table = process_table()
    marks = {f"{name}={value}".encode() for name, value in tag.items()}
    found = [pid for pid in table.pids() if marks.issubset(table.read_environment(pid))]
    return sum((entry := table.find(pid)) is not None and entry.is_alive for pid in found)
