"""Render for Helios clients: run a command of a job.json in a workspace, and answer as Helios workers do."""

import asyncio
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPException, responses
from pathlib import Path
from typing import Any, Self, TypeGuard
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector

from activities.attempts.host import Host
from activities.processes.programs import build_render_environment
from activities.processes.render_process import KeeperLostError, ProcessSurvivedError, RenderProcess
from activities.processes.supervisor import Supervisor, SupervisorError
from agent.call import Invocation
from agent.settings import AgentSettings, is_url_below
from longtake.attempt_log import AttemptLog
from longtake.concurrency import run_in_thread, shield_until_done
from longtake.errors import BadJobError
from longtake.templates import split_command
from longtake.text import shorten_line

_log = logging.getLogger(__name__)

# A job.json of 10,000 chunks has 3 MB.
_LARGEST_JOB_BYTES = 32 * 2**20

_READ_SECONDS = 15.0

_FETCH_SECONDS = 60.0

_PIECE_BYTES = 1 << 16

# Kept of each stream: an answer holds both and may have 6 MB.
MOST_BYTES = 1 << 20

# Short: the caller of a stopped command has hung up, or the instance is about to end.
_GRACE_SECONDS = 4.0

# Sends standard error to the file of the first argument; the supervisor would add it to standard output.
_SEPARATE_STDERR = ("/bin/sh", "-c", 'exec "$@" 2>"$0"')

# Below the 6 MB of Lambda, which answers a larger one with an error although the work was done.
_LARGEST_ANSWER_BYTES = 5_000_000

_LONGEST_REASON = 2000


class HeliosError(Exception):
    """A Helios chunk cannot be rendered; the message is that of Helios' own workers where they have one."""


class HeliosForbiddenError(HeliosError):
    """The settings do not allow a Helios chunk."""


@dataclass(frozen=True)
class HeliosRequest:
    """Request of a Helios client: the URL of a job.json and the chunk to render."""

    job_path: str
    chunk_index: float


@dataclass(frozen=True)
class HeliosReply:
    """Answer to a Helios client: an HTTP status and a JSON object."""

    status: int
    body: dict[str, Any]


@dataclass(frozen=True)
class HeliosExit:
    """Exit code of a command, -1 for a signal as in Node, and the end of its two outputs."""

    code: int
    stdout: str
    stderr: str


class HeliosWorker:
    """Runs commands of Helios jobs as Helios' own workers do, within the agent's settings.

    Args:
        settings: Allowed URLs and programs, workspace, margin.
        host: Programs and environment of commands.
        supervisor: Starts the commands.
    """

    def __init__(self, settings: AgentSettings, host: Host, supervisor: Supervisor) -> None:
        self._settings = settings
        self._host = host
        self._supervisor = supervisor

    async def render(self, job_url: str, chunk: float, call: Invocation) -> HeliosExit:
        """Run the command of a chunk to its end; stop it when the caller hangs up or the call's time is up.

        Raises:
            HeliosForbiddenError: The settings do not allow the chunk.
            HeliosError: The command cannot be run, or was stopped.
        """
        command = await run_in_thread(partial(fetch_chunk_command, job_url, chunk, self._settings.helios_jobs))
        token = secrets.token_hex(8)
        place = self._settings.scratch / "helios" / token
        workspace = self._settings.helios_workspace or place / "work"
        try:
            await run_in_thread(partial(workspace.mkdir, parents=True, exist_ok=True))
            await run_in_thread(partial(place.mkdir, parents=True, exist_ok=True))
            resolved = await run_in_thread(partial(self._resolve_command, command, workspace))
            return await self._run(resolved, workspace, place, token, call)
        except (OSError, SupervisorError) as error:
            raise HeliosError(f"spawn {command[0]}: {getattr(error, 'strerror', None) or error}") from error
        finally:
            await run_in_thread(partial(shutil.rmtree, place, ignore_errors=True))

    def _resolve_command(self, command: tuple[str, ...], workspace: Path) -> tuple[str, ...]:
        try:
            return self._host.programs.resolve(command, base_dir=workspace, field="command")
        except BadJobError as error:
            name = command[0]
            if shutil.which(name) is None and shutil.which(str(workspace / name)) is None:
                raise HeliosError(f"spawn {name} ENOENT") from error
            raise HeliosForbiddenError(str(error)) from error

    async def _run(
        self, command: tuple[str, ...], workspace: Path, place: Path, token: str, call: Invocation
    ) -> HeliosExit:
        tag = {"LONGTAKE_ATTEMPT": f"helios-{token}"}
        environment = build_render_environment(self._host.environ, {}, tag=tag, also=self._host.pass_env)
        log = place / "stdout.log"
        with TailPipe(place / "stderr", MOST_BYTES) as stderr:
            apart = (*_SEPARATE_STDERR, str(place / "stderr"), *command)
            renderer = await self._supervisor.spawn(apart, cwd=workspace, env=environment, log=log, tag=tag)
            async with _stop_on_exit(renderer):
                code = await self._wait_for_exit(renderer, call)
            stdout = await run_in_thread(partial(AttemptLog(log).tail, MOST_BYTES))
            return HeliosExit(code if code >= 0 else -1, decode_tail(stdout), decode_tail(stderr.tail()))

    async def _wait_for_exit(self, renderer: RenderProcess, call: Invocation) -> int:
        """Wait for the end of a command and return its exit code.

        Raises:
            HeliosError: The command must be stopped, or its keeper was killed.
        """
        code = asyncio.create_task(renderer.wait())
        limits = [asyncio.create_task(event.wait()) for event in (call.disconnected, call.shutting_down)]
        try:
            left = max(0.0, call.left_seconds - self._settings.margin_seconds)
            await asyncio.wait([code, *limits], timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if code.done():
                return code.result()
        except KeeperLostError as error:
            raise HeliosError(str(error)) from error
        finally:
            for task in (code, *limits):
                task.cancel()
            await asyncio.wait([code, *limits])
        if call.disconnected.is_set():
            raise HeliosError("the command was stopped: its caller hung up")
        if call.shutting_down.is_set():
            raise HeliosError("the command was stopped: the platform takes this instance down")
        raise HeliosError(
            f"the command was stopped: this function ends after {call.seconds:.0f} s; make the chunks smaller"
        )


@asynccontextmanager
async def _stop_on_exit(renderer: RenderProcess) -> AsyncIterator[None]:
    """Stop a render with all its processes at the end of the block: at once, or with a grace where it was cut short."""
    grace = _GRACE_SECONDS
    try:
        yield
        grace = 0.0
    finally:
        try:
            await shield_until_done(renderer.stop(grace))
        except KeeperLostError:
            # A keeper takes its render with it.
            pass
        except ProcessSurvivedError as error:
            _log.error("%s", error)


class TailPipe:
    """Reads a named pipe as fast as it is written, and keeps the end of the bytes.

    Args:
        path: Path of the pipe, made at the beginning of the `with` block.
        most_bytes: How many bytes are kept at least.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._kept = bytearray()
        self._descriptor = -1

    def __enter__(self) -> Self:
        os.mkfifo(self._path, 0o600)
        # For reading and writing: opened to read alone, it would report the end whenever no writer has it open.
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def tail(self) -> bytes:
        """Read the rest and return the kept end; complete once all writers have closed the pipe."""
        while self._read():
            pass
        return bytes(self._kept)

    def _read(self) -> bool:
        try:
            piece = os.read(self._descriptor, _PIECE_BYTES)
        except BlockingIOError:
            return False
        self._kept += piece
        if len(self._kept) > 2 * self._most_bytes:
            del self._kept[: -self._most_bytes]
        return bool(piece)


def decode_tail(output: bytes, most_bytes: int = MOST_BYTES) -> str:
    """Decode the end of an output; a character that is cut at the beginning is left out."""
    tail = output[-most_bytes:]
    if len(tail) == most_bytes:
        while tail and tail[0] & 0xC0 == 0x80:
            tail = tail[1:]
    return tail.decode(errors="replace")


def parse_request(document: Any) -> HeliosRequest | None:
    """Parse the request of a Helios client; None where the keys are wrong."""
    if not isinstance(document, dict):
        return None
    path, index = document.get("jobPath"), document.get("chunkIndex")
    if not isinstance(path, str) or not is_number(index):
        return None
    return HeliosRequest(path, index)


async def answer_lambda(worker: HeliosWorker, event: Any, call: Invocation) -> dict[str, Any]:
    """Answer a Helios client as a Lambda handler; never raises."""
    if not isinstance(event, dict | list):
        reply = HeliosReply(400, {"message": "Invalid payload: must be an object"})
    elif (request := parse_request(event)) is None:
        reply = HeliosReply(400, {"message": "Invalid payload: missing jobPath or chunkIndex"})
    else:
        reply = await _render_reply(worker, request, call, _format_lambda)
    return {"statusCode": reply.status, "body": json.dumps(reply.body)}


async def answer_cloud_run(worker: HeliosWorker, document: Any, call: Invocation) -> HeliosReply:
    """Answer a Helios client as a Cloud Run service; never raises."""
    if (request := parse_request(document)) is None:
        return HeliosReply(400, {"message": "Missing jobPath or chunkIndex"})
    return await _render_reply(worker, request, call, _format_cloud_run)


async def _render_reply(
    worker: HeliosWorker, request: HeliosRequest, call: Invocation, answer: Callable[[HeliosExit], dict[str, Any]]
) -> HeliosReply:
    try:
        result = await worker.render(request.job_path, request.chunk_index, call)
    except HeliosForbiddenError as error:
        return HeliosReply(403, {"message": str(error)})
    except HeliosError as error:
        return HeliosReply(500, {"message": str(error)})
    except Exception as error:
        # The boundary to clients, which need an answer whatever broke.
        _log.exception("a Helios chunk broke the agent")
        return HeliosReply(500, {"message": f"the agent failed at this chunk ({type(error).__name__})"})
    return HeliosReply(200 if result.code == 0 else 500, _fit_answer(result, answer))


def _format_lambda(result: HeliosExit) -> dict[str, Any]:
    body: dict[str, Any] = {"exitCode": result.code, "output": result.stdout, "stderr": result.stderr}
    if result.code != 0:
        # The only field that the client of Helios shows.
        reason = shorten_line(result.stderr[-_LONGEST_REASON:], _LONGEST_REASON)
        body["message"] = reason or f"the command ended with exit code {result.code}"
    return body


def _format_cloud_run(result: HeliosExit) -> dict[str, Any]:
    return {"exitCode": result.code, "stdout": result.stdout, "stderr": result.stderr}


def _fit_answer(result: HeliosExit, answer: Callable[[HeliosExit], dict[str, Any]]) -> dict[str, Any]:
    """Halve the outputs until the answer fits: in JSON within JSON a control character takes seven times its size."""
    while len(json.dumps(json.dumps(body := answer(result)))) > _LARGEST_ANSWER_BYTES:
        result = replace(result, stdout=_drop_first_half(result.stdout), stderr=_drop_first_half(result.stderr))
    return body


def _drop_first_half(text: str) -> str:
    return text[len(text) // 2 :]


def fetch_chunk_command(url: str, chunk: float, allowed: Sequence[str]) -> tuple[str, ...]:
    """Fetch a job.json and return the command of one of its chunks; blocking.

    Args:
        url: URL of the job.json.
        chunk: The chunk's `id` in it.
        allowed: Beginnings of the URLs that this agent may fetch.

    Raises:
        HeliosForbiddenError: The URL begins with none of `allowed`.
        HeliosError: There is no such job or chunk.
    """
    if not allowed:
        raise HeliosForbiddenError(
            "this agent renders no Helios jobs; set LONGTAKE_HELIOS_JOBS to what the URLs of their job.json begin with"
        )
    if not any(is_url_below(url, prefix) for prefix in allowed):
        raise HeliosForbiddenError("jobPath is none that this agent may read; add its folder to LONGTAKE_HELIOS_JOBS")
    return _find_command(_parse_json(_fetch_job(url)), chunk)


def _fetch_job(url: str) -> bytes:
    """Fetch what lies at a URL; no redirect is followed, since it may lead out of the allowed URLs."""
    end = time.monotonic() + _FETCH_SECONDS
    try:
        with _make_opener().open(url, timeout=_READ_SECONDS) as response:
            if not 200 <= response.status < 300:
                raise HeliosError(f"Failed to fetch job spec: {response.reason or responses.get(response.status)}")
            content = bytearray()
            while piece := response.read1(_PIECE_BYTES):
                content += piece
                if len(content) > _LARGEST_JOB_BYTES:
                    raise HeliosError(f"Failed to fetch job spec: it has more than {_LARGEST_JOB_BYTES} bytes")
                if time.monotonic() > end:
                    raise HeliosError(f"Failed to fetch job spec: not within {_FETCH_SECONDS:g} s")
            return bytes(content)
    except (OSError, HTTPException, ValueError) as error:
        raise HeliosError("fetch failed") from error


def _make_opener() -> OpenerDirector:
    """Make an opener of HTTP and HTTPS alone: without redirects, files, FTP and proxies."""
    opener = OpenerDirector()
    opener.add_handler(HTTPHandler())
    opener.add_handler(HTTPSHandler())
    return opener


def _parse_json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HeliosError("Invalid JobSpec: it is not JSON") from error


def _find_command(document: Any, index: float) -> tuple[str, ...]:
    chunks = document.get("chunks") if isinstance(document, dict) else None
    if not isinstance(chunks, list):
        raise HeliosError("Invalid JobSpec: missing chunks array")
    if document.get("assetsUrl"):
        raise HeliosError(
            "Worker was not configured with an ArtifactStorage adapter, but the job requires remote assets."
        )
    for chunk in chunks:
        if isinstance(chunk, dict) and is_number(chunk.get("id")) and chunk["id"] == index:
            line = chunk.get("command")
            try:
                return split_command(line if isinstance(line, str) else "")
            except BadJobError as error:
                raise HeliosError(f"Invalid JobSpec: the chunk's {error}") from error
    raise HeliosError(f"Chunk with ID {index} not found in job spec")


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a JSON value is a number: as in JavaScript, `true` is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
