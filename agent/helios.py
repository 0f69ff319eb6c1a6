"""Render for Helios clients: one command of a job.json in a workspace of its own, answered in the words of Helios."""

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

# That of 10,000 chunks has 3 MB.
_LARGEST_BYTES = 32 * 2**20
_READ_SECONDS = 15.0
_FETCH_SECONDS = 60.0
_PIECE_BYTES = 1 << 16


class HeliosError(Exception):
    """Why a Helios chunk cannot be rendered, in the words of Helios' own workers where they have some."""


class HeliosForbiddenError(HeliosError):
    """The settings do not allow it."""


def fetch_chunk_command(url: str, chunk: float, allowed: Sequence[str]) -> tuple[str, ...]:
    """Return the command of a chunk; blocking.

    Raises:
        HeliosForbiddenError: The URL is not one that this agent may ask.
        HeliosError: There is no such job or chunk.
    """
    if not allowed:
        raise HeliosForbiddenError(
            "this agent renders no Helios jobs; set LONGTAKE_HELIOS_JOBS to what the URLs of their job.json begin with"
        )
    if not any(is_url_below(url, prefix) for prefix in allowed):
        raise HeliosForbiddenError("jobPath is none that this agent may read; add its folder to LONGTAKE_HELIOS_JOBS")
    return _command(_document(_fetch(url)), chunk)


def _command(document: Any, index: float) -> tuple[str, ...]:
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
    """Tell whether a JSON value is a number, which JavaScript does not take `true` for."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _document(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HeliosError("Invalid JobSpec: it is not JSON") from error


def _fetch(url: str) -> bytes:
    """Return what lies at a URL; no redirect is followed, since it might lead to where the settings do not."""
    end = time.monotonic() + _FETCH_SECONDS
    try:
        with _opener().open(url, timeout=_READ_SECONDS) as response:
            if not 200 <= response.status < 300:
                raise HeliosError(f"Failed to fetch job spec: {response.reason or responses.get(response.status)}")
            content = bytearray()
            while piece := response.read1(_PIECE_BYTES):
                content += piece
                if len(content) > _LARGEST_BYTES:
                    raise HeliosError(f"Failed to fetch job spec: it has more than {_LARGEST_BYTES} bytes")
                if time.monotonic() > end:
                    raise HeliosError(f"Failed to fetch job spec: not within {_FETCH_SECONDS:g} s")
            return bytes(content)
    except (OSError, HTTPException, ValueError) as error:
        raise HeliosError("fetch failed") from error


def _opener() -> OpenerDirector:
    """Return what speaks HTTP and nothing else: no redirects, files, FTP or proxies."""
    opener = OpenerDirector()
    opener.add_handler(HTTPHandler())
    opener.add_handler(HTTPSHandler())
    return opener


class TailPipe:
    """Reads a named pipe as fast as it is written, and keeps the end.

    Args:
        path: Where it is made.
        most_bytes: How much is kept.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._kept = bytearray()
        self._descriptor = -1

    def __enter__(self) -> Self:
        os.mkfifo(self._path, 0o600)
        # For both, so that it neither waits for a writer nor ends with one.
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def tail(self) -> bytes:
        """Return the end of what was printed; all of it is read once nobody writes any more."""
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


_log = logging.getLogger(__name__)

# Of each stream; answers hold the two and may have 6 MB.
MOST_BYTES = 1 << 20

# Nobody waits for what is stopped, so that it has no long time to clean up.
_GRACE_SECONDS = 4.0

# Gives the program a place of its own for standard error, which the supervisor puts with standard output.
_APART = ("/bin/sh", "-c", 'exec "$@" 2>"$0"')


@dataclass(frozen=True)
class HeliosExit:
    """How a command ended and the end of what it printed; a signal is -1, as Node has it."""

    code: int
    stdout: str
    stderr: str


class HeliosWorker:
    """Does what Helios' own workers do, within the settings.

    Args:
        settings: What it may do.
        host: Programs and environment of commands.
        supervisor: Starts them.
    """

    def __init__(self, settings: AgentSettings, host: Host, supervisor: Supervisor) -> None:
        self._settings = settings
        self._host = host
        self._supervisor = supervisor

    async def render(self, job_url: str, chunk: float, call: Invocation) -> HeliosExit:
        """Run the command of a chunk to its end; it is stopped when the caller hangs up, and in time.

        Raises:
            HeliosForbiddenError: The settings do not allow it.
            HeliosError: It cannot be run, or was stopped.
        """
        command = await run_in_thread(partial(fetch_chunk_command, job_url, chunk, self._settings.helios_jobs))
        token = secrets.token_hex(8)
        place = self._settings.scratch / "helios" / token
        workspace = self._settings.helios_workspace or place / "work"
        try:
            await run_in_thread(partial(workspace.mkdir, parents=True, exist_ok=True))
            await run_in_thread(partial(place.mkdir, parents=True, exist_ok=True))
            return await self._run(self._resolved(command, workspace), workspace, place, token, call)
        except (OSError, SupervisorError) as error:
            raise HeliosError(f"spawn {command[0]}: {getattr(error, 'strerror', None) or error}") from error
        finally:
            await run_in_thread(partial(shutil.rmtree, place, ignore_errors=True))

    def _resolved(self, command: tuple[str, ...], workspace: Path) -> tuple[str, ...]:
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
            apart = (*_APART, str(place / "stderr"), *command)
            renderer = await self._supervisor.spawn(apart, cwd=workspace, env=environment, log=log, tag=tag)
            async with _ended_whatever_happens(renderer):
                code = await self._until_its_end(renderer, call)
            stdout = await run_in_thread(partial(AttemptLog(log).tail, MOST_BYTES))
            return HeliosExit(code if code >= 0 else -1, decode_tail(stdout), decode_tail(stderr.tail()))

    async def _until_its_end(self, renderer: RenderProcess, call: Invocation) -> int:
        """Return the exit code.

        Raises:
            HeliosError: The command must be stopped, or its keeper was killed.
        """
        code = asyncio.create_task(renderer.wait())
        limits = [asyncio.create_task(event.wait()) for event in (call.disconnected, call.going_down)]
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
        if call.going_down.is_set():
            raise HeliosError("the command was stopped: the platform takes this instance down")
        raise HeliosError(
            f"the command was stopped: this function ends after {call.seconds:.0f} s; make the chunks smaller"
        )


@asynccontextmanager
async def _ended_whatever_happens(renderer: RenderProcess) -> AsyncIterator[None]:
    """Leave nothing of a render: what ended well has nothing to clean up, and what is stopped a moment."""
    grace = _GRACE_SECONDS
    try:
        yield
        grace = 0.0
    finally:
        try:
            await shield_until_done(renderer.stop(grace))
        except KeeperLostError:
            # Which ended its render, too.
            pass
        except ProcessSurvivedError as error:
            _log.error("%s", error)


def decode_tail(output: bytes, most_bytes: int = MOST_BYTES) -> str:
    """Return the end of an output as text; a character that was cut at the beginning is left out."""
    tail = output[-most_bytes:]
    if len(tail) == most_bytes:
        while tail and tail[0] & 0xC0 == 0x80:
            tail = tail[1:]
    return tail.decode(errors="replace")


# Below the 6 MB of Lambda, which fails work that was done when its answer is larger.
_LARGEST_ANSWER_BYTES = 5_000_000

_LONGEST_REASON = 2000


@dataclass(frozen=True)
class HeliosRequest:
    """Render this chunk of the job at this URL."""

    job_path: str
    chunk_index: float


@dataclass(frozen=True)
class HeliosReply:
    """A status and a JSON object."""

    status: int
    body: dict[str, Any]


def parse_request(document: Any) -> HeliosRequest | None:
    """Return what a Helios client asks for; None where the keys are wrong."""
    if not isinstance(document, dict):
        return None
    path, index = document.get("jobPath"), document.get("chunkIndex")
    if not isinstance(path, str) or not is_number(index):
        return None
    return HeliosRequest(path, index)


async def answer_lambda(worker: HeliosWorker, event: Any, call: Invocation) -> dict[str, Any]:
    """Return what a Lambda handler answers to a Helios client; never raises."""
    if not isinstance(event, dict | list):
        reply = HeliosReply(400, {"message": "Invalid payload: must be an object"})
    elif (request := parse_request(event)) is None:
        reply = HeliosReply(400, {"message": "Invalid payload: missing jobPath or chunkIndex"})
    else:
        reply = await _reply(worker, request, call, _as_lambda)
    return {"statusCode": reply.status, "body": json.dumps(reply.body)}


async def answer_cloud_run(worker: HeliosWorker, document: Any, call: Invocation) -> HeliosReply:
    """Return what a Cloud Run service answers to a Helios client; never raises."""
    if (request := parse_request(document)) is None:
        return HeliosReply(400, {"message": "Missing jobPath or chunkIndex"})
    return await _reply(worker, request, call, _as_cloud_run)


async def _reply(
    worker: HeliosWorker, request: HeliosRequest, call: Invocation, answer: Callable[[HeliosExit], dict[str, Any]]
) -> HeliosReply:
    try:
        ended = await worker.render(request.job_path, request.chunk_index, call)
    except HeliosForbiddenError as error:
        return HeliosReply(403, {"message": str(error)})
    except HeliosError as error:
        return HeliosReply(500, {"message": str(error)})
    except Exception as error:
        # The boundary to clients, which wait for a word whatever broke.
        _log.exception("a Helios chunk broke the agent")
        return HeliosReply(500, {"message": f"the agent failed at this chunk ({type(error).__name__})"})
    return HeliosReply(200 if ended.code == 0 else 500, _bounded(ended, answer))


def _as_lambda(ended: HeliosExit) -> dict[str, Any]:
    body: dict[str, Any] = {"exitCode": ended.code, "output": ended.stdout, "stderr": ended.stderr}
    if ended.code != 0:
        # The only field that Helios' own client shows.
        reason = shorten_line(ended.stderr[-_LONGEST_REASON:], _LONGEST_REASON)
        body["message"] = reason or f"the command ended with exit code {ended.code}"
    return body


def _as_cloud_run(ended: HeliosExit) -> dict[str, Any]:
    return {"exitCode": ended.code, "stdout": ended.stdout, "stderr": ended.stderr}


def _bounded(ended: HeliosExit, answer: Callable[[HeliosExit], dict[str, Any]]) -> dict[str, Any]:
    """Return an answer that gets through: control characters take seven times their size in JSON within JSON."""
    while len(json.dumps(json.dumps(body := answer(ended)))) > _LARGEST_ANSWER_BYTES:
        ended = replace(ended, stdout=_half(ended.stdout), stderr=_half(ended.stderr))
    return body


def _half(text: str) -> str:
    return text[len(text) // 2 :]
