"""Conflicts of a job with files that are there already: find them, and do with them what `if_exists` says."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from activities.allowed_stores import AllowedStores
from activities.stores.job_folder import OpenJob, Sidecar
from activities.stores.publish import is_intact
from activities.stores.reuse import AdoptedChunks, find_reusable, find_same_chunks
from longtake.chunks import Chunk
from longtake.errors import BadJobError
from longtake.models.job_fields import IfExists
from longtake.ranges import RangeSet
from longtake.stores.job_layout import chunk_key, find_film_number
from longtake.stores.job_records import find_publishers, is_among
from longtake.stores.store import FolderListings, Store, store_call

# Folders that were looked at.
_MOST_REMEMBERED = 4096


def find_conflicting_outputs(
    job: OpenJob, allowed: AllowedStores, listed: FolderListings | None = None
) -> Iterator[tuple[str, str, str]]:
    """Yield the key, the field and the location of each output of a job that exists already.

    Args:
        job: The job.
        allowed: Folders and buckets that jobs may use.
        listed: Listings of the job's store that are read already, in a bucket.

    Raises:
        BadJobError: An output lies where it may not, or where no file can be.
        StoreError: The work of this thread was stopped.
    """
    if job.folder.store.is_local:
        return _in_directory(job, allowed)
    return _in_bucket(job, listed or FolderListings(job.folder.store))


def _in_directory(job: OpenJob, allowed: AllowedStores) -> Iterator[tuple[str, str, str]]:
    # By text, and a few thousand at most: a job may have a million folders, which come one after the other.
    looked_at: dict[str, bool] = {}

    def is_folder_there(location: str, field: str) -> bool:
        """Look once at the folder of an output: may it be used, and is it there?"""
        folder = location.rpartition("/")[0] or "/"
        if folder in looked_at:
            return looked_at[folder]
        if len(looked_at) >= _MOST_REMEMBERED:
            looked_at.clear()
        looked_at[folder] = _is_folder(Path(folder), field)
        allowed.check(Path(location), field)
        return looked_at[folder]

    def is_missing(chunk: Chunk) -> bool:
        """Tell by one look that no output of a chunk exists, where all of its images lie in one folder."""
        if any("{frame" in template.path.rpartition("/")[0] for template in chunk.templates):
            return False
        field = job.job.output_field
        return not any(is_folder_there(_target(job, path, field), field) for path in chunk.first_outputs)

    for key, field, location in _outputs(job, is_missing):
        if not is_folder_there(location, field):
            continue
        path = Path(location)
        allowed.check(path, field)
        # A share may hang at each of them, and a stop must end a look at a million.
        with store_call(location):
            is_folder, is_there = path.is_dir(), path.exists()
        if is_folder:
            raise BadJobError(f"{field}: {path} is a folder; choose another name")
        if is_there:
            yield key, field, location


def _in_bucket(job: OpenJob, listed: FolderListings) -> Iterator[tuple[str, str, str]]:
    """Find outputs by one listing of each folder: a request for each of a million names would take hours."""
    for key, field, location in _outputs(job):
        if listed.find(location) is not None:
            yield key, field, location


def _outputs(job: OpenJob, skip: Callable[[Chunk], bool] = lambda chunk: False) -> Iterator[tuple[str, str, str]]:
    field = job.job.output_field
    for chunk in job.chunks:
        if skip(chunk):
            continue
        for path in chunk.iter_outputs():
            yield chunk_key(chunk.index), field, _target(job, path, field)
    # A merge command may make a film that no output names.
    for (key, film), (field, _) in zip(job.films.items(), job.job.film_outputs, strict=False):
        yield key, field, _target(job, film.film_path, field)


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


def are_as_published(store: Store, listed: FolderListings, sidecar: Sidecar, location: str) -> bool:
    """Tell whether the files of a sidecar are unchanged, by one listing of their folders where that can tell."""
    # A directory's times say nothing, and the metadata of a million records would take 600 MB.
    record = None if store.is_local else listed.find(location)
    unsure = tuple(file for file in sidecar.files if not listed.is_untouched(file.path, record, file.size_bytes))
    return not unsure or is_intact(store, sidecar.model_copy(update={"files": unsure}))


class OutputConflicts:
    """What stands where a job writes, and what becomes of it; nothing is touched before `settle`.

    Args:
        opened: The job.
        allowed: Folders and buckets that jobs may use.
        listed: Listings of the job's store.
        scratch: Folder where this host works.
    """

    def __init__(self, opened: OpenJob, allowed: AllowedStores, listed: FolderListings, scratch: Path) -> None:
        self._opened = opened
        self._job = opened.job
        self._folder = opened.folder
        self._store = opened.folder.store
        self._allowed = allowed
        self._listed = listed
        self._adopted = AdoptedChunks(opened.folder, scratch)
        self._steps: list[Callable[[], object]] = []
        self._others: list[OpenJob] | None = None

    def close(self) -> None:
        """Forget what was not settled."""
        self._adopted.close()

    @property
    def adopted(self) -> RangeSet:
        """The chunks that are taken over from other jobs."""
        return self._adopted.chunks

    def check(self, finished: RangeSet, *, is_new: bool) -> None:
        """Decide by `if_exists` about each file.

        Args:
            finished: Chunks that this job has finished before.
            is_new: Whether what an earlier start of this job has published is another job's.

        Raises:
            BadJobError: A file is in the way, or an output lies where it may not.
        """
        # What was looked at last: the files of a chunk come one after the other.
        looked_at, proven = "", None
        for key, field, location in self._find_conflicts(finished, is_new=is_new):
            is_film = find_film_number(key) is not None
            if self._job.if_exists is IfExists.REPLACE:
                self._set_aside(location)
                continue
            if self._job.if_exists is IfExists.REUSE and key != looked_at:
                looked_at, proven = key, self._take_over(key)
                if proven is None and is_film and self._is_other_film(location):
                    self._set_aside(location)
                    continue
            if proven is None and not (self._job.film_only and not is_film):
                raise BadJobError(self._why_refused(location, field))

    def settle(self) -> bool:
        """Do what was decided, once the job is accepted; tell whether that was anything."""
        for step in self._steps:
            step()
        if self.adopted:
            self._adopted.write()
        return bool(self._steps or self.adopted)

    def _set_aside(self, location: str) -> None:
        name = location.rpartition("/")[2]
        self._steps.append(partial(self._folder.set_aside, location, f"replaced.{name}"))

    def _take_over(self, key: str) -> Sidecar | None:
        """Take over the same chunk or film of another job, if there is one; return its record."""
        if self._others is None:
            # Once, and their records once a chunk: not for each of its frames.
            self._others = find_same_chunks(self._opened)
        proven = find_reusable(self._opened, self._others, key, self._are_reusable)
        if proven is None:
            return None
        if find_film_number(key) is not None:
            self._steps.append(partial(self._folder.adopt, proven))
        else:
            self._adopted.add(proven)
        return proven

    def _are_reusable(self, sidecar: Sidecar, location: str) -> bool:
        """Tell whether the files of another job's sidecar are undamaged; in a directory, all of them are read."""
        store = self._store
        if not store.is_local:
            return are_as_published(store, self._listed, sidecar, location)
        return all(store.stat(file.path) and store.digest(file.path) == file.sha256 for file in sidecar.files)

    def _is_other_film(self, location: str) -> bool:
        """Tell whether a file is a film that another job has made of the same chunks."""
        first = chunk_key(0)
        digest = self._opened.compute_digest(first)
        folders = (other.folder for other in self._others or () if other.compute_digest(first) == digest)
        records = (record for folder in folders for record in folder.film_records())
        return any(file.path == location for record in records for file in record.files)

    def _find_conflicts(self, finished: RangeSet, *, is_new: bool) -> Iterator[tuple[str, str, str]]:
        """Return the key, field and location of each file that is in the way and not published by this job.

        They are found as they are asked for: a list of those of a million chunks would take 300 MB.
        """
        find = partial(find_conflicting_outputs, self._opened, self._allowed, self._listed)
        if self._job.if_exists is IfExists.REUSE:
            # The places of all outputs are checked before the content of one is read.
            deque(find(), maxlen=0)
        if is_new:
            return find()
        films = self._folder.published_films()
        conflicts = (each for each in find() if not is_among(each[0], finished, films))
        if (first := next(conflicts, None)) is None:
            return conflicts
        # Of what is left, some may be half published.
        claimed = self._folder.claimed_keys()
        conflicts = (each for each in chain((first,), conflicts) if each[0] not in claimed)
        if not self._folder.is_accepted:
            return conflicts
        # The places were this job's before the files came there: publication moves foreign files aside.
        foreign = list(conflicts)
        makers = find_publishers([location for _, _, location in foreign], self._store)
        return (each for each in foreign if each[2] in makers)

    def _why_refused(self, location: str, field: str) -> str:
        maker = find_publishers([location], self._store).get(location)
        by = f", made by job {maker}" if maker else ""
        if self._job.if_exists is IfExists.REUSE:
            return (
                f"if_exists: {location} is there already{by}, and is no proven output of this very work; choose "
                f"another {field}, remove the file, or set if_exists to replace"
            )
        return (
            f"if_exists: {location} is there already{by}; choose another {field}, remove the file, or set if_exists "
            "to reuse or replace"
        )
