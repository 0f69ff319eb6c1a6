"""One attempt at a chunk on this host: what a renderer does to its folder troubles no other try."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

from support.jobs.images import png

ROOT = Path(__file__).resolve().parents[2]

# Without the rights of root to pass by permissions; another account could not read this interpreter everywhere.
BOUND = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()

# Two tries of one chunk for each folder that may be closed, in a process of its own: the first closes the folder and
# fails, the second is like any other.
TWO_TRIES = """
import asyncio, json, os, sys
from pathlib import Path
from activities.attempts.chunk_attempt import ChunkAttempt
from activities.attempts.host import build_host
from activities.backends.backend import Progress
from activities.errors import AttemptError
from activities.processes.supervisor import Supervisor
from activities.settings import WorkerSettings
from activities.stores.job_folder import JobFolder, OpenJob, encode_job
from longtake.models.job import RenderJobSpec
from longtake.models.frames import FrameRange
from longtake.models.messages import JobRef
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_records import compute_integrity
from longtake.transfer.delete import delete_job

script = (
    'cp "$1/picture.png" "$3/$2"; if [ -e "$1/tried" ]; then exit 0; fi; touch "$1/tried"; '
    'mkdir "$3/inner" && cp "$1/picture.png" "$3/inner/"; chmod 0 "$3/$4"; exit 1'
)

class Watcher:
    freeze_order = 0
    most_grace_seconds = 5.0
    def on_frozen(self, order): pass
    def on_progress(self, progress): pass

async def try_twice(supervisor, root, closed, output):
    store = root / "store"
    job = RenderJobSpec(
        frames=FrameRange(count=1, per_chunk=1), fps="25", base_dir=str(store), chunk_output=output,
        command=("sh", "-c", script, "sh", str(root), output.format(frame=0, chunk=0), "{output_dir}", closed),
    )
    folder = JobFolder(DirectoryStore(store), "job")
    folder.create(job, None)
    ref = JobRef(id="job", base_dir=str(store), digest=job.digest(), integrity=compute_integrity(encode_job(job), None))
    settings = WorkerSettings(task_queue="q", roots=(store,), slots=1, scratch=root / "scratch")
    (root / "tools").mkdir()
    host = build_host(settings, supervisor, tools=root / "tools")
    opened = OpenJob.read(ref, scratch=host.scratch)
    for name in ("a", "b"):
        try:
            sidecar = await ChunkAttempt(host, opened, opened.chunks[0], name).run(Watcher())
            yield f"{name} published by {sidecar.attempt}"
        except AttemptError as error:
            yield f"{name} failed: {error}"
    # What is left by one that was killed, whose folder nobody has cleared.
    left = store / ".longtake/job/attempts/000007/c/inner"
    left.mkdir(parents=True)
    (left / "f.png").touch()
    left.chmod(0), left.parent.chmod(0)
    gone = delete_job(str(store), "job", job=job)
    yield f"left: {sorted(map(str, store.rglob('*')))} {gone.left}"

async def main():
    async with Supervisor() as supervisor:
        for root, closed, output in json.loads(sys.argv[2]):
            lines = [line async for line in try_twice(supervisor, Path(root), closed, output)]
            print(json.dumps(lines))

shut = Path(sys.argv[1], "shut")
shut.mkdir(mode=0)
assert not os.access(shut, os.R_OK), "permissions bind this process"
asyncio.run(main())
"""


def test_a_renderer_that_closes_its_folder_blocks_neither_later_tries_nor_delete(tmp_path: Path) -> None:
    # Its own folder, one inside of it, that around it, and the outermost of the attempt.
    rows = list(itertools.product([".", "inner", "..", "../.."], ["f_{frame}.png", "{chunk}.bin"]))
    folders = [tmp_path / str(number) for number in range(len(rows))]
    for folder in folders:
        (folder / "store").mkdir(parents=True)
        (folder / "picture.png").write_bytes(png(1))
    environ = {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}", "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    tries = json.dumps([(str(folder), *row) for folder, row in zip(folders, rows, strict=True)])
    words = [*BOUND, sys.executable, "-c", TWO_TRIES, str(tmp_path), tries]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    for row, told in zip(rows, done.stdout.splitlines(), strict=True):
        lines = json.loads(told)
        assert lines[0].startswith("a failed: sh exited with code 1"), (row, lines)
        assert lines[1:] == ["b published by b", "left: [] ()"], (row, lines)
