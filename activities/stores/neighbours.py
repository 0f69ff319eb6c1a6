"""Other jobs in the same store: who made a file, and whose finished work this job may take over."""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from activities.stores.job_folder import FILM, JobFolder, chunk_key, file_digest, read_record
from longtake.outputs import BOOKKEEPING_FOLDER


def maker_of(path: Path, base_dir: Path) -> str | None:
    """Return the job in this store that published a file, if one did."""
    return makers_of([path], base_dir).get(path)


def makers_of(paths: Collection[Path], base_dir: Path, *, but: str | None = None) -> dict[Path, str]:
    """Return which of these files a job in this store has published, or is publishing, and which job that is.

    Args:
        paths: The files.
        base_dir: The store.
        but: A job that is not asked.
    """
    wanted = {str(path): path for path in paths}
    makers: dict[Path, str] = {}
    for folder in _folders(base_dir):
        if folder.job_id == but:
            continue
        for record_path in _records(folder):
            record = read_record(record_path)
            for file in record.files if record is not None else ():
                if file.path in wanted:
                    makers.setdefault(wanted[file.path], folder.job_id)
    return makers


def reusable(folder: JobFolder, key: str, digest: str) -> Path | None:
    """Return another job's sidecar of the same chunk of the same work, if its files are still what it published."""
    for other in _folders(folder.base_dir):
        sidecar = other.sidecar(key) if other.job_id != folder.job_id else None
        if sidecar is None or sidecar.digest != digest:
            continue
        if all(Path(file.path).is_file() and file_digest(Path(file.path)) == file.sha256 for file in sidecar.files):
            return other.sidecar_path(key)
    return None


def _records(folder: JobFolder) -> Iterator[Path]:
    """Return the sidecars of a job, and the claims that have none yet."""
    done = set(map(chunk_key, folder.published()))
    if folder.sidecar_path(FILM).exists():
        done.add(FILM)
    yield from map(folder.sidecar_path, sorted(done))
    with suppress(FileNotFoundError):
        claimed = {name.removesuffix(".json") for name in os.listdir(folder.path / "claims")}
        yield from map(folder.claim_path, sorted(claimed - done))


def _folders(base_dir: Path) -> Iterator[JobFolder]:
    bookkeeping = base_dir / BOOKKEEPING_FOLDER
    if bookkeeping.is_dir():
        for path in sorted(bookkeeping.iterdir()):
            if path.is_dir():
                yield JobFolder(base_dir, path.name)
