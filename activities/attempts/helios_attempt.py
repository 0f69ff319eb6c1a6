"""One try of one chunk by a worker of Helios, which runs the command of its own job.json in the shared store."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from activities.attempts.chunk_attempt import ChunkAttempt
from activities.attempts.host import Host
from activities.processes.programs import Programs
from activities.remote.helios import HeliosWorkers
from activities.remote.service import Service
from activities.stores.job_folder import OpenJob
from longtake.chunks import Chunk
from longtake.models.backends import RemoteBackend
from longtake.templates import escape


def helios_attempt(
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
    elsewhere = replace(host, backend=HeliosWorkers(service, backend), programs=_ProgramsElsewhere(None, ""))
    return ChunkAttempt(elsewhere, job, _in_place(job, chunk), name)


def _in_place(job: OpenJob, chunk: Chunk) -> Chunk:
    """Return the chunk with a command that names its output itself: the worker knows no place of an attempt."""
    target = job.target(chunk.output_pattern())
    command = chunk.command(chunk.command_template, output=target, output_dir=str(Path(target).parent))
    return replace(chunk, command_template=tuple(map(escape, command)))


class _ProgramsElsewhere(Programs):
    """Programs of other hosts, which are theirs to find and to allow."""

    def resolve(self, command: Sequence[str], *, base_dir: Path, field: str) -> tuple[str, ...]:
        """Return the command as it is."""
        return tuple(command)
