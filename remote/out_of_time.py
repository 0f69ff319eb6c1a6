"""What an agent says of a chunk that did not end in time: how small it should be."""

from dataclasses import dataclass

from longtake.chunks import Chunk
from longtake.models.backends import frames_within
from longtake.models.job import RenderJobSpec


@dataclass(frozen=True)
class TimeUsed:
    """What a call had and what it did with it."""

    # What it could render for, and what the platform gives it in all.
    work_seconds: float
    call_seconds: float
    # How long it rendered, and how many frames it made meanwhile.
    seconds: float
    frames: int


def too_large(job: RenderJobSpec, chunk: Chunk, used: TimeUsed, *, kept: bool) -> str:
    """Return the sentence that says how far a chunk came, and what to change."""
    course = (
        f"chunk {chunk.index} rendered {used.frames} of {chunk.count} frames in {used.seconds:.0f} s; this function "
        f"ends after {used.call_seconds:.0f} s"
    )
    if used.frames:
        most = min(chunk.count - 1, frames_within(used.work_seconds, frames=used.frames, seconds=used.seconds))
        fix = _fix(job, max(1, most))
    elif chunk.count > 1:
        fix = _fix(job, max(1, chunk.count // 2))
    else:
        fix = "give it a longer timeout or more memory, or render this job on workers of your own"
    return f"{course}: {fix}" + ("; the finished frames are kept" if kept else "")


def _fix(job: RenderJobSpec, most: int) -> str:
    if job.frames is not None:
        return f"set frames.per_chunk to at most {most}"
    return f"give each chunk at most {most} frames"
