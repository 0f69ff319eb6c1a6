"""Start, find and list render jobs from Python: `RenderClient`, and the connection to Temporal."""

import asyncio
import atexit
import getpass
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any

import temporalio.client
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionDescription
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.envconfig import ClientConfig
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from longtake.chunks import ChunkPlan
from longtake.concurrency import run_in_thread
from longtake.data_converter import data_converter
from longtake.describe import (
    build_query,
    build_runs_query,
    describe_rpc_error,
    is_job,
    is_queryable,
    read_listed_status,
    read_memo,
    read_status,
)
from longtake.errors import BadJobError, JobEndedError, JobExistsError, NoSuchJobError, NotReachableError
from longtake.handle import JobHandle
from longtake.jobfile.loader import read_job
from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import LARGEST_INLINE_JOB_BYTES
from longtake.models.status import JobState, JobStatus
from longtake.names import (
    DEFAULT_TASK_QUEUE,
    MEMO_DIGEST,
    RENDER_JOB_WORKFLOW,
    check_job_id,
    find_job_values,
    make_job_id,
)
from longtake.pattern_check import check_patterns
from longtake.ranges import Range
from longtake.text import escape_markdown, escape_text, flatten_text
from longtake.transfer.progress import OnProgress
from longtake.transfer.upload_inputs import needs_upload, upload_inputs
from longtake.wait_reasons import find_queue_reason

# Runs whose latest ones are found by one list: as many ids fit a query.
_RUNS_AT_ONCE = 100

# Long enough for a server that is just starting, short enough for a person who mistyped the address.
CONNECT_SECONDS = 10.0

# An interpreter that ends within a millisecond of the last answer aborts, because a thread of the SDK still returns
# from it (sdk-python issue 300; measured: 5 of 12 exits without this, 0 of 36 with).
atexit.register(time.sleep, 0.02)


async def connect(
    *,
    address: str | None = None,
    namespace: str | None = None,
    profile: str | None = None,
    runtime: Runtime | None = None,
    timeout_seconds: float = CONNECT_SECONDS,
) -> temporalio.client.Client:
    """Connect to Temporal and return the client.

    Arguments that are not given come from `temporal.toml` profiles and `TEMPORAL_*` variables, as for the Temporal CLI;
    without those from the defaults, localhost:7233 and `default`. Payloads go through the codec of `LONGTAKE_CODEC`.

    Args:
        address: Host and port of the server.
        namespace: Namespace of the jobs.
        profile: Profile of `temporal.toml`.
        runtime: Runtime of the SDK, for metrics.
        timeout_seconds: Longest time to wait for the server.

    Raises:
        NotReachableError: No Temporal server answered in time.
        LongtakeError: The settings of the codec are off.
    """
    options: dict[str, Any] = {"target_host": "localhost:7233", "data_converter": data_converter()}
    options |= read_connect_options(profile)
    options |= {key: value for key, value in (("target_host", address), ("namespace", namespace)) if value}
    try:
        async with asyncio.timeout(timeout_seconds):
            return await temporalio.client.Client.connect(**options, runtime=runtime)
    except (RuntimeError, ValueError, TimeoutError) as error:
        address = options["target_host"]
        raise NotReachableError(_explain_refusal(error, address, has_key=bool(options.get("api_key")))) from error


async def check_namespace(client: temporalio.client.Client) -> None:
    """Raise `NotReachableError` if the server has no such namespace, which a worker would only repeat for ever."""
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError as error:
        # Whoever may run workers may not always describe namespaces.
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotReachableError(describe_rpc_error(error)) from error


def read_connect_options(profile: str | None = None) -> Mapping[str, Any]:
    """Read what `temporal.toml` and `TEMPORAL_*` variables say of the connection; an empty variable is not set.

    Raises:
        NotReachableError: They cannot be read, or name a file that cannot.
    """
    try:
        # Containers are given empty variables for what is not set, and the SDK takes an empty key for one.
        given = {name: value for name, value in os.environ.items() if value}
        return ClientConfig.load_client_connect_config(profile=profile, override_env_vars=given)
    except OSError as error:
        raise NotReachableError(
            f"{escape_text(str(error.filename), 200)}, which Temporal's configuration names, cannot be read "
            f"({error.strerror}); put the certificate or key there, or mend TEMPORAL_TLS_* or temporal.toml"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise NotReachableError(
            f"Temporal's configuration cannot be read: {flatten_text(str(error))}; mend TEMPORAL_* or temporal.toml"
        ) from error


# Marks in the nested errors of the SDK, and what they mean; {address} is the server's.
_CREDENTIALS = "mend TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH, or temporal.toml"
_REFUSALS = (
    (
        ("PrivateKeyParseError", "NoCertificatesPresented", "CertificateParseError"),
        f"the client certificate or its key is no PEM text; {_CREDENTIALS}",
    ),
    (("KeyMismatch",), f"the client certificate and the key do not belong together; {_CREDENTIALS}"),
    (
        ("Must have both client cert",),
        f"a client certificate needs its key, and one of both is missing; {_CREDENTIALS}",
    ),
    (
        ("InvalidCertificate", "UnknownIssuer"),
        "the certificate of the Temporal server at {address} is not trusted or is for another name; set "
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH and TEMPORAL_TLS_SERVER_NAME",
    ),
    (
        ("CertificateRequired", "HandshakeFailure", "BadCertificate", "CertificateUnknown", "UnknownCA"),
        f"the Temporal server at {{address}} does not accept the client certificate; {_CREDENTIALS}",
    ),
    (
        ("Unauthenticated", "PermissionDenied"),
        "the Temporal server at {address} refuses this client; mend TEMPORAL_API_KEY, or the client certificate",
    ),
    (("invalid target URL", "invalid uri"), "{address} is no address; write TEMPORAL_ADDRESS as host:port"),
    (
        ("BrokenPipe", "ConnectionReset", "UnexpectedEof"),
        "what answers at {address} cuts the connection; if it is a Temporal server with TLS, set TEMPORAL_TLS=true",
    ),
)


def _explain_refusal(error: Exception, address: str, *, has_key: bool) -> str:
    """Return one sentence for a nested error of the SDK, with the setting that mends it."""
    text, shown = f"{error}", escape_text(address, 200)
    if "InvalidContentType" in text:
        cause = "an API key switches TLS on; " if has_key else ""
        return (
            f"the server at {shown} speaks no TLS, and this client was told to: {cause}set TEMPORAL_TLS=false if that "
            "is meant, or TEMPORAL_ADDRESS"
        )
    for marks, sentence in _REFUSALS:
        if any(mark in text for mark in marks):
            return sentence.format(address=shown)
    known = {"ConnectionRefused": "connection refused", "dns error": "no such host"}
    reason = next((said for mark, said in known.items() if mark in text), None)
    if reason is None:
        reason = "it did not answer in time" if isinstance(error, TimeoutError) else text.split("\n")[0][:120]
    return f"no Temporal server answers at {shown} ({reason}); start one with `make dev`, or set TEMPORAL_ADDRESS"


class RenderClient:
    """Start, find and list the render jobs of a Temporal server, without a worker or renderer on this host.

    ```python
    async with RenderClient.connect() as farm:
        job = await farm.submit(RenderJobSpec(...))
        result = await job.result()
    ```
    """

    def __init__(self, client: Client, *, task_queue: str = DEFAULT_TASK_QUEUE) -> None:
        self._client = client
        self._task_queue = task_queue

    @classmethod
    def connect(
        cls,
        *,
        address: str | None = None,
        namespace: str | None = None,
        profile: str | None = None,
        task_queue: str = DEFAULT_TASK_QUEUE,
    ) -> "PendingClient":
        """Connect to Temporal; the result is awaited, or entered with `async with`.

        Arguments that are not given come from `temporal.toml` and `TEMPORAL_*` variables, as for the Temporal CLI.

        Args:
            address: Host and port of the server.
            namespace: Namespace of the jobs.
            profile: Profile of `temporal.toml`.
            task_queue: Task queue of the workers that run the jobs.

        Raises:
            NotReachableError: No Temporal server answers.
        """
        return PendingClient(address=address, namespace=namespace, profile=profile, task_queue=task_queue)

    @property
    def temporal(self) -> Client:
        """Temporal client that all calls use."""
        return self._client

    async def submit(
        self, job: RenderJobSpec, *, id: str | None = None, on_progress: OnProgress = lambda _: None
    ) -> JobHandle:
        """Start a job and return its handle; the same job under the same id is started only once.

        If the store of the job is a bucket, its inputs are uploaded there first, each content once.

        Args:
            job: The job; set `base_dir`, because relative paths start from it.
            id: Id of the job; default: made from the job's name.
            on_progress: Called with each new total of the upload, from another thread.

        Returns:
            The handle; its `is_new` tells whether this call has started the job.

        Raises:
            BadJobError: The id or the job cannot be accepted; nothing was started.
            StoreUnusableError: The inputs cannot be uploaded to the store; nothing was started.
            JobExistsError: A different job has the id.
            JobEndedError: The same job has the id, and has failed or was cancelled; `retry` is for that.
            NotReachableError: Temporal does not take the job.
        """
        name = job.fill_name({**find_job_values("", datetime.now(UTC)), "job": id or ""})
        job_id = check_job_id(id) if id is not None else make_job_id(name)
        _check_size(job)
        await run_in_thread(partial(check_patterns, job))
        if needs_upload(job):
            stop = threading.Event()
            job = await run_in_thread(partial(upload_inputs, job, on_progress=on_progress, stop=stop), stop)
        try:
            # A repeated submit must not start a failed or cancelled job again: that is what `retry` is for.
            await self._start(
                job.to_wire(),
                job_id,
                name,
                WorkflowIDReusePolicy.REJECT_DUPLICATE,
                memo={MEMO_DIGEST: job.digest()},
                details=_describe_origin(job),
            )
        except WorkflowAlreadyStartedError as error:
            status = await self._check_same(job_id, job)
            if status.state in (JobState.FAILED, JobState.CANCELLED):
                how = "has failed" if status.state is JobState.FAILED else "was cancelled"
                raise JobEndedError(
                    f"{job_id} {how}, and nothing was started; `longtake retry {job_id}` renders what is missing"
                ) from error
            return self.job(job_id)
        except RPCError as error:
            raise NotReachableError(f"Temporal does not take job {job_id}: {describe_rpc_error(error)}") from error
        return JobHandle(self._client, job_id, is_new=True)

    def job(self, id: str) -> JobHandle:
        """Return the handle of a job, without checking that the job exists: methods of the handle raise then."""
        return JobHandle(self._client, check_job_id(id))

    async def list(self, *, state: JobState | None = None, limit: int = 100) -> list[JobStatus]:
        """Return the status of jobs, the youngest first, as each job last wrote it down.

        Args:
            state: State of the jobs to list; None lists all.
            limit: Largest number of jobs.

        Raises:
            NotReachableError: Temporal does not answer.
        """
        found: dict[str, JobStatus] = {}
        queues: dict[str, str] = {}
        try:
            async for batch in self._list_runs(state):
                # A run that has not ended is the latest of its job.
                has_earlier = state is not None and state.has_ended
                for execution in await self._find_latest(batch) if has_earlier else batch:
                    status = await read_listed_status(execution)
                    # The list of Temporal lags behind, so that the status in the job's memo decides.
                    if execution.id not in found and (state is None or status.state is state):
                        found[execution.id], queues[execution.id] = status, execution.task_queue
                if len(found) >= limit:
                    break
        except RPCError as error:
            raise NotReachableError(f"Temporal does not list jobs: {describe_rpc_error(error)}") from error
        return await _add_reasons(self._client, list(found.values())[:limit], queues)

    async def _list_runs(self, state: JobState | None) -> AsyncIterator[Sequence[WorkflowExecution]]:
        """Yield batches of runs of jobs, the youngest first."""
        batch: list[WorkflowExecution] = []
        async for execution in self._client.list_workflows(build_query(state)):
            if await is_job(execution, self._task_queue):
                batch.append(execution)
            if len(batch) == _RUNS_AT_ONCE:
                yield batch
                batch = []
        yield batch

    async def retry(
        self, id: str, *, chunks: Iterable[Range] = (), frames: str | Iterable[int | str] | None = None
    ) -> JobHandle:
        """Retry the failed chunks of a job, or render some frames of a job that has ended anew.

        A failed or cancelled job is started again under its id and renders only what is missing. A job that has not
        ended renders its failed chunks again. A job that has ended is started again for frames that are named, renders
        these, and makes its film again; their old files and the old film are moved aside.

        Args:
            id: Id of the job.
            chunks: Ranges `[start, stop)` of failed chunks of a job that has not ended; none means all of them.
            frames: Frames of a job that has ended, as in "12-15,20", or as a list; of video whole chunks are rendered.
                None names none.

        Raises:
            NoSuchJobError: There is no such job.
            JobEndedError: The job has completed, and there is nothing to retry.
            JobExistsError: The job was started again meanwhile.
            BadJobError: None of the chunks has failed, or single chunks were named for a job that has ended, or frames
                for one that has not, or frames that the job does not have; nothing was started.
        """
        handle, wanted = self.job(id), tuple(chunks)
        anew = None if frames is None else frames if isinstance(frames, str) else ",".join(map(str, frames))
        if wanted and anew is not None:
            raise BadJobError("frames: stand beside chunks; name one of the two")
        status = await handle.status()
        if anew is not None and not status.state.has_ended:
            raise BadJobError(
                f"frames: {id} is {status.state}, and frames are rendered anew when a job has ended; wait for its end"
            )
        if status.state is JobState.COMPLETED and anew is None:
            raise JobEndedError(f"{id} has completed; there is nothing to retry")
        if not status.state.has_ended:
            await handle.retry_failed(wanted)
            return handle
        if wanted:
            raise BadJobError(
                f"chunks: {id} is {status.state}, and started again it renders all that is missing; name no chunks"
            )
        document = await handle.document()
        # Who retries a job wants it to render, also where it was first started paused.
        document.pop("start_paused", None)
        if status.started_at is not None:
            # Its outputs are named after the first start, and its finished chunks are those of that start.
            document["started_at"] = status.started_at.isoformat()
        reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
        if anew is not None:
            document["rerender"] = ChunkPlan(read_job(dict(document))).request_rerender(anew).model_dump()
            reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE
        try:
            await self._start(document, id, status.name, reuse)
        except WorkflowAlreadyStartedError as error:
            raise JobExistsError(f"{id} is at work again already; watch it with `longtake watch {id}`") from error
        return self.job(id)

    async def _start(
        self,
        document: Mapping[str, Any],
        job_id: str,
        name: str,
        reuse: WorkflowIDReusePolicy,
        memo: Mapping[str, Any] | None = None,
        details: str | None = None,
    ) -> None:
        await self._client.start_workflow(
            RENDER_JOB_WORKFLOW,
            document,
            id=job_id,
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=reuse,
            memo=memo,
            # The Temporal UI shows it as Markdown.
            static_summary=escape_markdown(name) or None,
            static_details=details,
        )

    async def _find_latest(self, executions: Sequence[WorkflowExecution]) -> Iterable[WorkflowExecution]:
        """Return those of some runs that are the latest of their jobs: a job that is retried has several.

        One list tells that of all of them; a request for each would take minutes for thousands of jobs.
        """
        latest: dict[str, WorkflowExecution] = {execution.id: execution for execution in executions}
        if listed := [job_id for job_id in latest if is_queryable(job_id)]:
            async for run in self._client.list_workflows(build_runs_query(listed)):
                if run.start_time > latest[run.id].start_time:
                    latest[run.id] = run
        for job_id in latest.keys() - set(listed):
            with suppress(RPCError):
                latest[job_id] = await self._client.get_workflow_handle(job_id).describe()
        known = {execution.run_id for execution in executions}
        return [execution for execution in latest.values() if execution.run_id in known]

    async def _check_same(self, job_id: str, job: RenderJobSpec) -> JobStatus:
        """Return the status of the job that has an id; raise unless that is the same job."""
        handle = self._client.get_workflow_handle(job_id)
        try:
            description: WorkflowExecutionDescription = await handle.describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise NoSuchJobError(f"{job_id} ended and was removed just now; submit it again") from error
            raise NotReachableError(f"Temporal does not answer for {job_id}: {describe_rpc_error(error)}") from error
        if await read_memo(description, MEMO_DIGEST, str) != job.digest():
            raise JobExistsError(f"id: {job_id} is taken by a different job; choose another id")
        return await read_status(description)


async def _add_reasons(client: Client, jobs: Sequence[JobStatus], queues: Mapping[str, str]) -> list[JobStatus]:
    """Add to jobs why they do not go on, as far as a look at each of their queues tells that."""
    reasons: dict[str, str | None] = {}
    listed = []
    for job in jobs:
        queue = queues[job.id]
        if not job.state.has_ended and job.waiting_for is None:
            if queue not in reasons:
                reasons[queue] = await find_queue_reason(client, queue)
            job = job.model_copy(update={"waiting_for": reasons[queue]})
        listed.append(job)
    return listed


class PendingClient:
    """Connect a `RenderClient` when awaited, or when entered with `async with`."""

    def __init__(self, *, address: str | None, namespace: str | None, profile: str | None, task_queue: str) -> None:
        self._address = address
        self._namespace = namespace
        self._profile = profile
        self._task_queue = task_queue

    async def __aenter__(self) -> RenderClient:
        client = await connect(address=self._address, namespace=self._namespace, profile=self._profile)
        return RenderClient(client, task_queue=self._task_queue)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The SDK closes its connection when the client is no longer used.
        return None

    def __await__(self) -> Generator[Any, None, RenderClient]:
        return self.__aenter__().__await__()


def _describe_origin(job: RenderJobSpec) -> str:
    """Return who has submitted a job, its store and its film, as Markdown for the Temporal UI."""
    user = "somebody"
    # A container may have no user of its number.
    with suppress(OSError, KeyError):
        user = getpass.getuser()
    facts = {
        "submitted by": f"{user}@{socket.gethostname()}",
        "store": job.store or job.base_dir or "the first folder of the workers",
        "film": job.output or "none: the chunks stay as they are",
    }
    return "\n".join(f"- {name}: {escape_markdown(text)}" for name, text in facts.items())


def _check_size(job: RenderJobSpec) -> None:
    size = job.wire_size_bytes()
    if size > LARGEST_INLINE_JOB_BYTES:
        raise BadJobError(
            f"chunks: the list takes {size:,} bytes, and {LARGEST_INLINE_JOB_BYTES:,} can travel; write it to a "
            "job file and give its path, sha256 and count, or use frames"
        )
