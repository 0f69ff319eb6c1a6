"""The host that a worker or an agent runs on, as its settings describe it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from activities.attempts.host import Host
from activities.backends.local import LocalBackend
from activities.processes.programs import Programs, find_ffmpeg, offer_ffmpeg
from activities.processes.supervisor import Supervisor
from activities.stores.input_cache import InputCache
from activities.stores.scratch import INPUTS_FOLDER


class HostSettings(Protocol):
    """What settings say of a host, whoever renders there."""

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


def own_host(settings: HostSettings, supervisor: Supervisor, *, tools: Path) -> Host:
    """Return what this host offers to all attempts; the supervisor must outlive them.

    Args:
        settings: What is said of it.
        supervisor: Starts renders.
        tools: Folder that is added to the PATH of renders; ffmpeg is put there.
    """
    programs = Programs(settings.allowed_commands, find_ffmpeg())
    offer_ffmpeg(programs.ffmpeg, tools)
    return Host(
        backend=LocalBackend(supervisor),
        programs=programs,
        environ=dict(os.environ),
        inputs=InputCache(settings.scratch / INPUTS_FOLDER, settings.inputs_bytes),
        scratch=settings.scratch,
        pass_env=settings.pass_env,
        tools_dir=tools,
        name=settings.host,
    )
