"""Records stores as this version writes them, for `tests/integration/test_old_stores.py`: real jobs on a real farm.

`.venv/bin/python tests/old_stores/record.py NAME` writes the folder `NAME` beside this file; the folders that stand
there were written by released versions and are never recorded anew. Each holds

    directory/             a directory store, as it lay at `RECORDED_BASE/store`
    bucket/objects/        the objects of a bucket, by their keys, as they lay below `RECORDED_BUCKET`
    bucket/metadata.json   their metadata

with the jobs

    film      completed: three chunks of video and the film
    frames    an image sequence with a film, whose worker was killed in its second of three chunks, in frame 6
    texts     failed (directory only): two tries of chunk 1 of a chunk list in a file; chunk 2 was never begun
    service   (directory only) as `frames`, on a Lambda function that was lost together with the worker

What a machine is called is replaced; nothing else is. The renderers wait, or fail, until the file `RECORDED_BASE/go`
is there.
"""

import asyncio
import hashlib
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.farm import Farm, eventually, until, until_state  # noqa: E402
from support.processes.workers import worker_process  # noqa: E402
from support.remote.agent_farm import services  # noqa: E402
from support.remote.lambda_service import LambdaService  # noqa: E402
from support.s3.server import S3Server, run_s3_server  # noqa: E402

import devserver  # noqa: E402  # the checkout's root is not on the path of a script that lies elsewhere
from longtake import FrameRange, JobHandle, JobState, RenderClient, RenderJobSpec, Retry  # noqa: E402
from longtake.connection import connect  # noqa: E402
from longtake.models.backends import BackendKind  # noqa: E402
from longtake.models.frames import ChunkList  # noqa: E402
from ports import find_free_port  # noqa: E402

RECORDED_BASE = Path("/tmp/longtake-recording")
RECORDED_BUCKET = "s3://longtake-recording/shows/one"
STORE = RECORDED_BASE / "store"
GO = RECORDED_BASE / "go"
SCRIPTS = HERE / "scripts"

# The frame that renders stand in until the file `GO` is there; in the second chunk of three.
WAITS_IN = 6


def film_job() -> dict[str, object]:
    return {
        "name": "film",
        "frames": FrameRange(count=15, per_chunk=5),
        "fps": 25,
        "command": (
            *("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x64:r=25"),
            *("-vf", "trim=start_frame={start},setpts=PTS-STARTPTS", "-frames:v", "{count}"),
            *("-c:v", "libx264", "-crf", "35", "{output}"),
        ),
        "chunk_output": "film/{chunk:06}.mp4",
        "output": "film.mp4",
    }


def frames_job(folder: str) -> dict[str, object]:
    return {
        "name": folder,
        "frames": FrameRange(count=12, per_chunk=4),
        "fps": 25,
        "command": ("sh", "frames.sh", "{output}", "{start}", "{count}", str(WAITS_IN), str(GO)),
        "chunk_output": folder + "/f_{frame:04}.bmp",
        "output": f"{folder}.mp4",
        "inputs": ("frames.sh",),
        "max_parallel": 1,
        "retry": Retry(attempts=1),
    }


def texts_job() -> dict[str, object]:
    listed = json.dumps({"chunks": [{"start": index, "count": 1} for index in range(3)]}).encode()
    (STORE / "chunks.json").write_bytes(listed)
    return {
        "name": "texts",
        "chunks": ChunkList(path="chunks.json", sha256=hashlib.sha256(listed).hexdigest(), count=3),
        "command": ("sh", "text.sh", "{output}", "{chunk}", str(GO)),
        "chunk_output": "texts/{chunk}.txt",
        "output": "texts.txt",
        "merge_command": ("sh", "-c", 'cat texts/*.txt > "$1"', "sh", "{output}"),
        "inputs": ("text.sh",),
        "max_parallel": 1,
        "retry": Retry(attempts=2, initial_seconds=0.05),
    }


class Recording:
    """A farm whose workers are processes, and the store that they write."""

    def __init__(self, address: str, render: RenderClient, farm: Farm, s3_server: S3Server) -> None:
        self.address = address
        self.render = render
        self.farm = farm
        self.s3_server = s3_server

    async def directory(self) -> None:
        for script in SCRIPTS.iterdir():
            shutil.copy(script, STORE)
        async with worker_process(self.address, "longtake", STORE):
            await self.completed("film", RenderJobSpec(**film_job(), base_dir=str(STORE)))
            handle = await self.render.submit(RenderJobSpec(**texts_job(), base_dir=str(STORE)), id="texts")
            await until_state(handle, JobState.FAILED)
        await self.interrupted("frames", RenderJobSpec(**frames_job("frames"), base_dir=str(STORE)), {})
        async with services(BackendKind.LAMBDA, (str(STORE),), RECORDED_BASE / "lambda") as running:
            job = RenderJobSpec(**frames_job("service"), base_dir=str(STORE), backend="lambda")
            await self.interrupted("service", job, running.environment, running.service)

    async def bucket(self) -> None:
        project = RECORDED_BASE / "project"
        shutil.copytree(SCRIPTS, project)
        environment = {
            "LONGTAKE_STORES": RECORDED_BUCKET,
            "LONGTAKE_SCRATCH": str(RECORDED_BASE / "scratch"),
            **self.s3_server.environment,
        }
        os.environ.update(self.s3_server.environment)
        where = {"base_dir": str(project), "store": RECORDED_BUCKET}
        async with worker_process(self.address, "longtake", STORE, slots=2, **environment):
            await self.completed("bucket-film", RenderJobSpec(**film_job(), **where))
        job = RenderJobSpec(**frames_job("frames"), **where)
        await self.interrupted("bucket-frames", job, environment)

    async def completed(self, id: str, job: RenderJobSpec) -> None:
        handle = await self.render.submit(job, id=id)
        await until_state(handle, JobState.COMPLETED)

    async def interrupted(
        self, id: str, job: RenderJobSpec, environment: dict[str, str], service: LambdaService | None = None
    ) -> None:
        """Kill the worker, and the service, when all that comes before the frame that waits is kept."""
        async with worker_process(self.address, "longtake", STORE, slots=2, **environment) as worker:
            handle = await self.render.submit(job, id=id)
            await until(handle, lambda status: status.completed_chunks == 1)
            kept = self.kept(job, handle)
            await eventually(lambda: kept() == WAITS_IN % 4, "the frames before it are kept")
            worker.kill()
            await worker.wait()
        if service is not None:
            await service.__aexit__()
        await eventually(lambda: not rendering(), "the renderers end with their worker")
        await self.farm.client.get_workflow_handle(handle.id).terminate()

    def kept(self, job: RenderJobSpec, handle: JobHandle) -> Callable[[], int]:
        """Return what counts the frames that are kept of the second chunk."""
        place = f".longtake/{handle.id}/frames/000001/"
        if job.store is None:
            return lambda: len(list((STORE / place).glob("*.bmp")))
        return lambda: sum(place in key and key.endswith(".bmp") for key in self.objects())

    def objects(self) -> dict[str, dict[str, str]]:
        """Return the metadata of all objects below `RECORDED_BUCKET`, by their keys below it."""
        bucket, _, prefix = RECORDED_BUCKET.removeprefix("s3://").partition("/")
        client = self.s3_server.client()
        keys = [one["Key"] for one in client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])]
        found = {key: client.head_object(Bucket=bucket, Key=key)["Metadata"] for key in sorted(keys)}
        # Servers spell these names in their own ways.
        return {
            key.removeprefix(f"{prefix}/"): {name.lower(): value for name, value in sorted(metadata.items())}
            for key, metadata in found.items()
        }

    def content(self, key: str) -> bytes:
        bucket, _, prefix = RECORDED_BUCKET.removeprefix("s3://").partition("/")
        return self.s3_server.client().get_object(Bucket=bucket, Key=f"{prefix}/{key}")["Body"].read()


def rendering() -> bool:
    """Tell whether a renderer of these jobs still runs."""
    return any(
        str(GO) in (process.info["cmdline"] or ())
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
    )


def without_host(content: bytes) -> bytes:
    """Return a record that does not say what the machine is called."""
    return re.sub(rb'("host": ?)"' + re.escape(socket.gethostname()).encode(), rb'\1"host', content)


async def record(into: Path) -> None:
    shutil.rmtree(RECORDED_BASE, ignore_errors=True)
    STORE.mkdir(parents=True)
    (RECORDED_BASE / "lambda").mkdir()
    program = await asyncio.to_thread(devserver.find_temporal, print)
    address = f"127.0.0.1:{find_free_port()}"
    async with AsyncExitStack() as stack:
        server = await devserver.start_dev_server(
            program, database=None, address=address, ui_port=None, log=RECORDED_BASE / "temporal.log", on_message=print
        )
        stack.push_async_callback(server.stop)
        client = await connect(address=address)
        render = RenderClient(client)
        buckets = stack.enter_context(run_s3_server(RECORDED_BASE / "s3"))
        buckets.bucket(RECORDED_BUCKET.removeprefix("s3://").partition("/")[0])
        recording = Recording(address, render, Farm(address, "longtake", client, render, STORE), buckets)
        await recording.directory()
        await recording.bucket()
        write(into, recording)
    shutil.rmtree(RECORDED_BASE)


def write(into: Path, recording: Recording) -> None:
    shutil.copytree(STORE, into / "directory")
    metadata = recording.objects()
    for key in metadata:
        place = into / "bucket" / "objects" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(recording.content(key))
    (into / "bucket" / "metadata.json").write_text(json.dumps(metadata, indent=1) + "\n")
    for path in into.rglob("*.json"):
        path.write_bytes(without_host(path.read_bytes()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} NAME")
    place = HERE / sys.argv[1]
    if place.exists():
        sys.exit(f"{place} was written by a released version and stays as it is; choose another name")
    asyncio.run(record(place))
