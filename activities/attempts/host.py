"""The host that an attempt runs on."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from activities.backends.backend import Backend
from activities.processes.environment import render_environment
from activities.processes.programs import Programs
from activities.stores.input_cache import InputCache
from activities.stores.job_folder import OpenJob


@dataclass(frozen=True)
class Host:
    """What a worker offers to every attempt."""

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
        """Return the environment of a render, marked with its attempt."""
        environment = render_environment(self.environ, job.job.env, tag=tag, also=self.pass_env)
        if self.tools_dir is not None:
            environment["PATH"] = os.pathsep.join(filter(None, (environment.get("PATH"), str(self.tools_dir))))
        return environment


def attempt_tag(job: OpenJob, *, chunk: str, attempt: str) -> dict[str, str]:
    """Return the variables that mark every process of an attempt, wherever it goes."""
    return {"LONGTAKE_JOB": job.ref.id, "LONGTAKE_CHUNK": chunk, "LONGTAKE_ATTEMPT": attempt}
