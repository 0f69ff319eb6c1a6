"""Check that the files of a job lie in the folders that `LONGTAKE_ROOTS` names, links followed."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from longtake.chunks import ChunkPlan
from longtake.errors import BadJobError
from longtake.models.job import RenderJobSpec
from longtake.stores.factory import is_bucket


def read_roots(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folders of `LONGTAKE_ROOTS`, links resolved; none when it is not set."""
    named = environ.get("LONGTAKE_ROOTS", "").split(os.pathsep)
    return tuple(Path(os.path.realpath(name)) for name in named if name)


class AllowedPaths:
    """Refuses paths outside some folders; made anew for each job, because links change.

    Args:
        roots: Absolute folders, links resolved.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)
        self._passed: set[Path] = set()

    def check(self, path: Path, field: str) -> None:
        """Pass a path that lies inside, once its links are followed.

        Raises:
            BadJobError: It lies outside; the sentence names the field and the fix.
        """
        # Files of a folder that has passed need no second look, unless they are links themselves.
        if path.parent in self._passed and not path.is_symlink():
            return
        if not self._holds(path):
            raise BadJobError(
                f"{field}: {path} lies outside the folders that jobs may use ({', '.join(map(str, self._roots))}); "
                "move it there, or add its folder to LONGTAKE_ROOTS"
            )
        if self._holds(path.parent):
            self._passed.add(path.parent)

    def _holds(self, path: Path) -> bool:
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self._roots)


def check_job_paths(job: RenderJobSpec, roots: Sequence[Path]) -> None:
    """Pass a job whose files lie inside these folders; no folders allow all.

    Raises:
        BadJobError: One lies outside.
    """
    if not roots:
        return
    base, allowed = Path(job.base_dir or os.getcwd()), AllowedPaths(roots)
    for field, name in _files(job):
        allowed.check(base / name, field)


def _files(job: RenderJobSpec) -> Iterator[tuple[str, str]]:
    yield "base_dir", "."
    in_bucket = job.store is not None and is_bucket(job.store)
    for field, name in (("output", None if in_bucket else job.output), ("audio", job.audio)):
        if name is not None:
            yield field, name
    if isinstance(job.inputs, tuple):
        yield from ((f"inputs[{index}]", name) for index, name in enumerate(job.inputs))
    if job.chunk_list is not None:
        yield "chunks.path", job.chunk_list.path
        return
    if in_bucket:
        # Nothing is written here.
        return
    plan = ChunkPlan(job)
    # Chunks of one folder need one look; only a folder named after its chunk makes every one a case of its own.
    varied = job.frames is None or "{" in os.path.dirname(job.chunk_output or "")
    for chunk in plan if varied else (plan[0],):
        yield "chunk_output", chunk.outputs()[0]
