"""Rendering for Helios clients: one command of a job.json, in a workspace, with nothing left of it."""

import asyncio
import logging
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from activities.attempts.host import Host
from activities.processes.environment import render_environment
from activities.processes.errors import KeeperLostError, ProcessSurvivedError, SupervisorError
from activities.processes.render_process import RenderProcess
from activities.processes.supervisor import Supervisor
from agent.settings import AgentSettings
from longtake.attempt_log import AttemptLog
from longtake.concurrency import in_thread, to_the_end
from longtake.errors import BadJobError
from remote.call import Call
from remote.helios_jobs import HeliosError, HeliosForbiddenError, chunk_command
from remote.tail_pipe import TailPipe

_log = logging.getLogger(__name__)

# Of each stream; answers hold the two and may have 6 MB.
MOST_BYTES = 1 << 20

# Nobody waits for what is stopped, so that it has no long time to clean up.
_GRACE_SECONDS = 4.0

# Gives the program a place of its own for standard error, which the supervisor puts with standard output.
_APART = ("/bin/sh", "-c", 'exec "$@" 2>"$0"')


@dataclass(frozen=True)
class Ended:
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

    async def render(self, job_url: str, chunk: float, call: Call) -> Ended:
        """Run the command of a chunk to its end; it is stopped when the caller hangs up, and in time.

        Raises:
            HeliosForbiddenError: The settings do not allow it.
            HeliosError: It cannot be run, or was stopped.
        """
        command = await in_thread(partial(chunk_command, job_url, chunk, self._settings.helios_jobs))
        token = secrets.token_hex(8)
        place = self._settings.scratch / "helios" / token
        workspace = self._settings.helios_workspace or place / "work"
        try:
            await in_thread(partial(workspace.mkdir, parents=True, exist_ok=True))
            await in_thread(partial(place.mkdir, parents=True, exist_ok=True))
            return await self._run(self._resolved(command, workspace), workspace, place, token, call)
        except (OSError, SupervisorError) as error:
            raise HeliosError(f"spawn {command[0]}: {getattr(error, 'strerror', None) or error}") from error
        finally:
            await in_thread(partial(shutil.rmtree, place, ignore_errors=True))

    def _resolved(self, command: tuple[str, ...], workspace: Path) -> tuple[str, ...]:
        try:
            return self._host.programs.resolve(command, base_dir=workspace, field="command")
        except BadJobError as error:
            name = command[0]
            if shutil.which(name) is None and shutil.which(str(workspace / name)) is None:
                raise HeliosError(f"spawn {name} ENOENT") from error
            raise HeliosForbiddenError(str(error)) from error

    async def _run(self, command: tuple[str, ...], workspace: Path, place: Path, token: str, call: Call) -> Ended:
        tag = {"LONGTAKE_ATTEMPT": f"helios-{token}"}
        environment = render_environment(self._host.environ, {}, tag=tag, also=self._host.pass_env)
        log = place / "stdout.log"
        with TailPipe(place / "stderr", MOST_BYTES) as stderr:
            apart = (*_APART, str(place / "stderr"), *command)
            renderer = await self._supervisor.spawn(apart, cwd=workspace, env=environment, log=log, tag=tag)
            async with _ended_whatever_happens(renderer):
                code = await self._until_its_end(renderer, call)
            stdout = await in_thread(partial(AttemptLog(log).tail, MOST_BYTES))
            return Ended(code if code >= 0 else -1, text_of(stdout), text_of(stderr.tail()))

    async def _until_its_end(self, renderer: RenderProcess, call: Call) -> int:
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
            await to_the_end(renderer.stop(grace))
        except KeeperLostError:
            # Which ended its render, too.
            pass
        except ProcessSurvivedError as error:
            _log.error("%s", error)


def text_of(output: bytes, most_bytes: int = MOST_BYTES) -> str:
    """Return the end of an output as text; a character that was cut at the beginning is left out."""
    tail = output[-most_bytes:]
    if len(tail) == most_bytes:
        while tail and tail[0] & 0xC0 == 0x80:
            tail = tail[1:]
    return tail.decode(errors="replace")
