"""Jobs for agents: written down in a store as a worker does, and ordered with its signature."""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.farm import RENDERER, Ledger, eventually
from support.processes.process_table import carrying

from activities.remote.call_records import CallRecords
from activities.remote.protocol import RemoteOrder, RemoteResult, SignedOrder, sign
from activities.stores.job_folder import JobFolder, OpenJob, Sidecar, encode_job
from longtake import FrameRange, RenderJobSpec, Retry, Timeouts
from longtake.models.messages import JobRef
from longtake.stores.job_layout import chunk_key
from longtake.stores.job_records import compute_integrity
from longtake.stores.store import Store

SECRET = "a secret that workers and agents share"
FRAME_RENDERER = Path(__file__).parents[1] / "renderers" / "frame_renderer.py"
TREES = Path(__file__).parents[1] / "renderers" / "process_trees.py"
PYTHON = (sys.executable, "-S", "-E")


@dataclass
class AgentJob:
    """One accepted job, and what its agents leave."""

    job: OpenJob
    notes: Path

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.notes / "ledger.txt")

    def order(self, chunk: int = 0, *, attempt: str | None = None, seconds: float = 900, **fields: Any) -> RemoteOrder:
        attempt = attempt or f"attempt-{uuid.uuid4().hex[:8]}"
        given = {"ref": self.job.ref, "chunk": chunk, "attempt": attempt, "seconds": seconds, "issued_at": time.time()}
        return RemoteOrder(**{**given, **fields})

    def calls(self, chunk: int = 0) -> CallRecords:
        return CallRecords(self.job.folder, chunk_key(chunk))

    def sidecar(self, chunk: int = 0) -> Sidecar | None:
        return self.job.folder.sidecar(chunk_key(chunk))

    def log(self, order: RemoteOrder) -> bytes:
        return self.job.folder.store.read(self.job.folder.log_path(chunk_key(order.chunk), order.attempt))

    def published(self, chunk: int = 0) -> bytes:
        """Return what stands where the job wants the first file of a chunk."""
        return self.job.folder.store.read(self.job.target(self.job.chunks[chunk].outputs()[0]))

    def everything(self) -> dict[str, int]:
        """Return all files that are in the job's folder, with their sizes."""
        store = self.job.folder.store
        found: dict[str, int] = {}
        folders = [self.job.folder.path]
        while folders:
            folder = folders.pop()
            found |= {file.location: file.size_bytes for file in store.files(folder)}
            folders += [f"{folder}/{name}" for name in store.folders(folder)]
        return found

    def kept(self, chunk: int = 0) -> list[str]:
        """Return the kept frames of a chunk."""
        names = self.job.folder.store.names(self.job.folder.frames_dir(chunk_key(chunk)))
        return [name for name in names if not name.endswith(".json")]


def carriers(order: RemoteOrder) -> list[int]:
    """Return the living processes that know of an attempt in any way."""
    return [seen.pid for seen in carrying(order.attempt)]


@dataclass
class AgentJobs:
    """A store in which jobs are accepted."""

    store: Store
    notes: Path
    secret: str = SECRET
    made: list[AgentJob] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        """What an agent needs for these jobs."""
        return {
            "LONGTAKE_STORES": self.store.url,
            "LONGTAKE_ALLOWED_COMMANDS": f"{sys.executable}:ffmpeg:sh",
            "LONGTAKE_REMOTE_SECRET": self.secret,
            "LONGTAKE_SCRATCH": str(self.notes / "scratch"),
            "LONGTAKE_MARGIN_SECONDS": "2",
        }

    def accept(self, **fields: Any) -> AgentJob:
        """Accept a job."""
        where = {"base_dir": self.store.url} if self.store.is_local else {"store": self.store.url}
        # Jobs of one store may not publish over each other.
        name = f"job-{uuid.uuid4().hex[:12]}"
        spec = RenderJobSpec(
            **{
                "frames": FrameRange(count=4, per_chunk=1),
                "retry": Retry(attempts=1),
                "timeouts": Timeouts(grace_seconds=0.5),
                "chunk_output": f"{name}/{{chunk:06}}.txt",
                "backend": "lambda",
                **where,
                **fields,
            }
        )
        folder = JobFolder(self.store, name)
        folder.create(spec, None)
        store = "" if self.store.is_local else self.store.url
        base_dir = self.store.url if self.store.is_local else ""
        integrity = compute_integrity(encode_job(spec), None)
        ref = JobRef(id=folder.job_id, base_dir=base_dir, digest=spec.digest(), store=store, integrity=integrity)
        notes = self.notes / folder.job_id
        notes.mkdir(parents=True)
        self.made.append(AgentJob(OpenJob(folder, ref, spec, None), notes))
        return self.made[-1]

    def texts(self, *options: str, **fields: Any) -> AgentJob:
        """Accept a job of small texts, by a renderer that does as the options say; {notes} is a folder for them."""
        return self._with_notes((*PYTHON, str(RENDERER), "{output}", "--chunk", "{chunk}"), options, fields)

    def images(self, *options: str, frames: int = 20, per_chunk: int = 10, **fields: Any) -> AgentJob:
        """Accept a job of images."""
        command = (*PYTHON, str(FRAME_RENDERER), "{output}", "--start", "{start}", "--count", "{count}")
        named = {
            "frames": FrameRange(count=frames, per_chunk=per_chunk),
            "chunk_output": f"{uuid.uuid4().hex}/{{frame:05}}.png",
        }
        return self._with_notes(command, options, {**named, **fields})

    def trees(self, kind: str, **fields: Any) -> AgentJob:
        """Accept a job whose renderer is a tree of processes that is hard to end; each says `ready` in its output."""
        return self.accept(command=(*PYTHON, str(TREES), kind, "{output}", "120"), **fields)

    async def until_tree_stands(self, job: AgentJob, order: RemoteOrder, voices: int = 1) -> None:
        """Return when so many processes of a tree have said in its output that they are there."""
        place = job.job.folder.attempt_dir(chunk_key(order.chunk), order.attempt)
        folder = Path(place) if self.store.is_local else self.notes / "scratch" / "s3" / place.removeprefix("s3://")

        def stands() -> bool:
            return sum(path.read_text().count("ready") for path in folder.rglob("*.txt")) >= voices

        await eventually(stands, f"the tree of {order.attempt} stands")

    def _with_notes(self, command: tuple[str, ...], options: tuple[str, ...], fields: Mapping[str, Any]) -> AgentJob:
        notes = self.notes / f"notes-{uuid.uuid4().hex[:8]}"
        notes.mkdir(parents=True)
        given = ("--ledger", str(notes / "ledger.txt"), *(option.replace("NOTES", str(notes)) for option in options))
        made = self.accept(command=(*command, *given), **fields)
        made.notes = notes
        return made


def signed(order: RemoteOrder, secret: str = SECRET) -> dict[str, Any]:
    """Return an order as a worker sends it."""
    return sign(order, secret).model_dump()


def signed_text(text: str) -> dict[str, Any]:
    """Return whatever text with the signature of an order."""
    order = RemoteOrder(
        ref=JobRef(id="x", base_dir="/", digest="x"), chunk=0, attempt="x", seconds=1, issued_at=time.time()
    )
    return SignedOrder(order=text, signature=sign(order, SECRET).signature).model_dump()


async def read_result(job: AgentJob, order: RemoteOrder) -> RemoteResult:
    """Return the last word that lies in the store, when it has come."""
    calls = job.calls(order.chunk)
    await eventually(lambda: calls.result(order.attempt) is not None, "the agent gives its last word")
    result = await asyncio.to_thread(calls.result, order.attempt)
    assert result is not None
    return result


def document(body: bytes) -> Any:
    return json.loads(body)
