"""The folders that jobs may use, as a client can check them before anything is started.

Workers check again: what a client sees is its own host's file system.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from longtake.errors import BadJobError
from longtake.job import RenderJobSpec
from longtake.planning import ChunkPlan


def roots_from(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folders of `LONGTAKE_ROOTS`, links resolved; none when it is not set."""
    named = environ.get("LONGTAKE_ROOTS", "").split(os.pathsep)
    return tuple(Path(os.path.realpath(name)) for name in named if name)


def check_roots(job: RenderJobSpec, roots: Sequence[Path]) -> None:
    """Pass a job whose files lie inside these folders, once links are followed; no folders allow all.

    Raises:
        BadJobError: One lies outside; the sentence names the field and the fix.
    """
    if not roots:
        return
    base = Path(job.base_dir or os.getcwd())
    passed: set[Path] = set()
    for field, name in _files(job):
        path = base / name
        if path.parent in passed and not path.is_symlink():
            continue
        if not any(Path(os.path.realpath(path)).is_relative_to(root) for root in roots):
            raise BadJobError(
                f"{field}: {path} lies outside the folders that jobs may use ({', '.join(map(str, roots))}); move it "
                "there, or add its folder to LONGTAKE_ROOTS"
            )
        if any(Path(os.path.realpath(path.parent)).is_relative_to(root) for root in roots):
            passed.add(path.parent)


def _files(job: RenderJobSpec) -> Iterator[tuple[str, str]]:
    yield "base_dir", "."
    for field, name in (("output", job.output), ("audio", job.audio)):
        if name is not None:
            yield field, name
    if job.chunk_list is not None:
        yield "chunks.path", job.chunk_list.path
        return
    plan = ChunkPlan(job)
    # Chunks of one folder need one look; only a folder named after its chunk makes every one a case of its own.
    varied = job.frames is None or "{" in os.path.dirname(job.chunk_output or "")
    for chunk in plan if varied else (plan[0],):
        yield "chunk_output", chunk.outputs()[0]
