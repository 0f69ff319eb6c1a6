"""One try of one chunk: look, render, check, publish."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from activities.backends.backend import Backend, RenderTask
from activities.checking import Proof, check_chunk
from activities.failures import AttemptError
from activities.processes.environment import render_environment
from activities.processes.programs import Programs
from activities.stores.job_folder import OpenJob, chunk_key
from activities.stores.publish import discard_attempt, finish_claim, publish, published_file
from activities.stores.records import Sidecar
from activities.threads import in_thread
from longtake.outputs import OutputKind, kind_of
from longtake.planning import Chunk


@dataclass(frozen=True)
class Host:
    """What a worker offers to every attempt."""

    backend: Backend
    programs: Programs
    environ: Mapping[str, str]
    pass_env: Sequence[str] = ()
    tools_dir: Path | None = None
    name: str = socket.gethostname()

    def environment(self, job: OpenJob, tag: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a render, marked with its attempt."""
        environment = render_environment(self.environ, job.job.env, tag=tag, also=self.pass_env)
        if self.tools_dir is not None:
            environment["PATH"] = os.pathsep.join(filter(None, (environment.get("PATH"), str(self.tools_dir))))
        return environment


def attempt_tag(job: OpenJob, *, chunk: str, attempt: str) -> dict[str, str]:
    """Return the variables that mark every process of an attempt, wherever it goes."""
    return {"LONGTAKE_JOB": job.ref.id, "LONGTAKE_CHUNK": chunk, "LONGTAKE_ATTEMPT": attempt}


class ChunkAttempt:
    """Renders one chunk in a place of its own and publishes what it proved.

    Args:
        host: What this worker offers.
        job: The chunk's job.
        chunk: The chunk.
        name: Name of the attempt, never used twice.
    """

    def __init__(self, host: Host, job: OpenJob, chunk: Chunk, name: str) -> None:
        self._host = host
        self._job = job
        self._chunk = chunk
        self._name = name
        self._key = chunk_key(chunk.index)
        self._folder = job.folder
        self._dir = self._folder.attempt_dir(self._key, name)
        self.log = self._folder.log_path(self._key, name)

    async def published(self) -> Sidecar | None:
        """Return the sidecar if the chunk is finished, by whomever; finishes what a dead winner began to publish."""
        return await in_thread(partial(finish_claim, self._folder, self._key))

    async def run(self, progress: Callable[[int], None]) -> Sidecar:
        """Render, check and publish the chunk; return the sidecar that stands.

        A cancel stops the processes first and leaves nothing but the log behind.

        Raises:
            AttemptError: This try has failed.
        """
        began = asyncio.get_running_loop().time()
        try:
            made = await in_thread(self._prepare)
            await self._host.backend.render(self._task(self._chunk.command_template), progress)
            stop = threading.Event()
            await in_thread(partial(self._collect_in_place, made))
            files = list(made)
            proof = await in_thread(partial(check_chunk, self._chunk, files, self._job.job.rate, stop), stop)
            if self._job.job.check is not None:
                await self._host.backend.render(self._task(self._job.job.check), lambda _: None)
            seconds = asyncio.get_running_loop().time() - began
            return await in_thread(partial(self._publish, made, proof, seconds))
        except OSError as error:
            # A full disk, a share that went away: not the renderer's fault, and still a try that made nothing.
            raise AttemptError(f"{error.filename or self._dir}: {error.strerror or error}") from error
        finally:
            discard_attempt(self._folder, self._key, self._name)

    def _prepare(self) -> dict[Path, Path]:
        """Make the attempt's place; return its files and where each will be published."""
        self._dir.mkdir(parents=True, exist_ok=True)
        made = {}
        for path in self._chunk.outputs():
            mine = self._dir / self._relative(path)
            mine.parent.mkdir(parents=True, exist_ok=True)
            made[mine] = self._job.target(path)
            if self._chunk.writes_in_place:
                made[mine].parent.mkdir(parents=True, exist_ok=True)
                if made[mine].exists():
                    # Left by an attempt that was killed: nobody has published, or this attempt would not run.
                    self._folder.set_aside(made[mine], f"{self._key}.{made[mine].name}")
        return made

    def _relative(self, path: str) -> Path:
        """Return an output's path inside the attempt's place: the job's own, unless that leads out of the store."""
        target = self._job.target(path)
        base = self._folder.base_dir
        return target.relative_to(base) if target.is_relative_to(base) else Path(target.name)

    def _task(self, command: tuple[str, ...]) -> RenderTask:
        job = self._job.job
        output = self._dir / self._relative(self._chunk.output_pattern())
        expanded = self._chunk.command(command, output=str(output), output_dir=str(output.parent))
        tag = attempt_tag(self._job, chunk=str(self._chunk.index), attempt=self._name)
        frames = kind_of(self._chunk.output_template) is OutputKind.FRAMES
        return RenderTask(
            command=self._host.programs.resolve(expanded, base_dir=self._folder.base_dir, field="command"),
            cwd=self._folder.base_dir,
            env=self._host.environment(self._job, tag),
            tag=tag,
            log=self.log,
            timeouts=job.timeouts,
            retry=job.retry,
            program=Path(expanded[0]).name,
            counted_dir=self._dir if frames else None,
        )

    def _collect_in_place(self, made: Mapping[Path, Path]) -> None:
        """Bring home what a command wrote under its final name, before anyone can take it for published."""
        if not self._chunk.writes_in_place:
            return
        for mine, target in made.items():
            if target.exists():
                os.replace(target, mine)

    def _publish(self, made: Mapping[Path, Path], proof: Proof, seconds: float) -> Sidecar:
        return publish(
            self._folder,
            Sidecar(
                key=self._key,
                digest=self._job.ref.digest,
                attempt=self._name,
                host=self._host.name,
                frames=proof.frames,
                files=tuple(published_file(mine, target) for mine, target in made.items()),
                video=proof.video,
                width=proof.width,
                height=proof.height,
                render_seconds=round(seconds, 3),
                log=str(self.log),
            ),
        )
