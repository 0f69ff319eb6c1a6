"""Accepting a job on a worker: what only the host can know of its paths, programs and neighbours."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from activities.media.audio import inspect_audio
from activities.media.errors import MediaError
from activities.processes.programs import Programs
from activities.stores.files import link_new
from activities.stores.job_folder import FILM, JobFolder, OpenJob, chunk_key
from activities.stores.neighbours import maker_of, reusable
from activities.stores.standing import is_intact, revoke
from longtake.errors import BadJobError
from longtake.job import IfExists
from longtake.ranges import Range, RangeSet
from longtake.roots import Roots
from longtake.work import JobRef, PlanOrder


class Acceptance:
    """Checks one job and writes it down; nothing is written before all checks have passed."""

    def __init__(self, order: PlanOrder, roots: Sequence[Path], programs: Programs) -> None:
        self._roots = Roots(roots)
        self._programs = programs
        self._base = Path(order.job.base_dir or roots[0])
        self.job = order.job.model_copy(update={"base_dir": str(self._base)})
        self.folder = JobFolder(self._base, order.id)
        self.ref = JobRef(id=order.id, base_dir=str(self._base), digest=self.job.digest())

    def run(self) -> OpenJob:
        """Return the accepted job.

        Raises:
            BadJobError: One sentence that names the field and the fix.
        """
        self._check_store()
        chunk_list = self._read_chunk_list()
        self._check_programs()
        self._check_audio()
        self.folder.check_same(self.job)
        opened = OpenJob(self.folder, self.ref, self.job, chunk_list)
        settle = self._check_outputs(opened)
        self.folder.create(self.job, chunk_list)
        for step in settle:
            step()
        return opened

    def finished(self, opened: OpenJob) -> tuple[Range, ...]:
        """Return the chunks that need no rendering.

        A chunk whose files were damaged or removed since is taken back.
        """
        done = RangeSet()
        for chunk in self.folder.published():
            sidecar = self.folder.sidecar(chunk_key(chunk)) if chunk < len(opened.chunks) else None
            if sidecar is not None and is_intact(sidecar):
                done.add(chunk, chunk + 1)
            else:
                revoke(self.folder, chunk_key(chunk))
        return done.ranges

    def _check_store(self) -> None:
        self._roots.check(self._base, "base_dir")
        if not self._base.is_dir():
            raise BadJobError(f"base_dir: there is no folder {self._base} on this worker; make it, or share it")
        if not os.access(self._base, os.W_OK | os.X_OK):
            raise BadJobError(f"base_dir: {self._base} may not be written by the worker; change its permissions")

    def _read_chunk_list(self) -> bytes | None:
        if self.job.chunk_list is None:
            return None
        path = self._base / self.job.chunk_list.path
        self._roots.check(path, "chunks.path")
        stored = self.folder.list_file
        try:
            raw = stored.read_bytes() if stored.exists() else path.read_bytes()
        except OSError as error:
            raise BadJobError(f"chunks.path: {path} cannot be read ({error.strerror}); put it there") from error
        if hashlib.sha256(raw).hexdigest() != self.job.chunk_list.sha256:
            raise BadJobError(f"chunks.sha256: {path} is not the file it was; submit the job again")
        return raw

    def _check_programs(self) -> None:
        commands = {"command": self.job.command, "merge_command": self.job.merge_command, "check": self.job.check}
        commands |= {f"chunks[{i}].command": chunk.command for i, chunk in enumerate(self.job.inline_chunks)}
        for field, command in commands.items():
            if command is not None:
                self._programs.resolve(command, base_dir=self._base, field=field)

    def _check_audio(self) -> None:
        if self.job.audio is None:
            return
        path = self._base / self.job.audio
        self._roots.check(path, "audio")
        try:
            inspect_audio(path)
        except MediaError as error:
            raise BadJobError(f"audio: {error.sentence}; name a file with sound") from error

    def _check_outputs(self, opened: OpenJob) -> list[Callable[[], object]]:
        """Decide by `if_exists` about files that stand where this job writes; return what is to be done about them."""
        settle: list[Callable[[], object]] = []
        goes_on = self.folder.job_file.exists()
        for key, field, path in _outputs(opened):
            self._roots.check(path, field)
            if path.is_dir():
                raise BadJobError(f"{field}: {path} is a folder; choose another name")
            if not path.exists() or self._is_ours(key):
                continue
            if goes_on and maker_of(path, self._base) is None:
                # The place was this job's before the file came there: publishing moves strangers aside.
                continue
            if self.job.if_exists is IfExists.REPLACE:
                settle.append(partial(self.folder.set_aside, path, f"replaced.{path.name}"))
            elif self.job.if_exists is IfExists.REUSE and (proven := reusable(self.folder, key, self.ref.digest)):
                settle.append(partial(link_new, proven, self.folder.sidecar_path(key)))
            else:
                raise BadJobError(self._why_refused(path, field))
        return settle

    def _why_refused(self, path: Path, field: str) -> str:
        maker = maker_of(path, self._base)
        by = f", made by job {maker}" if maker else ""
        if self.job.if_exists is IfExists.REUSE:
            return (
                f"if_exists: {path} is there already{by}, and is no proven output of this very work; choose another "
                f"{field}, remove the file, or set if_exists to replace"
            )
        return (
            f"if_exists: {path} is there already{by}; choose another {field}, remove the file, or set if_exists to "
            "reuse or replace"
        )

    def _is_ours(self, key: str) -> bool:
        return self.folder.sidecar_path(key).exists() or self.folder.claim_path(key).exists()


def _outputs(opened: OpenJob) -> Iterator[tuple[str, str, Path]]:
    """Return each output that could stand already, with its key and the field that names it."""
    looked_at: dict[Path, bool] = {}
    for chunk in opened.chunks:
        for path in chunk.outputs():
            target = opened.target(path)
            # A million outputs in folders that do not exist yet cost one look a folder.
            if target.parent not in looked_at:
                looked_at[target.parent] = _is_folder(target.parent, "chunk_output")
                yield chunk_key(chunk.index), "chunk_output", target
            elif looked_at[target.parent]:
                yield chunk_key(chunk.index), "chunk_output", target
    if opened.job.output is not None:
        film = opened.target(opened.film_path)
        _is_folder(film.parent, "output")
        yield FILM, "output", film


def _is_folder(path: Path, field: str) -> bool:
    """Return whether there is such a folder; refuse one that can never be, because a file is in its way."""
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir():
        raise BadJobError(f"{field}: {there} is a file, and outputs need a folder there; choose another path")
    return there == path
