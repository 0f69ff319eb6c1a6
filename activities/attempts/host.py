"""The host of an attempt: its backend, programs, environment and folders."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from activities.backends.backend import Backend
from activities.backends.local import LocalBackend
from activities.processes.programs import Programs, build_render_environment, find_ffmpeg, link_ffmpeg
from activities.processes.supervisor import Supervisor
from activities.stores.input_cache import InputCache
from activities.stores.job_folder import OpenJob
from activities.stores.scratch import INPUTS_FOLDER, open_scratch


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
    name: str = socket.gethostname()

    def environment(self, job: OpenJob, tag: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a render, with the tag of its attempt."""
        environment = build_render_environment(self.environ, job.job.env, tag=tag, also=self.pass_env)
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


def build_host(settings: HostSettings, supervisor: Supervisor, *, tools: Path) -> Host:
    """Make the host of all attempts of this process; the supervisor must outlive them.

    Args:
        settings: Settings of a worker or an agent.
        supervisor: Starts renders.
        tools: Folder that is added to the PATH of renders; ffmpeg is put there.

    Raises:
        LongtakeError: The scratch folder is not this account's alone.
    """
    scratch = open_scratch(settings.scratch)
    programs = Programs(settings.allowed_commands, find_ffmpeg())
    link_ffmpeg(programs.ffmpeg, tools)
    return Host(
        backend=LocalBackend(supervisor),
        programs=programs,
        environ=dict(os.environ),
        inputs=InputCache(scratch / INPUTS_FOLDER, settings.inputs_bytes),
        scratch=scratch,
        pass_env=settings.pass_env,
        tools_dir=tools,
        name=settings.host,
    )
