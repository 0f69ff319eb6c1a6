"""Which jobs an agent lets in: those in its stores, whose files stay there."""

from pathlib import Path

from pydantic import ValidationError

from activities.allowed_stores import Places
from activities.errors import StoreNotSharedError
from activities.remote.protocol import RefusedOrderError, RemoteOrder
from activities.stores.job_folder import OpenJob
from agent.settings import AgentSettings
from longtake.allowed_paths import Roots
from longtake.chunks import Chunk
from longtake.errors import BadJobError
from longtake.names import check_job_id
from longtake.stores.factory import is_bucket
from remote.refusals import ForbiddenOrderError


class Admission:
    """Opens what an order means; nothing is written, and only the stores of the settings are asked.

    Args:
        settings: What the agent may do.
    """

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings

    def open(self, order: RemoteOrder) -> tuple[OpenJob, Chunk]:
        """Return the job and the chunk of an order; blocking.

        Raises:
            RefusedOrderError: The order leads elsewhere, or its job is not the one that was signed.
            OSError: The store is away.
        """
        try:
            check_job_id(order.ref.id)
            self._check_store(order.ref.store_url)
            job = OpenJob.read(order.ref, scratch=self._settings.scratch)
        except (BadJobError, StoreNotSharedError) as error:
            raise ForbiddenOrderError(str(error)) from error
        except ValidationError as error:
            raise RefusedOrderError(
                "the job is not one that this agent knows; use one version on both sides"
            ) from error
        try:
            chunk = job.chunks[order.chunk]
        except IndexError as error:
            raise RefusedOrderError(f"the job has no chunk {order.chunk}") from error
        self._check_outputs(job, chunk)
        return job, chunk

    def _check_store(self, url: str) -> None:
        if is_bucket(url):
            Places((), self._settings.buckets).check_store(url)
        elif not url.startswith("/") or not self._holds(Path(url)):
            raise ForbiddenOrderError(f"store: {url!r} is not one that this agent may use; add it to LONGTAKE_STORES")

    def _check_outputs(self, job: OpenJob, chunk: Chunk) -> None:
        """Pass a chunk whose files end up in a store that the agent may use, links followed."""
        is_local = job.folder.store.is_local
        roots = Roots(self._settings.folders)
        for path in chunk.outputs():
            try:
                target = job.target(path)
                if is_local:
                    roots.check(Path(target), "chunk_output")
            except BadJobError as error:
                problem = f"chunk_output: {path} leads out of the stores that this agent may use"
                raise ForbiddenOrderError(f"{problem}; add that folder to LONGTAKE_STORES") from error
            except ValueError as error:
                raise ForbiddenOrderError(f"chunk_output: {error}") from error

    def _holds(self, folder: Path) -> bool:
        try:
            Roots(self._settings.folders).check(folder, "store")
        except BadJobError:
            return False
        return True
