"""Check that the files of a job lie in the folders that `LONGTAKE_ROOTS` names, links followed."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from longtake.chunks import ChunkPlan
from longtake.errors import BadJobError
from longtake.models.job import RenderJobSpec
from longtake.stores.factory import is_bucket

# Folders that are known to be allowed: a job may have a million.
_MOST_REMEMBERED = 4096


def read_roots(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Read the folders of `LONGTAKE_ROOTS`, links resolved; return none if the variable is not set."""
    named = environ.get("LONGTAKE_ROOTS", "").split(os.pathsep)
    return tuple(Path(os.path.realpath(name)) for name in named if name)


class AllowedPaths:
    """Refuse paths outside of the allowed folders; made anew for each job, because links change.

    Args:
        roots: Absolute folders, links resolved.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)
        self._passed: set[Path] = set()

    def check(self, path: Path, field: str) -> None:
        """Raise unless a path lies in an allowed folder, links followed.

        Args:
            path: The path.
            field: Key of the job that names the path, for the error.

        Raises:
            BadJobError: The path lies outside; the sentence names the field and the fix.
        """
        # Another file of an allowed folder is allowed too, unless the file is a link.
        if path.parent in self._passed and not path.is_symlink():
            return
        if not self._holds(path):
            raise BadJobError(
                f"{field}: {path} lies outside the folders that jobs may use ({', '.join(map(str, self._roots))}); "
                "move it there, or add its folder to LONGTAKE_ROOTS"
            )
        if self._holds(path.parent):
            if len(self._passed) >= _MOST_REMEMBERED:
                self._passed.clear()
            self._passed.add(path.parent)

    def _holds(self, path: Path) -> bool:
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self._roots)


def check_job_paths(job: RenderJobSpec, roots: Sequence[Path]) -> None:
    """Raise unless all files of a job lie in the allowed folders.

    Args:
        job: The job.
        roots: Allowed folders, links resolved; none allows all.

    Raises:
        BadJobError: A file lies outside.
    """
    if not roots:
        return
    base, allowed = Path(job.base_dir or os.getcwd()), AllowedPaths(roots)
    for field, name in _files(job):
        allowed.check(base / name, field)


def _files(job: RenderJobSpec) -> Iterator[tuple[str, str]]:
    """Yield the fields of a job that name files, and their paths."""
    yield "base_dir", "."
    in_bucket = job.store is not None and is_bucket(job.store)
    if not in_bucket:
        yield from job.film_outputs
    yield from job.audio_files
    yield from job.colour_files
    if isinstance(job.inputs, tuple):
        yield from ((f"inputs[{index}]", name) for index, name in enumerate(job.inputs))
    if job.chunk_list is not None:
        yield "chunks.path", job.chunk_list.path
        return
    if in_bucket:
        # The outputs of chunks go to the bucket.
        return
    plan = ChunkPlan(job)
    # All chunks in one folder need one check; each chunk is checked only if the folder is named after the chunk.
    varied = job.frames is None or any("{" in os.path.dirname(template.path) for template in job.output_templates)
    for chunk in plan if varied else (plan[0],):
        for path in chunk.first_outputs:
            yield job.output_field, path
