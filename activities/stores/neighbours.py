"""Other jobs in the same store: who made a file, and whose finished work this job may take over."""

from collections.abc import Collection, Iterator

from activities.stores.job_folder import FILM, JobFolder, chunk_key, read_record
from longtake.paths import BOOKKEEPING_FOLDER
from longtake.stores.store import Store


def maker_of(location: str, store: Store) -> str | None:
    """Return the job in this store that published a file, if one did."""
    return makers_of([location], store).get(location)


def makers_of(locations: Collection[str], store: Store, *, but: str | None = None) -> dict[str, str]:
    """Return which of these files a job in this store has published, or is publishing, and which job that is.

    Args:
        locations: The files.
        store: The store.
        but: A job that is not asked.
    """
    wanted = set(locations)
    makers: dict[str, str] = {}
    for folder in _folders(store):
        if folder.job_id == but:
            continue
        for record_path in _records(folder):
            record = read_record(store, record_path)
            for file in record.files if record is not None else ():
                if file.path in wanted:
                    makers.setdefault(file.path, folder.job_id)
    return makers


def reusable(folder: JobFolder, key: str, digest: str) -> str | None:
    """Return another job's sidecar of the same chunk of the same work, if its files are still what it published."""
    store = folder.store
    for other in _folders(store):
        sidecar = other.sidecar(key) if other.job_id != folder.job_id else None
        if sidecar is None or sidecar.digest != digest:
            continue
        if all(store.stat(file.path) and store.digest(file.path) == file.sha256 for file in sidecar.files):
            return other.sidecar_path(key)
    return None


def _records(folder: JobFolder) -> Iterator[str]:
    """Return the sidecars of a job, and the claims that have none yet."""
    done = set(map(chunk_key, folder.published()))
    if folder.store.stat(folder.sidecar_path(FILM)):
        done.add(FILM)
    yield from map(folder.sidecar_path, sorted(done))
    claimed = {name.removesuffix(".json") for name in folder.store.names(f"{folder.path}/claims")}
    yield from map(folder.claim_path, sorted(claimed - done))


def _folders(store: Store) -> Iterator[JobFolder]:
    for name in store.folders(f"{store.url}/{BOOKKEEPING_FOLDER}"):
        yield JobFolder(store, name)
