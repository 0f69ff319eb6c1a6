"""Image sequences that are published in a bucket, without a render, and their planning by a worker."""

import hashlib
import sys
from pathlib import Path

from support.farm import worker_settings

from activities.acceptance import Acceptance
from activities.allowed_stores import AllowedStores
from activities.attempts.host import build_host
from activities.processes.supervisor import Supervisor
from activities.stores.job_folder import JobFolder, OpenJob, Sidecar
from longtake import FrameRange, RenderJobSpec
from longtake.models.messages import PlanOrder
from longtake.ranges import Range
from longtake.stores.factory import open_store
from longtake.stores.job_layout import chunk_key
from longtake.stores.publications import PublishedFile
from longtake.stores.store import map_parallel

CONTENT = b"a frame"
_DIGEST = hashlib.sha256(CONTENT).hexdigest()


class FramePlanner:
    """Jobs of image sequences in one bucket, and a worker that plans them.

    Args:
        url: URL of the bucket's place.
        folder: Where the worker works.
        frames: Number of frames of each job.
        per_chunk: Number of frames of each chunk.
    """

    def __init__(self, url: str, folder: Path, *, frames: int, per_chunk: int) -> None:
        self.url = url
        self.store = open_store(url, scratch=folder / "look")
        settings = worker_settings("plan", folder, slots=1).model_copy(update={"scratch": folder / "scratch"})
        (folder / "tools").mkdir(parents=True)
        self.host = build_host(settings, Supervisor(), tools=folder / "tools")
        self.frames = FrameRange(count=frames, per_chunk=per_chunk)

    def job(self, **fields: object) -> RenderJobSpec:
        known = {
            "name": "frames",
            "frames": self.frames,
            "command": (sys.executable, "-c", "", "{output}", "{start}", "{count}"),
            "chunk_output": "frames/{frame:06}.png",
            "store": self.url,
        }
        return RenderJobSpec.model_validate(known | fields)

    def acceptance(self, job: RenderJobSpec, id: str) -> Acceptance:
        return Acceptance(PlanOrder(id=id, job=job), self.host, AllowedStores((), (self.url,)))

    def plan(self, job: RenderJobSpec, id: str) -> tuple[Range, ...]:
        """Plan a job as `plan_job` does; return the chunks that are finished."""
        acceptance = self.acceptance(job, id)
        return acceptance.find_finished_chunks(acceptance.run())

    def publish_all(self, job: RenderJobSpec, id: str) -> None:
        """Write all that a job leaves that has rendered all of its chunks."""
        accepted = self.acceptance(job, id)
        opened = accepted.run()
        targets = [opened.target(path) for chunk in opened.chunks for path in chunk.iter_outputs()]
        map_parallel(self.store, lambda target: self.store.create(target, CONTENT), targets)
        map_parallel(self.store, lambda chunk: self._record(opened, chunk, id), range(len(opened.chunks)))

    def _record(self, opened: OpenJob, index: int, id: str) -> None:
        chunk = opened.chunks[index]
        files = tuple(
            PublishedFile(path=target, size_bytes=len(CONTENT), sha256=_DIGEST, attempt_path=f"{target}.gone")
            for target in map(opened.target, chunk.iter_outputs())
        )
        key = chunk_key(index)
        sidecar = Sidecar(key=key, digest=opened.ref.digest, attempt="a", frames=chunk.count, files=files)
        content = sidecar.model_dump_json(exclude_defaults=True).encode()
        folder = JobFolder(self.store, id)
        self.store.create(folder.claim_path(key), content)
        self.store.create(folder.sidecar_path(key), content)
