"""The host of an attempt: its backend, programs, environment and folders."""

import os
import socket
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from activities.allowed_stores import AllowedStores
from activities.attempts.pictures import PictureWriter
from activities.backends.backend import Backend
from activities.backends.local import LocalBackend
from activities.processes.programs import JobVariables, Programs, build_render_environment, find_ffmpeg, link_ffmpeg
from activities.processes.supervisor import Supervisor
from activities.stores.input_cache import InputCache
from activities.stores.job_folder import OpenJob
from activities.stores.ownership import check_reach
from activities.stores.scratch import INPUTS_FOLDER, open_scratch
from activities.stores.segment_writer import SegmentWriter
from longtake import colour_main
from longtake.models.messages import JobRef
from longtake.names import check_job_id
from longtake.render_user import RenderUser
from longtake.templates import expand_template


@dataclass(frozen=True)
class Host:
    """The backend, programs and folders of a host, shared by all of its attempts."""

    backend: Backend
    programs: Programs
    environ: Mapping[str, str]
    inputs: InputCache
    # Where this host works for stores that are elsewhere.
    scratch: Path
    pass_env: Sequence[str] = ()
    tools_dir: Path | None = None
    # The account that renders run under; None for the worker's own.
    render_user: RenderUser | None = None
    name: str = socket.gethostname()
    job_variables: JobVariables = field(default_factory=JobVariables)
    # Makes the folders and buckets that jobs may use; None where the caller has looked, as an agent does.
    make_allowed: Callable[[], AllowedStores] | None = None
    # Publishes the chunks of one span together; None: each by itself.
    segment: SegmentWriter | None = None
    # Leaves small pictures of chunks; None: there are none.
    pictures: PictureWriter | None = None

    def check_store(self, ref: JobRef) -> None:
        """Raise unless jobs may use the store of a job here; to be asked before the job is read.

        Raises:
            BadJobError: They may not; the sentence names the fix.
        """
        if self.make_allowed is not None:
            check_job_id(ref.id)
            self.make_allowed().check_store(ref.store_url)

    def check_job(self, job: OpenJob) -> None:
        """Raise unless an accepted job may use here what its fields name; outputs of chunks: `check_targets`.

        Raises:
            BadJobError: It may not; the sentence names the field and the fix.
        """
        self.job_variables.check(job.job.env)
        if self.make_allowed is None or not job.folder.store.is_local:
            return
        allowed, base = self.make_allowed(), Path(job.folder.store.url)
        named = [*job.job.audio_files, *job.job.colour_files]
        named += [(field, expand_template(path, {})) for field, path in job.job.film_outputs]
        if isinstance(job.job.inputs, tuple):
            named += [(f"inputs[{index}]", name) for index, name in enumerate(job.job.inputs)]
        for key, name in named:
            if name:
                allowed.check(base / name, key)

    def check_targets(self, job: OpenJob, targets: Sequence[str]) -> None:
        """Raise unless outputs may be published at these locations, links followed; blocking.

        Raises:
            BadJobError: One leads out of the folders that jobs may use.
        """
        if self.make_allowed is not None and job.folder.store.is_local:
            allowed = self.make_allowed()
            for target in targets:
                allowed.check(Path(target), job.job.output_field)

    def check_python(self) -> None:
        """Raise unless renders may run the Python of this process, which converts colours; blocking.

        Raises:
            AttemptError: The account of renders may not enter a folder above; the sentence has the fix.
        """
        if self.render_user is None:
            return
        python, packages = Path(sys.executable), Path(sysconfig.get_path("platlib"), "OpenImageIO")
        for path in (python, python.resolve(), packages, Path(colour_main.__file__)):
            check_reach(path, self.render_user, ", where the worker's Python is, which converts colours")

    def environment(self, job: OpenJob, tag: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a render, with the tag of its attempt.

        Raises:
            BadJobError: The job sets a variable that jobs may not set here.
        """
        return self.build_environment(job.job.env, tag)

    def build_environment(self, variables: Mapping[str, str], tag: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a command that a job names, with its variables and the tag of its attempt.

        Raises:
            BadJobError: A variable is one that jobs may not set here.
        """
        worker = {**self.environ, **self.render_user.environment} if self.render_user else self.environ
        environment = build_render_environment(
            worker, variables, tag=tag, also=self.pass_env, job_variables=self.job_variables
        )
        if self.render_user:
            # The worker's folder for sockets of its session.
            environment.pop("XDG_RUNTIME_DIR", None)
        if self.tools_dir is not None:
            environment["PATH"] = os.pathsep.join(filter(None, (environment.get("PATH"), str(self.tools_dir))))
        return environment


def attempt_tag(job: OpenJob, *, chunk: str, attempt: str) -> dict[str, str]:
    """Return the variables that mark every process of an attempt."""
    return {"LONGTAKE_JOB": job.ref.id, "LONGTAKE_CHUNK": chunk, "LONGTAKE_ATTEMPT": attempt}


class HostSettings(Protocol):
    """The settings of a host that workers and agents have in common."""

    @property
    def allowed_commands(self) -> Sequence[str] | None:
        """Programs that jobs may run; None allows all."""
        ...

    @property
    def pass_env(self) -> Sequence[str]:
        """More variables that renders see."""
        ...

    @property
    def job_env(self) -> Sequence[str] | None:
        """Variables that jobs may set; None allows all that load no code."""
        ...

    @property
    def scratch(self) -> Path:
        """Where the host works for stores that are elsewhere."""
        ...

    @property
    def inputs_bytes(self) -> int:
        """What fetched inputs may take."""
        ...

    @property
    def host(self) -> str:
        """What the host is called."""
        ...


def build_host(
    settings: HostSettings,
    supervisor: Supervisor,
    *,
    tools: Path,
    make_allowed: Callable[[], AllowedStores] | None = None,
) -> Host:
    """Make the host of all attempts of this process; the supervisor must outlive them.

    Args:
        settings: Settings of a worker or an agent.
        supervisor: Starts renders.
        tools: Folder that is added to the PATH of renders; ffmpeg is put there.
        make_allowed: Makes the folders and buckets that jobs may use.

    Raises:
        LongtakeError: The scratch folder is not this account's alone.
    """
    user = supervisor.user
    scratch = open_scratch(settings.scratch, readers=user.gid if user else None)
    programs = Programs(settings.allowed_commands, find_ffmpeg())
    link_ffmpeg(programs.ffmpeg, tools)
    return Host(
        backend=LocalBackend(supervisor),
        programs=programs,
        environ=dict(os.environ),
        inputs=InputCache(scratch / INPUTS_FOLDER, settings.inputs_bytes),
        scratch=scratch,
        pass_env=settings.pass_env,
        job_variables=JobVariables(settings.job_env),
        make_allowed=make_allowed,
        tools_dir=tools,
        render_user=user,
        name=settings.host,
        pictures=PictureWriter(),
    )
