"""Planning the largest jobs: names are made one at a time, and folders that are not there cost one look."""

import subprocess
import sys
from pathlib import Path

import pytest

from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import LARGEST_FRAME, MOST_CHUNKS, MOST_IMAGES, MOST_IMAGES_OF_CHUNK

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own, whose memory is that of planning alone.
PLAN = """
import sys
from pathlib import Path
from activities.acceptance import Acceptance
from activities.allowed_stores import AllowedStores
from activities.attempts.host import Host
from activities.processes.programs import Programs
from activities.stores.input_cache import InputCache
from longtake.models.job import RenderJobSpec
from longtake.models.messages import PlanOrder

store, count, per_chunk, output = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
fields = dict(frames={"count": count, "per_chunk": per_chunk}, command=("true", "{output}"), base_dir=str(store))
job = RenderJobSpec(chunk_output=output, fps="25", **fields)
host = Host(None, Programs(None, "ffmpeg"), {}, InputCache(store / "cache", 0), store / "scratch")
acceptance = Acceptance(PlanOrder(id="job", job=job), host, AllowedStores([store]))
opened = acceptance.run()
acceptance.find_finished_chunks(opened)
# Not `ru_maxrss`, which begins with the memory of the process that has started this one.
most = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(len(opened.chunks), int(most.split()[1]) >> 10)
"""


@pytest.mark.parametrize(
    ("count", "per_chunk", "output"),
    [
        (MOST_IMAGES, MOST_IMAGES_OF_CHUNK, "new/{frame:08}.png"),
        (MOST_IMAGES // 400, MOST_IMAGES_OF_CHUNK, "{frame:08}.png"),
        (LARGEST_FRAME // 10, LARGEST_FRAME // MOST_CHUNKS + 1, "new/{chunk:07}.mp4"),
        (MOST_CHUNKS // 100, 1, "{chunk:07}/a.mp4"),
    ],
    ids=["images", "images beside others", "chunks", "a folder a chunk"],
)
def test_planning_of_the_largest_jobs_takes_less_than_200_mb(
    tmp_path: Path, count: int, per_chunk: int, output: str
) -> None:
    words = [sys.executable, "-c", PLAN, str(tmp_path), str(count), str(per_chunk), output]
    environ = {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr

    chunks, megabytes = map(int, done.stdout.split())

    assert chunks == -(-count // per_chunk)
    assert megabytes < 200


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ({"count": 2147483646, "per_chunk": 2147483646}, "frames.per_chunk: makes 2,147,483,646 image files in one"),
        ({"count": 100_001, "per_chunk": 100_001}, "a chunk has at most 100,000; make chunks shorter"),
        ({"count": 10_000_001, "per_chunk": 100}, "frames: make more than 10,000,000 image files; split the job"),
    ],
)
def test_one_line_names_no_more_image_files_than_a_worker_can_hold(frames: dict[str, int], sentence: str) -> None:
    fields = {"command": ("true", "{output}"), "base_dir": "/films", "frames": frames}
    with pytest.raises(ValueError, match=sentence):
        RenderJobSpec.model_validate({**fields, "chunk_output": "f/{frame}.png"})
    # As video they are one file.
    RenderJobSpec.model_validate({**fields, "chunk_output": "f/{chunk}.mp4", "fps": "25", "frames": {"count": 10}})


def test_a_listed_chunk_is_bounded_too() -> None:
    chunks = [{"start": 0, "count": 100_001}]
    with pytest.raises(ValueError, match=r"chunks\[0\].count: makes 100,001 image files"):
        RenderJobSpec.model_validate(
            {"command": ("true", "{output}"), "base_dir": "/films", "chunk_output": "{frame}.png", "chunks": chunks}
        )
