"""Planning the largest jobs: names are made one at a time, and folders that are not there cost one look."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.jobs.published_chunks import publish_chunks

from activities.acceptance import Acceptance
from activities.allowed_stores import AllowedStores
from activities.attempts.host import Host
from activities.processes.programs import Programs
from activities.stores.input_cache import InputCache
from activities.stores.job_folder import OpenJob
from longtake.errors import BadJobError
from longtake.frame_list import LARGEST_FRAME
from longtake.jobfile.loader import LARGEST_FILE_BYTES
from longtake.models.frames import MOST_CHUNKS
from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import MOST_IMAGES, MOST_IMAGES_OF_CHUNK, MOST_LISTED_CHUNKS
from longtake.models.messages import PlanOrder

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


def plan(script: str, *arguments: str) -> tuple[int, int]:
    """Plan a job in a process of its own; return its chunks, and the most memory that the process had, in MiB."""
    words = [sys.executable, "-c", script, *arguments]
    environ = {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    chunks, megabytes = map(int, done.stdout.split())
    return chunks, megabytes


def accept(job: RenderJobSpec, store: Path) -> OpenJob:
    """Accept a job of which nothing is rendered."""
    host = Host(None, Programs(None, "ffmpeg"), {}, InputCache(store / "cache", 0), store / "scratch")  # type: ignore[arg-type]
    return Acceptance(PlanOrder(id="job", job=job), host, AllowedStores([store])).run()


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
@pytest.mark.slow
def test_planning_of_the_largest_jobs_takes_less_than_200_mb(
    tmp_path: Path, count: int, per_chunk: int, output: str
) -> None:
    chunks, megabytes = plan(PLAN, str(tmp_path), str(count), str(per_chunk), output)

    assert chunks == -(-count // per_chunk)
    assert megabytes < 200


@pytest.mark.slow
def test_planning_keeps_next_to_nothing_of_the_records_of_finished_chunks(tmp_path: Path) -> None:
    """The metadata of each was kept, too: 600 bytes, of a million more than the worker may take."""
    new, published = tmp_path / "new", tmp_path / "published"
    new.mkdir()
    published.mkdir()
    fields = {"frames": {"count": 20_000, "per_chunk": 1}, "command": ("true", "{output}"), "fps": "25"}
    job = RenderJobSpec.model_validate({**fields, "chunk_output": "{chunk:07}.txt", "base_dir": str(published)})
    publish_chunks(accept(job, published), in_segments=False)

    _, before = plan(PLAN, str(new), "20000", "1", "{chunk:07}.txt")
    _, megabytes = plan(PLAN, str(published), "20000", "1", "{chunk:07}.txt")

    assert megabytes - before < 8


PLAN_LIST = """
import hashlib
from longtake.models.frames import ChunkList
listed = (store / "list.json").read_bytes()
reference = ChunkList(path=str(store / "list.json"), sha256=hashlib.sha256(listed).hexdigest(), count=count)
del listed
fields = dict(chunks=reference, command=("true", "{output}"), base_dir=str(store))
"""


# The longest text, of few long chunks, and in `make chaos` of as many as there may be.
@pytest.mark.parametrize("count", [5_000, pytest.param(MOST_LISTED_CHUNKS, marks=pytest.mark.chaos)])
@pytest.mark.slow
def test_planning_of_the_longest_list_takes_less_than_200_mb(tmp_path: Path, count: int) -> None:
    argument = "x" * (LARGEST_FILE_BYTES // count - 105)
    chunks = [
        {"start": number * 9, "count": 9, "output": f"new/{number:06}.mp4", "command": ["true", "{output}", argument]}
        for number in range(count)
    ]
    text = json.dumps({"chunks": chunks})
    assert 0.8 * LARGEST_FILE_BYTES < len(text) <= LARGEST_FILE_BYTES
    (tmp_path / "list.json").write_text(text)
    place = "job = RenderJobSpec"
    script = PLAN.replace(place, f"{PLAN_LIST}{place}")

    chunks_planned, megabytes = plan(script, str(tmp_path), str(count), "1", "new/{chunk:07}.mp4")

    assert chunks_planned == count
    assert megabytes < 200


def test_a_list_of_another_length_than_its_job_says_is_refused(tmp_path: Path) -> None:
    listed = json.dumps({"chunks": [{"start": 0, "count": 9}]}).encode()
    (tmp_path / "list.json").write_bytes(listed)
    reference = {"path": str(tmp_path / "list.json"), "sha256": hashlib.sha256(listed).hexdigest(), "count": 2}
    fields = {"chunk_output": "new/{chunk:07}.mp4", "fps": "25", "chunks": reference, "command": ("true", "{output}")}
    job = RenderJobSpec.model_validate({**fields, "base_dir": str(tmp_path)})

    with pytest.raises(
        BadJobError, match=r"chunks\.count: is 2, and the list has 1 chunks; submit the job file itself"
    ):
        accept(job, tmp_path)


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
