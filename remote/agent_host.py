"""What an instance offers to attempts: the same as a worker's host does."""

import os

from activities.attempts.host import Host
from activities.backends.local import LocalBackend
from activities.processes.programs import Programs, find_ffmpeg, offer_ffmpeg
from activities.processes.supervisor import Supervisor
from activities.stores.input_cache import InputCache
from activities.stores.scratch import INPUTS_FOLDER
from remote.settings import AgentSettings


def agent_host(settings: AgentSettings, supervisor: Supervisor) -> Host:
    """Return the host of an agent; the supervisor must outlive all that is rendered there."""
    programs = Programs(settings.allowed_commands, find_ffmpeg())
    tools = settings.tools_dir or settings.scratch / "tools"
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
