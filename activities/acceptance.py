"""Acceptance of a job on a worker: checks of its store, inputs, programs and sound, and of outputs that are there."""

import hashlib
import os
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from activities.allowed_stores import AllowedStores
from activities.attempts.host import Host
from activities.media.audio import inspect_audio
from activities.media.colour import UnknownColours, look_up_colours
from activities.media.facts import MediaError
from activities.output_conflicts import OutputConflicts, are_as_published
from activities.stores.job_folder import JobFolder, OpenJob, encode_job, read_sidecar
from activities.stores.publish import revoke_chunk
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
from longtake.stores.job_layout import chunk_key
from longtake.stores.job_records import compute_integrity
from longtake.stores.store import FolderListings, StoreError, map_parallel


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
        with closing(OutputConflicts(opened, self._allowed, self._listed, self._host.scratch)) as conflicts:
            finished = self.folder.finished_chunks(self._listed.names(self.folder.sidecars_dir))
            conflicts.check(finished, is_new=earlier is not None)
            if self.job.film_only:
                self.find_missing_chunks(opened, (*finished.ranges, *conflicts.adopted.ranges))
            if earlier is not None:
                self.folder.archive(earlier)
            self.folder.create(self.job, chunk_list)
            if conflicts.settle():
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
            if are_as_published(self._store, self._listed, found.record, found.location):
                done.add(chunk, chunk + 1)
            else:
                revoke_chunk(opened, chunk)
        return done.ranges

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
        return sidecar is not None and are_as_published(self._store, self._listed, sidecar, location)

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
