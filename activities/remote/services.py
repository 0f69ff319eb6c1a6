"""Make the services that jobs may call, each once, and the attempts that call them."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass

from activities.attempts.attempt import Attempt, MakeAttempt
from activities.attempts.host import Host
from activities.errors import AttemptLostError
from activities.remote.attempt import RemoteAttempt
from activities.remote.aws_lambda import LambdaFunction
from activities.remote.call_records import RemoteHost
from activities.remote.cloud_run import CloudRunService
from activities.remote.google_auth import IdTokens
from activities.remote.helios import make_helios_attempt
from activities.remote.service import Service
from activities.settings import WorkerSettings
from activities.stores.job_folder import OpenJob
from longtake.chunks import Chunk
from longtake.errors import BadJobError
from longtake.models.backends import BackendKind, LambdaBackend, RemoteBackend, RemoteProtocol
from longtake.models.job import RenderJobSpec

# Variables whose presence says that a service without https asks for identity tokens too.
_GOOGLE_VARIABLES = ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST")


@dataclass(frozen=True)
class SharedService:
    """A service, and the slots for its calls that all jobs of a worker share."""

    service: Service
    slots: asyncio.Semaphore


class Services:
    """Makes services as jobs name them, each once, so that its limit of calls holds over all jobs.

    Args:
        settings: Which services jobs may call, and how many calls at once.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._made: dict[tuple[str, str | None], SharedService] = {}

    def list_backends(self) -> list[tuple[BackendKind, int]]:
        """Return the remote backends that this worker serves, each with its number of slots."""
        settings = self._settings
        slots = {
            BackendKind.LAMBDA: (settings.lambda_functions, settings.lambda_slots),
            BackendKind.CLOUD_RUN: (settings.cloud_run_urls, settings.cloud_run_slots),
        }
        return [(kind, most) for kind, (allowed, most) in slots.items() if allowed]

    def check(self, job: RenderJobSpec) -> None:
        """Raise unless jobs may call the service that this job names.

        Only a worker that serves the job's backend itself can tell; others accept every job.

        Raises:
            BadJobError: Jobs may not call the service, or its protocol does not fit the job; names the fix.
        """
        backend = job.remote
        if backend is None:
            return
        if self._allowed(backend):
            self._name(backend)
        if backend.protocol is RemoteProtocol.HELIOS and job.check is not None:
            raise BadJobError("check: Helios' workers run what their job.json says, and nothing else; leave it out")

    def find(self, backend: RemoteBackend) -> SharedService:
        """Return the service of a job; all jobs with the same one share its slots.

        Raises:
            BadJobError: Jobs may not call the service from this worker.
        """
        name = self._name(backend)
        region = backend.region if isinstance(backend, LambdaBackend) else None
        if (name, region) not in self._made:
            concurrency = self._settings.service_concurrency
            service: Service
            if isinstance(backend, LambdaBackend):
                service = LambdaFunction(name, region=region, concurrency=concurrency)
            else:
                service = CloudRunService(name, concurrency=concurrency, tokens=_tokens(name))
            self._made[name, region] = SharedService(service, asyncio.Semaphore(concurrency))
        return self._made[name, region]

    def _name(self, backend: RemoteBackend) -> str:
        """Return the name or URL of the allowed service that a job means."""
        wanted = backend.function if isinstance(backend, LambdaBackend) else backend.url
        allowed = self._allowed(backend)
        if wanted is None and allowed:
            return allowed[0]
        if wanted is not None and wanted in allowed:
            return wanted
        field, variable = (
            ("backend.function", "LONGTAKE_LAMBDA_FUNCTIONS")
            if isinstance(backend, LambdaBackend)
            else ("backend.url", "LONGTAKE_CLOUD_RUN_URLS")
        )
        known = ", ".join(allowed) or "none"
        raise BadJobError(
            f"{field}: {wanted or 'the default one'} is none that jobs may call here ({known}); name one of these, or "
            f"add it to {variable} of the workers"
        )

    def _allowed(self, backend: RemoteBackend) -> Sequence[str]:
        if isinstance(backend, LambdaBackend):
            return self._settings.lambda_functions
        return self._settings.cloud_run_urls


def make_remote_attempts(services: Services, remote: RemoteHost) -> MakeAttempt:
    """Return the function that makes attempts for jobs of remote backends.

    Args:
        services: The services that jobs may call.
        remote: What this worker offers to remote attempts.
    """

    def make(host: Host, job: OpenJob, chunk: Chunk, name: str) -> Attempt:
        backend = job.job.remote
        assert backend is not None, "jobs of local workers have a queue of their own"
        try:
            shared = services.find(backend)
        except BadJobError as error:
            # The job was accepted by a worker that may call it: such a worker takes the next try.
            raise AttemptLostError(str(error)) from error
        if backend.protocol is RemoteProtocol.HELIOS:
            return make_helios_attempt(host, shared.service, backend, job, chunk, name)
        return RemoteAttempt(remote, backend, shared.service, shared.slots, job, chunk, name)

    return make


def _tokens(url: str) -> IdTokens | None:
    """Return the source of identity tokens; None for a service that asks for none, as one on this host."""
    return IdTokens() if url.startswith("https://") or any(os.environ.get(name) for name in _GOOGLE_VARIABLES) else None
