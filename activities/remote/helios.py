"""Render chunks with the workers of Helios, unchanged, through the service that runs them."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from activities.attempts.chunk_attempt import ChunkAttempt
from activities.attempts.host import Host
from activities.backends.backend import Progress, RenderTask, RenderWatcher
from activities.backends.exit_status import ExitStatus, raise_if_failed
from activities.backends.render_monitor import LOOK_SECONDS, ProgressFollower, wait_while_frozen
from activities.errors import AttemptError, AttemptLostError
from activities.processes.child import BoundedLog
from activities.processes.programs import Programs
from activities.processes.render_process import Usage
from activities.progress.reader import ProgressReader
from activities.remote.service import CallLostError, Service, ServiceAnswer
from activities.stores.job_folder import OpenJob
from longtake.attempt_log import AttemptLog
from longtake.chunks import Chunk
from longtake.concurrency import cancel_and_wait, run_in_thread
from longtake.models.backends import RemoteBackend
from longtake.templates import escape_template

# Exit code that these workers, programs of Node, report for the end by any signal.
_SIGNAL_EXIT_CODE = -1

# The end of a sentence about a call that was cut.
_WORKS_ON = "its Helios worker does not hear of that and may work on"


class HeliosBackend:
    """Has a Helios worker run a chunk's command as the job.json that the worker reads has it.

    The answer holds only what the command printed. The outputs lie in the worker's folder, which must be the job's
    store. A Helios worker cannot be frozen, and works on when its call is cut; a freeze only delays the call.

    Args:
        service: The function or service that runs the workers.
        settings: The job's backend.
    """

    def __init__(self, service: Service, settings: RemoteBackend) -> None:
        self._service = service
        self._settings = settings

    def open_span(self) -> AbstractAsyncContextManager["HeliosBackend"]:
        """Return this backend: calls of a service share nothing."""
        return nullcontext(self)

    async def render(self, task: RenderTask, watcher: RenderWatcher) -> Usage:
        """Run the chunk's command to a successful end; see `Backend.render`.

        A cancel closes the connection and waits for nothing.

        Raises:
            AttemptError: The command failed or took too long, or its end is not known.
            AttemptLostError: The service was not reached.
            ThrottledError: It has no room now.
        """
        payload = self._make_payload(task)
        await wait_while_frozen(watcher)
        printed_before = await run_in_thread(lambda: AttemptLog(task.log).size)
        follower = ProgressFollower(task, printed_before)
        try:
            answer = await self._call(payload, task, watcher, follower)
        finally:
            await follower.stop()
        status = await run_in_thread(lambda: self._read_exit_status(answer, task, printed_before))
        watcher.on_progress(Progress(status.reading.frames_done, status.reading.message))
        await run_in_thread(lambda: raise_if_failed(status, self._describe(status, task), task, printed_before))
        return Usage()

    def _make_payload(self, task: RenderTask) -> Mapping[str, Any]:
        if self._settings.job_url is None:
            sentence = "backend.job_url is missing; give the http(s) URL of the job.json that the Helios workers read"
            raise AttemptError(sentence, needs_change=True)
        if task.chunk_id is None:
            # The same as for `check`: the workers know the commands of their job.json only.
            sentence = f"{task.name} is no chunk of the job.json, and Helios workers run nothing else; leave it out"
            raise AttemptError(sentence, needs_change=True)
        return {"jobPath": self._settings.job_url, "chunkIndex": task.chunk_id}

    async def _call(
        self, payload: Mapping[str, Any], task: RenderTask, watcher: RenderWatcher, follower: ProgressFollower
    ) -> ServiceAnswer:
        """Call the service; report the frames that the follower counts meanwhile."""
        call = asyncio.ensure_future(self._service.call(payload))
        seconds = task.timeouts.chunk_seconds
        try:
            async with asyncio.timeout(seconds):
                while not call.done():
                    follower.raise_if_failed()
                    watcher.on_progress(Progress(follower.reading.frames_done, f"called {self._service.where}"))
                    await asyncio.wait([call], timeout=LOOK_SECONDS)
            return call.result()
        except CallLostError as error:
            if not error.begun:
                raise AttemptLostError(f"{task.name}: {error}") from error
            raise AttemptError(f"{task.name}: {error}; {_WORKS_ON}") from error
        except TimeoutError as error:
            limit = f"took longer than timeouts.chunk_seconds, {seconds:g} s"
            sentence = f"{self._name_command(task)} {limit}; the connection is closed, and {_WORKS_ON}"
            raise AttemptError(sentence) from error
        except asyncio.CancelledError:
            await cancel_and_wait(call)
            note = f"longtake: stopped; the connection to {self._service.where} is closed, and {_WORKS_ON}"
            await run_in_thread(lambda: _append_to_log(task, note))
            raise
        finally:
            await cancel_and_wait(call)

    def _read_exit_status(self, answer: ServiceAnswer, task: RenderTask, printed_before: int) -> ExitStatus:
        """Add what the command printed to the log, and return its exit status; blocking."""
        result = self._service.parse_helios_answer(answer, lenient=self._settings.lenient)
        lost = "longtake: the work is done, and its output was too large to come back" if result.answer_was_lost else ""
        _append_to_log(task, result.stdout, result.stderr, lost)
        # Not the follower's reader, which looks for new segments of the log only now and then.
        reader = ProgressReader(
            *(task.log, task.progress),
            frames=task.frames,
            counted_dir=task.counted_dir,
            since=printed_before,
            program=task.name,
        )
        return ExitStatus(result.exit_code, reading=reader.read(ended=True))

    def _describe(self, status: ExitStatus, task: RenderTask) -> str:
        if status.code == _SIGNAL_EXIT_CODE and status.reading.fatal is None:
            return f"{self._name_command(task)} was ended by a signal; the system may have run out of memory"
        return status.describe(self._name_command(task), Usage())

    def _name_command(self, task: RenderTask) -> str:
        return f"{task.name} by {self._service.where}"


def _append_to_log(task: RenderTask, *texts: str) -> None:
    """Append each text to the attempt's log, within its bounds, as lines of its own."""
    log = BoundedLog(str(task.log))
    log.create()
    for text in texts:
        if text:
            ended = text if text.endswith("\n") else f"{text}\n"
            # A text of JSON can hold half of a surrogate pair, which has no UTF-8.
            log.write(memoryview(ended.encode(errors="replace")))
    log.close()


def make_helios_attempt(
    host: Host, service: Service, backend: RemoteBackend, job: OpenJob, chunk: Chunk, name: str
) -> ChunkAttempt:
    """Make an attempt at a chunk that a Helios worker renders and this worker checks and publishes.

    Args:
        host: What this worker offers to attempts.
        service: The function or service that runs the Helios workers.
        backend: The job's backend.
        job: The chunk's job.
        chunk: The chunk.
        name: Name of the attempt, never used twice.
    """
    remote_host = replace(host, backend=HeliosBackend(service, backend), programs=_RemotePrograms(None, ""))
    return ChunkAttempt(remote_host, job, _name_target(job, chunk), name)


def _name_target(job: OpenJob, chunk: Chunk) -> Chunk:
    """Return the chunk with a command that writes to the published place: the worker knows no attempt's folder."""
    command = chunk.expand_command(chunk.command_template, chunk.place_outputs(job.target))
    return replace(chunk, command_template=tuple(map(escape_template, command)))


class _RemotePrograms(Programs):
    """Programs of Helios workers, which find and allow them themselves."""

    def resolve(self, command: Sequence[str], *, base_dir: Path, field: str) -> tuple[str, ...]:
        """Return the command unchanged."""
        return tuple(command)
