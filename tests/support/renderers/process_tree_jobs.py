"""Jobs whose renderers are hard to end, one kind of process tree each."""

import sys
from dataclasses import dataclass
from pathlib import Path

from support.farm import Farm, eventually
from support.processes.process_table import carrying

from longtake import FrameRange, JobHandle, RenderJobSpec, Retry, Timeouts

GRACE_SECONDS = 1.0

# What a worker must allow to run them.
PROGRAMS = f"{sys.executable}:ffmpeg:sh:blender"

_TREES = Path(__file__).with_name("process_trees.py")
_SCENE = Path(__file__).parents[3] / "examples" / "blender" / "scene.py"

_PIPELINE = 'while :; do echo begun; sleep 0.05; done | cat | cat > "$0"'

# At full speed: one that is paced looks for signals less often than one that works.
_FFMPEG = (
    *("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=25", "-frames:v", "{count}"),
    *("-c:v", "libx264", "-preset", "fast", "-threads", "1", "{output}"),
)
_BLENDER = (
    *("blender", "--background", "--factory-startup", "-noaudio", "--python-exit-code", "1", "--python", str(_SCENE)),
    *("--render-output", "{output_dir}/ring_#####", "--render-format", "PNG", "--frame-start", "{start}"),
    *("--frame-end", "{last}", "--render-anim", "--", "96", "64", "4"),
)


@dataclass(frozen=True)
class TreeKind:
    """One kind of tree: whether TERM alone ends all of it, and how many of its processes say that they stand."""

    name: str
    obeys: bool = True
    voices: int = 1
    command: tuple[str, ...] = ()
    chunk_output: str = "out/{chunk:06}.txt"
    frames: int = 1

    @property
    def promise_seconds(self) -> float:
        """Longest time from the client's call to the proof that nothing is left."""
        return 0.6 if self.obeys else GRACE_SECONDS + 0.6

    def job(self, farm: Farm) -> RenderJobSpec:
        """Return a job of one chunk of this kind."""
        script = (sys.executable, "-S", "-E", str(_TREES), self.name, "{output}", "120")
        return farm.job(
            name=self.name,
            frames=FrameRange(first=1, count=self.frames, per_chunk=self.frames),
            command=self.command or script,
            chunk_output=f"{self.name}/{self.chunk_output}",
            retry=Retry(attempts=1),
            timeouts=Timeouts(grace_seconds=GRACE_SECONDS, chunk_seconds=150),
            fps=25,
        )

    async def stands(self, farm: Farm, job: JobHandle) -> None:
        """Return when the whole tree is there and at work."""
        folder = farm.store / ".longtake" / job.id
        suffix = self.chunk_output.rpartition(".")[2]

        def begun() -> bool:
            if self.command:
                return any(path.stat().st_size for path in folder.rglob(f"*.{suffix}"))
            return sum(path.read_text().count("ready") for path in folder.rglob(f"*.{suffix}")) >= self.voices

        await eventually(begun, f"the tree of kind {self.name} stands")
        if self.name == "frozen":
            await eventually(lambda: any(seen.stopped for seen in carrying(job.id)), "the tree stands still")


KINDS = {
    kind.name: kind
    for kind in (
        TreeKind("obeys"),
        TreeKind("ignores", obeys=False),
        TreeKind("setsid", voices=2),
        TreeKind("daemon", voices=2),
        TreeKind("detached"),
        # No TERM reaches a successor that is forked while it is sent.
        TreeKind("forks", obeys=False),
        TreeKind("frozen"),
        TreeKind("pipeline", command=("sh", "-c", _PIPELINE, "{output}")),
        TreeKind("ffmpeg", command=_FFMPEG, chunk_output="{chunk:06}.ts", frames=100_000),
        TreeKind("blender", command=_BLENDER, chunk_output="ring_{frame:05}.png", frames=1000),
    )
}
