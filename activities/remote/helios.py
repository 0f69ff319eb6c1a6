"""Render chunks with the workers of Helios, unchanged, through the service that runs them."""

import asyncio
from collections.abc import Mapping, Sequence
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

# What Node, in which these workers are written, makes of the end by any signal.
_SOME_SIGNAL = -1

_WORKS_ON = "its Helios worker does not hear of that and may work on"


class HeliosBackend:
    """Has a Helios worker run the chunk's command as it stands in the job.json that the worker reads.

    Nothing comes back but what the command printed: its outputs lie where the worker's folder is, which the job's
    store must share. A worker cannot be frozen, and one that is left works on; only a call that has not begun stands
    still for a freeze.

    Args:
        service: What runs the workers.
        settings: The job's backend.
    """

    def __init__(self, service: Service, settings: RemoteBackend) -> None:
        self._service = service
        self._settings = settings

    async def render(self, task: RenderTask, watcher: RenderWatcher) -> Usage:
        """Run the chunk's command to a successful end; see `Backend.render`.

        A cancel closes the connection and waits for nothing.

        Raises:
            AttemptError: The command failed, took too long, or nobody knows how it ended.
            AttemptLostError: The service was not reached.
            ThrottledError: It has no room now.
        """
        payload = self._payload(task)
        await wait_while_frozen(watcher)
        printed_before = await run_in_thread(lambda: AttemptLog(task.log).size)
        following = ProgressFollower(task, printed_before)
        try:
            answer = await self._answer(payload, task, watcher, following)
        finally:
            await following.stop()
        ending = await run_in_thread(lambda: self._ending(answer, task, printed_before))
        watcher.on_progress(Progress(ending.reading.frames_done, ending.reading.message))
        await run_in_thread(lambda: raise_if_failed(ending, self._told(ending, task), task, printed_before))
        return Usage()

    def _payload(self, task: RenderTask) -> Mapping[str, Any]:
        if self._settings.job_url is None:
            sentence = "backend.job_url is missing; give the http(s) URL of the job.json that the Helios workers read"
            raise AttemptError(sentence, fatal=True)
        if task.chunk_id is None:
            # As in `check`: the workers know the commands of their job.json only.
            sentence = f"{task.name} is no chunk of the job.json, and Helios workers run nothing else; leave it out"
            raise AttemptError(sentence, fatal=True)
        return {"jobPath": self._settings.job_url, "chunkIndex": task.chunk_id}

    async def _answer(
        self, payload: Mapping[str, Any], task: RenderTask, watcher: RenderWatcher, following: ProgressFollower
    ) -> ServiceAnswer:
        """Call, and tell the watcher meanwhile how many files there are."""
        call = asyncio.ensure_future(self._service.call(payload))
        seconds = task.timeouts.chunk_seconds
        try:
            async with asyncio.timeout(seconds):
                while not call.done():
                    watcher.on_progress(Progress(following.reading.frames_done, f"called {self._service.where}"))
                    await asyncio.wait([call], timeout=LOOK_SECONDS)
            return call.result()
        except CallLostError as error:
            if not error.begun:
                raise AttemptLostError(f"{task.name}: {error}") from error
            raise AttemptError(f"{task.name}: {error}; {_WORKS_ON}") from error
        except TimeoutError as error:
            limit = f"took longer than timeouts.chunk_seconds, {seconds:g} s"
            sentence = f"{self._program(task)} {limit}; the connection is closed, and {_WORKS_ON}"
            raise AttemptError(sentence) from error
        except asyncio.CancelledError:
            await cancel_and_wait(call)
            note = f"longtake: stopped; the connection to {self._service.where} is closed, and {_WORKS_ON}"
            await run_in_thread(lambda: _append(task, note))
            raise
        finally:
            await cancel_and_wait(call)

    def _ending(self, answer: ServiceAnswer, task: RenderTask, printed_before: int) -> ExitStatus:
        """Return how the worker says that the command ended; what it printed is in the log then. Blocking."""
        result = self._service.parse_helios_answer(answer, lenient=self._settings.lenient)
        lost = "longtake: the work is done, and its output was too large to come back" if result.answer_was_lost else ""
        _append(task, result.stdout, result.stderr, lost)
        # A new one: whoever has followed the log so far looks but now and then whether it has new files.
        reader = ProgressReader(
            *(task.log, task.progress),
            start=task.start,
            stop=task.stop,
            counted_dir=task.counted_dir,
            since=printed_before,
        )
        return ExitStatus(result.exit_code, reading=reader.read(ended=True))

    def _told(self, ending: ExitStatus, task: RenderTask) -> str:
        if ending.code == _SOME_SIGNAL and ending.reading.fatal is None:
            return f"{self._program(task)} was ended by a signal; the system may have run out of memory"
        return ending.describe(self._program(task), Usage())

    def _program(self, task: RenderTask) -> str:
        return f"{task.name} by {self._service.where}"


def _append(task: RenderTask, *texts: str) -> None:
    """Add to the attempt's log, within its bounds, each text as lines of its own."""
    log = BoundedLog(str(task.log))
    log.create()
    for text in texts:
        if text:
            ended = text if text.endswith("\n") else f"{text}\n"
            # JSON can hold halves of characters.
            log.write(memoryview(ended.encode(errors="replace")))
    log.close()


def make_helios_attempt(
    host: Host, service: Service, backend: RemoteBackend, job: OpenJob, chunk: Chunk, name: str
) -> ChunkAttempt:
    """Return a try that a Helios worker renders and this worker checks and publishes.

    Args:
        host: What this worker offers.
        service: What runs the Helios workers.
        backend: The job's own settings of it.
        job: The chunk's job.
        chunk: The chunk.
        name: Name of the attempt, never used twice.
    """
    elsewhere = replace(host, backend=HeliosBackend(service, backend), programs=_ProgramsElsewhere(None, ""))
    return ChunkAttempt(elsewhere, job, _in_place(job, chunk), name)


def _in_place(job: OpenJob, chunk: Chunk) -> Chunk:
    """Return the chunk with a command that names its output itself: the worker knows no place of an attempt."""
    target = job.target(chunk.output_pattern())
    command = chunk.expand_command(chunk.command_template, output=target, output_dir=str(Path(target).parent))
    return replace(chunk, command_template=tuple(map(escape_template, command)))


class _ProgramsElsewhere(Programs):
    """Programs of other hosts, which are theirs to find and to allow."""

    def resolve(self, command: Sequence[str], *, base_dir: Path, field: str) -> tuple[str, ...]:
        """Return the command as it is."""
        return tuple(command)
