"""Files that stand where a job would write."""

from collections.abc import Iterator
from pathlib import Path

from activities.allowed_stores import Places
from activities.stores.job_folder import FILM, OpenJob, chunk_key
from longtake.errors import BadJobError


def outputs_in_the_way(job: OpenJob, places: Places) -> Iterator[tuple[str, str, str]]:
    """Return each output that stands already: its key, the field that names it, and where it is.

    Raises:
        BadJobError: An output lies where it may not, or where no file can be.
    """
    return _in_directory(job, places) if job.folder.store.is_local else _in_bucket(job)


def _in_directory(job: OpenJob, places: Places) -> Iterator[tuple[str, str, str]]:
    looked_at: dict[Path, bool] = {}
    for key, field, location in _outputs(job):
        path = Path(location)
        # A million outputs in folders that do not exist yet cost one look a folder.
        is_new = path.parent not in looked_at
        if is_new:
            looked_at[path.parent] = _is_folder(path.parent, field)
        if not is_new and not looked_at[path.parent]:
            continue
        places.check(path, field)
        if path.is_dir():
            raise BadJobError(f"{field}: {path} is a folder; choose another name")
        if path.exists():
            yield key, field, location


def _in_bucket(job: OpenJob) -> Iterator[tuple[str, str, str]]:
    """List each folder once: a look at every single one of a million names would take hours."""
    store = job.folder.store
    standing: dict[str, frozenset[str]] = {}
    for key, field, location in _outputs(job):
        folder, _, name = location.rpartition("/")
        if folder not in standing:
            standing[folder] = frozenset(store.names(folder))
        if name in standing[folder]:
            yield key, field, location


def _outputs(job: OpenJob) -> Iterator[tuple[str, str, str]]:
    for chunk in job.chunks:
        for path in chunk.outputs():
            yield chunk_key(chunk.index), "chunk_output", _target(job, path, "chunk_output")
    if job.job.output is not None:
        yield FILM, "output", _target(job, job.film_path, "output")


def _target(job: OpenJob, path: str, field: str) -> str:
    try:
        return job.target(path)
    except ValueError as error:
        raise BadJobError(f"{field}: {path} {error}") from error


def _is_folder(path: Path, field: str) -> bool:
    """Return whether there is such a folder; refuse one that can never be, because a file is in its way."""
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir():
        raise BadJobError(f"{field}: {there} is a file, and outputs need a folder there; choose another path")
    return there == path
