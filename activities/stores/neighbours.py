"""Other jobs in the same store: who made a file, and whose finished work this job may take over."""

from collections.abc import Iterator
from pathlib import Path

from activities.stores.job_folder import FILM, JobFolder, chunk_key, file_digest
from longtake.outputs import BOOKKEEPING_FOLDER


def maker_of(path: Path, base_dir: Path) -> str | None:
    """Return the job in this store that published a file, if one did."""
    for folder in _folders(base_dir):
        keys = (FILM, *map(chunk_key, folder.published()))
        for key in keys:
            sidecar = folder.sidecar(key)
            if sidecar is not None and any(file.path == str(path) for file in sidecar.files):
                return folder.job_id
    return None


def reusable(folder: JobFolder, key: str, digest: str) -> Path | None:
    """Return another job's sidecar of the same chunk of the same work, if its files are still what it published."""
    for other in _folders(folder.base_dir):
        sidecar = other.sidecar(key) if other.job_id != folder.job_id else None
        if sidecar is None or sidecar.digest != digest:
            continue
        if all(Path(file.path).is_file() and file_digest(Path(file.path)) == file.sha256 for file in sidecar.files):
            return other.sidecar_path(key)
    return None


def _folders(base_dir: Path) -> Iterator[JobFolder]:
    bookkeeping = base_dir / BOOKKEEPING_FOLDER
    if bookkeeping.is_dir():
        for path in sorted(bookkeeping.iterdir()):
            if path.is_dir():
                yield JobFolder(base_dir, path.name)
