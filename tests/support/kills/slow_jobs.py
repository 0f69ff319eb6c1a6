"""Jobs that take their time and write down each start: to be disturbed, and compared with an undisturbed run."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from support.farm import Ledger, read_sidecars
from support.jobs.films import lossless_job

from longtake import FrameRange, RenderJobSpec, Retry, Timeouts

CHUNKS = 5
# Two seconds: finished frames of a chunk that is not finished are kept once a second.
FRAMES_PER_CHUNK = 20
_RATE = 10

# The line is there before the renderer is.
_NOTED = ("sh", "-c", 'echo "start $1 $2 $3" >> "$0"; shift 3; exec "$@"')

# Paced: a chunk lasts as long on an idle machine as on a busy one, so that there is always something to disturb.
_PICTURE = ("-f", "lavfi", "-i", f"testsrc2=s=96x64:r={_RATE}")
_PACE = ("-vf", "trim=start_frame={start},setpts=PTS-STARTPTS,realtime", "-frames:v", "{count}", "-threads", "1")
_FFMPEG = ("ffmpeg", "-nostdin", "-v", "error", *_PICTURE, *_PACE)


@dataclass(frozen=True)
class SlowJob:
    """A job in a folder of its own; `video` chunks become a film, the others stay image files."""

    store: Path
    video: bool

    @property
    def ledger(self) -> Ledger:
        """One line a start: the chunk, its first frame, how many."""
        return Ledger(self.store.parent / f"{self.store.name}.starts")

    def spec(self) -> RenderJobSpec:
        """Return the job; a try lost by no fault of the renderer must not count, so there is only one."""
        codec = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-bf", "2") if self.video else ()
        numbered = () if self.video else ("-start_number", "{start}")
        job = lossless_job(self.store, frames=1, per_chunk=1)
        return job.model_copy(
            update={
                "name": "film" if self.video else "sequence",
                "frames": FrameRange(count=CHUNKS * FRAMES_PER_CHUNK, per_chunk=FRAMES_PER_CHUNK),
                "fps": str(_RATE),
                "command": (
                    *_NOTED,
                    *(str(self.ledger.path), "{chunk}", "{start}", "{count}"),
                    *(*_FFMPEG, *codec, *numbered, "{output}"),
                ),
                "chunk_output": "chunks/{chunk:06}.mp4" if self.video else "frames/f_{frame:06}.png",
                "output": "film.mp4" if self.video else None,
                "max_parallel": 2,
                "retry": Retry(attempts=1),
                "timeouts": Timeouts(grace_seconds=1),
            }
        )

    def outputs(self) -> dict[str, str]:
        """Return the digest of every file that the job has made for its users."""
        made = (path for path in self.store.rglob("*") if path.is_file() and ".longtake" not in path.parts)
        return {str(path.relative_to(self.store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in made}


@dataclass(frozen=True)
class Finished:
    """What a job had finished at some moment: nothing of it may be rendered again."""

    starts: int
    sidecars: dict[str, bytes]
    frames: frozenset[int]
    # How many of the frames were of chunks that were not finished.
    kept: int

    @classmethod
    def of(cls, job: SlowJob, job_id: str) -> "Finished":
        """Look at the job's folder."""
        folder = job.store / ".longtake" / job_id
        # First, for what starts while this looks was decided on by what was there before.
        starts = len(job.ledger.lines("start"))
        sidecars = read_sidecars(job.store, job_id)
        whole = {
            frame + int(name.removesuffix(".json")) * FRAMES_PER_CHUNK
            for name in sidecars
            for frame in range(FRAMES_PER_CHUNK)
        }
        frames = whole | _kept(folder)
        return cls(starts, sidecars, frozenset(frames), len(frames - whole))

    def rendered_again(self, job: SlowJob) -> set[int]:
        """Return the finished frames that a later start was told to render."""
        later = job.ledger.lines("start")[self.starts :]
        told = {frame for _, _, start, count in later for frame in range(int(start), int(start) + int(count))}
        return told & self.frames


def _kept(folder: Path) -> set[int]:
    """Return the frames of unfinished chunks whose files are there, as they were written down."""
    found = set()
    for record in (folder / "frames").glob("*/*.json"):
        try:
            batch = json.loads(record.read_bytes())
        except (OSError, ValueError):
            # Taken away by a chunk that was finished meanwhile.
            continue
        chunk = int(record.parent.name)
        for frame in batch["frames"]:
            file = record.parent / frame["file"]
            if file.exists() and file.stat().st_size == frame["size_bytes"]:
                found.add(chunk * FRAMES_PER_CHUNK + frame["frame"])
    return found
