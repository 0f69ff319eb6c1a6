"""The published files of chunks on the host that joins them."""

from collections.abc import Sequence
from pathlib import Path

from activities.stores.job_folder import OpenJob
from activities.stores.records import PublishedFile, Sidecar
from longtake.stores.store import each


def bring_files(job: OpenJob, sidecars: Sequence[Sidecar], place: Path) -> list[Path]:
    """Return the files of all chunks in order; of a bucket they are fetched into the place, and proven.

    Raises:
        StoreError: A file is not what was published.
    """
    store = job.folder.store

    def bring(numbered: tuple[int, PublishedFile]) -> Path:
        number, file = numbered
        return store.bring(file.path, place / f"{number:09}{Path(file.path).suffix}", sha256=file.sha256)

    return each(store, bring, enumerate(_files(sidecars)))


def lay_out_files(job: OpenJob, sidecars: Sequence[Sidecar], place: Path) -> None:
    """Bring all files of a bucket under the names that the job gives them, for a merge command that knows these."""
    store = job.folder.store
    root = f"{store.url}/"

    def bring(file: PublishedFile) -> Path:
        return store.bring(file.path, place / file.path.removeprefix(root), sha256=file.sha256)

    place.mkdir(parents=True, exist_ok=True)
    each(store, bring, _files(sidecars))


def _files(sidecars: Sequence[Sidecar]) -> list[PublishedFile]:
    return [file for sidecar in sidecars for file in sidecar.files]
