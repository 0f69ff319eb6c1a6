"""Acceptance of a job on a worker: checks of its store, inputs, programs and sound, and of outputs that are there."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from activities.allowed_stores import AllowedStores
from activities.attempts.host import Host
from activities.media.audio import inspect_audio
from activities.media.colour import UnknownColours, look_up_colours
from activities.media.facts import MediaError
from activities.stores.job_folder import JobFolder, OpenJob, Sidecar, encode_job, read_sidecar
from activities.stores.publish import is_intact, revoke_chunk
from activities.stores.reuse import AdoptedChunks, find_reusable, find_same_chunks
from longtake.chunks import Chunk
from longtake.errors import BadJobError
from longtake.jobfile.loader import check_list_size, read_job
from longtake.models.films import name_film_field
from longtake.models.inputs import InputBundle
from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import IfExists
from longtake.models.job_rules import check_image_count
from longtake.models.messages import JobRef, PlanOrder
from longtake.names import find_job_values
from longtake.paths import OutputKind
from longtake.pattern_check import check_patterns
from longtake.ranges import Range, RangeSet
from longtake.stores.factory import check_exclusive_creation, open_store
from longtake.stores.job_layout import chunk_key, find_film_number
from longtake.stores.job_records import compute_integrity, find_publishers, is_among
from longtake.stores.store import FolderListings, StoreError, map_parallel, store_call

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


def _fill_placeholders(job: RenderJobSpec, job_id: str, started_at: datetime | None) -> RenderJobSpec:
    """Return a job with its placeholders of jobs and times replaced, checked again: paths may be too long by now."""
    filled = job.fill_placeholders(find_job_values(job_id, started_at))
    return job if filled == job else read_job(filled.to_wire())


class Acceptance:
    """Checks of one job, and its record in the store; nothing is written before all checks have passed.

    Args:
        order: The job.
        host: This worker's host.
        allowed: Folders and buckets that jobs may use.
    """

    def __init__(self, order: PlanOrder, host: Host, allowed: AllowedStores) -> None:
        self._host = host
        self._allowed = allowed
        url = allowed.choose_store(order.job)
        self._store = open_store(url, scratch=host.scratch)
        self._listed = FolderListings(self._store)
        base_dir = url if self._store.is_local else None
        self._template = order.job.model_copy(update={"base_dir": base_dir})
        self.job = _fill_placeholders(self._template, order.id, order.job.started_at)
        self.folder = JobFolder(self._store, order.id)
        bucket = "" if self._store.is_local else url
        self.ref = JobRef(id=order.id, base_dir=base_dir or "", store=bucket, digest=self.job.digest())

    def run(self) -> OpenJob:
        """Check the job, write it into its folder and return it.

        Raises:
            BadJobError: One sentence that names the field and the fix.
        """
        self._host.job_variables.check(self.job.env)
        check_patterns(self.job)
        self._check_store()
        chunk_list = self._read_chunk_list()
        # Start of the run before whose records make way for this one's.
        earlier = self._find_earlier_start()
        if earlier is None:
            self.folder.check_same_job(self.job)
        integrity = compute_integrity(encode_job(self.job), chunk_list)
        self.ref = self.ref.model_copy(update={"integrity": integrity})
        opened = OpenJob(self.folder, self.ref, self.job, chunk_list)
        self._check_image_counts(opened)
        self._check_handed_in()
        if self._needs_inputs:
            self._check_with_inputs(opened)
        with closing(AdoptedChunks(self.folder, self._host.scratch)) as adopted:
            settle = self._check_outputs(opened, adopted, is_new=earlier is not None)
            if self.job.film_only:
                self.find_missing_chunks(opened, (*self._list_finished().ranges, *adopted.chunks.ranges))
            if earlier is not None:
                self.folder.archive(earlier)
            self.folder.create(self.job, chunk_list)
            for step in settle:
                step()
            if adopted.chunks:
                adopted.write()
            if settle or adopted.chunks:
                self.forget_finished_chunks()
        return opened

    def forget_finished_chunks(self) -> None:
        """Forget which chunks were finished: some were taken back since."""
        self._listed.forget(self.folder.sidecars_dir)
        self._listed.forget(self.folder.segments_dir)

    def find_finished_chunks(self, opened: OpenJob) -> tuple[Range, ...]:
        """Return the chunks that are finished, and revoke those whose files were damaged or removed since."""
        sidecars = self.folder.list_sidecars(self._listed.names(self.folder.sidecars_dir))
        count, done = len(opened.chunks), RangeSet()
        published = [chunk for chunk in sidecars if chunk < count]
        look = partial(self._is_intact, opened)
        for chunk, intact in zip(published, map_parallel(self._store, look, published), strict=True):
            if intact:
                done.add(chunk, chunk + 1)
            else:
                revoke_chunk(opened, chunk)
        # A sidecar of a chunk counts before what a segment says of it.
        for found in self.folder.read_segments().finished():
            chunk = int(found.record.key)
            if chunk >= count or chunk in sidecars or chunk in done:
                continue
            if self._are_as_published(found.record, found.location):
                done.add(chunk, chunk + 1)
            else:
                revoke_chunk(opened, chunk)
        return done.ranges

    def _list_finished(self) -> RangeSet:
        """Return the chunks that were finished before this job was accepted again, damaged ones included."""
        return self.folder.finished_chunks(self._listed.names(self.folder.sidecars_dir))

    def find_missing_chunks(self, opened: OpenJob, done: Iterable[Range]) -> tuple[Range, ...]:
        """Return the chunks that a job lacks which renders nothing; none of another job.

        Raises:
            BadJobError: Chunks are missing, and the film may not lack them.
        """
        if not self.job.film_only:
            return ()
        missing = RangeSet(done).gaps(0, len(opened.chunks))
        if missing and (not self.job.allow_gaps or len(missing) == len(opened.chunks)):
            first = missing.ranges[0][0]
            raise BadJobError(
                f"film_only: chunk {first} ({opened.target(opened.chunks[first].first_output)}) is no proven output of "
                "a job with the same frames and command; render it first"
                + ("" if len(missing) == len(opened.chunks) else ", or set allow_gaps to make the film without it")
            )
        return missing.ranges

    def _find_earlier_start(self) -> datetime | None:
        """Return when the job was started whose folder this is, if this start of it renders all anew; else None.

        A schedule by cron, and whoever starts an id again, makes another start. A retry and a reset do not: they keep
        the time of the first start. Another start renders anew where the job says so (`replace`), and where its outputs
        have other names by now (`{date}`).
        """
        try:
            there = self.folder.read_job()
        except (FileNotFoundError, ValidationError):
            return None
        if there.started_at is None or self.job.started_at in (None, there.started_at):
            return None
        if there.digest() == self.job.digest():
            return there.started_at if self.job.if_exists is IfExists.REPLACE else None
        then = self._template.fill_placeholders(find_job_values(self.folder.job_id, there.started_at))
        return there.started_at if then.digest() == there.digest() else None

    @property
    def _needs_inputs(self) -> bool:
        """Whether this worker reads the inputs; agents fetch their own."""
        job = self.job
        reads_files = any(film.audio or film.colour or film.merge_command for film in job.films)
        return self._store.is_local or job.remote is None or reads_files

    def _check_with_inputs(self, opened: OpenJob) -> None:
        try:
            with self._host.inputs.lay_out(opened) as workdir:
                self._check_inputs(workdir)
                self._check_programs(workdir)
                self._check_audio(workdir)
                self._check_colour(workdir)
        except StoreError as error:
            if error.is_temporary:
                raise
            raise BadJobError(f"inputs: {error}") from error

    def _is_intact(self, opened: OpenJob, chunk: int) -> bool:
        location = self.folder.sidecar_path(chunk_key(chunk))
        if not self._store.is_local:
            # By listings alone: a call for the sidecar of each chunk would take minutes. The stitch reads them all.
            record = self._listed.find(location)
            if all(
                self._listed.is_untouched(opened.target(path), record) for path in opened.chunks[chunk].iter_outputs()
            ):
                return True
        sidecar = read_sidecar(self._store, location)
        return sidecar is not None and self._are_as_published(sidecar, location)

    def _are_as_published(self, sidecar: Sidecar, location: str) -> bool:
        """Tell whether the files of a sidecar are unchanged, by one listing of their folders where that can tell."""
        # A directory's times say nothing, and the metadata of a million records would take 600 MB.
        record = None if self._store.is_local else self._listed.find(location)
        untouched = self._listed.is_untouched
        unsure = tuple(file for file in sidecar.files if not untouched(file.path, record, file.size_bytes))
        return not unsure or is_intact(self._store, sidecar.model_copy(update={"files": unsure}))

    def _are_reusable(self, sidecar: Sidecar, location: str) -> bool:
        """Tell whether the files of another job's sidecar are undamaged; in a directory, all of them are read."""
        store = self._store
        if not store.is_local:
            return self._are_as_published(sidecar, location)
        return all(store.stat(file.path) and store.digest(file.path) == file.sha256 for file in sidecar.files)

    def _check_store(self) -> None:
        if not self._store.is_local:
            try:
                # A look at one file cannot tell a bucket that is not there from an empty one.
                self._store.names(self.folder.path)
                check_exclusive_creation(self._store)
            except StoreError as error:
                if error.is_temporary:
                    raise
                raise BadJobError(f"store: {error}") from error
            return
        base = Path(self._store.url)
        self._allowed.check(base, "base_dir")
        if not base.is_dir():
            raise BadJobError(f"base_dir: there is no folder {base} on this worker; make it, or share it")
        if not os.access(base, os.W_OK | os.X_OK):
            raise BadJobError(f"base_dir: {base} may not be written by the worker; change its permissions")

    def _read_chunk_list(self) -> bytes | None:
        reference = self.job.chunk_list
        if reference is None:
            return None
        place = self._store.locate(reference.path)
        if self._store.is_local:
            self._allowed.check(Path(place), "chunks.path")
        # The file that was submitted may be gone or changed when a job is accepted again.
        for location in (self.folder.list_file, place):
            try:
                there = self._store.stat(location)
                check_list_size(reference, there.size_bytes if there else 0)
                raw = self._store.read(location)
            except OSError as error:
                if location != place and isinstance(error, FileNotFoundError):
                    continue
                problem = f"{location} cannot be read ({error.strerror})"
                raise BadJobError(f"chunks.path: {problem}; put it there") from error
            if hashlib.sha256(raw).hexdigest() == reference.sha256:
                return raw
        raise BadJobError(f"chunks.sha256: {place} is not the file it was; submit the job again")

    def _check_image_counts(self, opened: OpenJob) -> None:
        """Check a chunk list that the job refers to, which the rules of the job have not seen."""
        if self.job.chunk_list is None:
            return
        if opened.listed_count != self.job.chunk_list.count:
            raise BadJobError(
                f"chunks.count: is {self.job.chunk_list.count}, and the list has {opened.listed_count} chunks; submit "
                "the job file itself"
            )
        total = 0
        for chunk in opened.chunks:
            if chunk.kind is OutputKind.FRAMES:
                images = chunk.count * len(chunk.templates)
                total += images
                try:
                    check_image_count(f"chunks[{chunk.index}].count", images, total)
                except ValueError as error:
                    raise BadJobError(str(error)) from error

    def _check_handed_in(self) -> None:
        if not self._store.is_local and not isinstance(self.job.inputs, InputBundle) and self.job.inputs:
            raise BadJobError(
                f"inputs[0]: {self.job.inputs[0]} was not handed in to {self._store.url}; submit the job with "
                "`longtake submit`, which does so"
            )

    def _check_inputs(self, workdir: Path) -> None:
        if isinstance(self.job.inputs, InputBundle):
            return
        for index, name in enumerate(self.job.inputs):
            path = workdir / name
            self._allowed.check(path, f"inputs[{index}]")
            if not path.exists():
                raise BadJobError(f"inputs[{index}]: there is no {path}; put it there or leave it out")

    def _check_programs(self, workdir: Path) -> None:
        if self.job.remote is not None or self.job.film_only:
            # The agent has programs of its own, and looks at them before it begins.
            commands = {"merge_command": self.job.merge_command}
        else:
            commands = {"session": self.job.session, "merge_command": self.job.merge_command, "check": self.job.check}
            if self.job.session is None:
                commands["command"] = self.job.command
                commands |= {f"chunks[{i}].command": chunk.command for i, chunk in enumerate(self.job.inline_chunks)}
        for field, command in commands.items():
            if command is not None:
                self._host.programs.resolve(command, base_dir=workdir, field=field)

    def _check_audio(self, workdir: Path) -> None:
        for field, name in self.job.audio_files:
            path = workdir / name
            if self._store.is_local:
                self._allowed.check(path, field)
            try:
                inspect_audio(path)
            except MediaError as error:
                raise BadJobError(f"{field}: {error.sentence}; name a file with sound") from error

    def _check_colour(self, workdir: Path) -> None:
        for field, name in self.job.colour_files:
            if self._store.is_local:
                self._allowed.check(workdir / name, field)
            if not (workdir / name).is_file():
                raise BadJobError(f"{field}: there is no {workdir / name}; put it there, or name one that is built in")
        for where, film in self.job.film_items:
            colour = self.job.select_film(film).colour
            try:
                if colour is not None:
                    look_up_colours(colour, workdir)
            except UnknownColours as error:
                raise BadJobError(name_film_field(where, film, str(error))) from error

    def _check_outputs(self, opened: OpenJob, adopted: AdoptedChunks, *, is_new: bool) -> list[Callable[[], object]]:
        """Decide by `if_exists` about files that stand where this job writes; return what is to be done about them.

        Args:
            opened: The job.
            adopted: Gets the chunks that are taken over.
            is_new: Whether what an earlier start of this job has published is another job's.
        """
        settle: list[Callable[[], object]] = []
        others: list[OpenJob] | None = None
        # What was looked at last: the files of a chunk come one after the other.
        looked_at, proven = "", None
        for key, field, location in self._find_conflicts(opened, is_new=is_new):
            name, is_film = location.rpartition("/")[2], find_film_number(key) is not None
            if self.job.if_exists is IfExists.REPLACE:
                settle.append(partial(self.folder.set_aside, location, f"replaced.{name}"))
                continue
            if self.job.if_exists is IfExists.REUSE and key != looked_at:
                # The jobs once, and their sidecars once a chunk: not for each of its frames.
                others = find_same_chunks(opened) if others is None else others
                looked_at, proven = key, find_reusable(opened, others, key, self._are_reusable)
                if proven is not None and is_film:
                    settle.append(partial(self.folder.adopt, proven))
                elif proven is not None:
                    adopted.add(proven)
                elif is_film and self._is_other_film(opened, location, others):
                    settle.append(partial(self.folder.set_aside, location, f"replaced.{name}"))
                    continue
            if proven is None and not (self.job.film_only and not is_film):
                raise BadJobError(self._why_refused(location, field))
        return settle

    def _is_other_film(self, opened: OpenJob, location: str, others: Iterable[OpenJob]) -> bool:
        """Tell whether a file is a film that another job has made of the same chunks."""
        first = chunk_key(0)
        digest = opened.compute_digest(first)
        folders = (other.folder for other in others if other.compute_digest(first) == digest)
        records = (record for folder in folders for record in folder.film_records())
        return any(file.path == location for record in records for file in record.files)

    def _find_conflicts(self, opened: OpenJob, *, is_new: bool) -> Iterator[tuple[str, str, str]]:
        """Return the key, field and location of each file that is in the way and not published by this job.

        They are found as they are asked for: a list of those of a million chunks would take 300 MB.
        """
        find = partial(find_conflicting_outputs, opened, self._allowed, self._listed)
        if self.job.if_exists is IfExists.REUSE:
            # The places of all outputs are checked before the content of one is read.
            deque(find(), maxlen=0)
        if is_new:
            return find()
        chunks, films = self._list_finished(), self.folder.published_films()
        conflicts = (each for each in find() if not is_among(each[0], chunks, films))
        if (first := next(conflicts, None)) is None:
            return conflicts
        # Of what is left, some may be half published.
        claimed = self.folder.claimed_keys()
        conflicts = (each for each in chain((first,), conflicts) if each[0] not in claimed)
        if not self.folder.is_accepted:
            return conflicts
        # The places were this job's before the files came there: publication moves foreign files aside.
        foreign = list(conflicts)
        makers = find_publishers([location for _, _, location in foreign], self._store)
        return (each for each in foreign if each[2] in makers)

    def _why_refused(self, location: str, field: str) -> str:
        maker = find_publishers([location], self._store).get(location)
        by = f", made by job {maker}" if maker else ""
        if self.job.if_exists is IfExists.REUSE:
            return (
                f"if_exists: {location} is there already{by}, and is no proven output of this very work; choose "
                f"another {field}, remove the file, or set if_exists to replace"
            )
        return (
            f"if_exists: {location} is there already{by}; choose another {field}, remove the file, or set if_exists "
            "to reuse or replace"
        )
