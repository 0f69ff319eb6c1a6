"""Films whose frames can be compared one by one."""

import subprocess
from pathlib import Path

from longtake import FrameRange, RenderJobSpec

PICTURE = "testsrc2=s=96x64:r=30000/1001"


def lossless_job(store: Path, *, frames: int, per_chunk: int, suffix: str = "mp4") -> RenderJobSpec:
    """A job whose chunks are frame-exact parts of one source."""
    return RenderJobSpec(
        name="lossless",
        frames=FrameRange(count=frames, per_chunk=per_chunk),
        fps="30000/1001",
        command=(
            *("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", PICTURE),
            *("-vf", "trim=start_frame={start},setpts=PTS-STARTPTS", "-frames:v", "{count}"),
            *("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-bf", "2", "{output}"),
        ),
        chunk_output="chunks/{chunk:06}." + suffix,
        output=f"film.{suffix}",
        base_dir=str(store),
        max_parallel=4,
    )


def frame_digests(ffmpeg: str, *source: str) -> list[str]:
    """Return the decoded frames' digests with their times."""
    command = [ffmpeg, "-nostdin", "-v", "error", *source, "-map", "0:v", "-f", "framemd5", "-"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split(",")[-1].strip() for line in lines if not line.startswith("#")]
