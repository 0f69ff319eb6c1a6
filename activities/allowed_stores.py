"""Check that a job uses only the folders and buckets that this worker allows."""

from collections.abc import Sequence
from pathlib import Path

from longtake.allowed_paths import AllowedPaths
from longtake.errors import BadJobError
from longtake.models.job import RenderJobSpec
from longtake.stores.factory import is_bucket


class AllowedStores:
    """The folders and buckets that jobs may use; made anew for each job, because links change.

    Args:
        roots: Folders, links resolved; the first one is for jobs that name none.
        stores: Buckets, each with or without a prefix.
    """

    def __init__(self, roots: Sequence[Path], stores: Sequence[str] = ()) -> None:
        self._folders = tuple(roots)
        self._roots = AllowedPaths(roots)
        self._stores = tuple(store.rstrip("/") for store in stores)

    def choose_store(self, job: RenderJobSpec) -> str:
        """Return the URL of the store of a job.

        Raises:
            BadJobError: The bucket is not allowed.
        """
        if job.store is None:
            return str(job.base_dir or self._folders[0])
        self.check_store(job.store)
        return job.store.rstrip("/")

    def check_store(self, url: str) -> None:
        """Refuse a store that jobs may not use.

        Raises:
            BadJobError: The store is not allowed; the sentence names the fix.
        """
        if not is_bucket(url):
            self.check(Path(url), "base_dir")
        elif not any(f"{url.rstrip('/')}/".startswith(f"{store}/") for store in self._stores):
            known = ", ".join(self._stores) or "none"
            raise BadJobError(
                f"store: {url} is not one that jobs may use here ({known}); use one of these, or add it to "
                "LONGTAKE_STORES"
            )

    def check(self, path: Path, field: str) -> None:
        """Refuse a path that leads out of the allowed folders once its links are followed.

        Raises:
            BadJobError: The path lies outside; the sentence names the field and the fix.
        """
        self._roots.check(path, field)
