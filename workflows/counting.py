"""How many frames a set of chunks has, as far as the workflow itself can know."""

from collections.abc import Sequence

from longtake.job import RenderJobSpec
from longtake.planning import ChunkPlan
from longtake.ranges import Range
from longtake.work import JobPlan


def frames_done(job: RenderJobSpec, plan: JobPlan, done: Sequence[Range]) -> int:
    """Return the frames of these chunks: exact, but for lists in files, where chunks count as equally long."""
    if job.chunk_list is None:
        return ChunkPlan(job).frames_in(done)
    chunks = sum(stop - start for start, stop in done)
    return plan.frame_count * chunks // plan.chunk_count
