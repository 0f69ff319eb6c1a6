"""A Helios job file whose chunks are rendered by Helios' own workers, on Lambda and on Cloud Run."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.farm import Farm, serving, worker_settings
from support.jobs.films import PICTURE, frame_digests
from support.remote.helios_worker import helios_server, job_server
from support.remote.lambda_service import called_service

from longtake import JobState, RenderJobSpec
from longtake.jobfile.helios import convert_helios

pytestmark = pytest.mark.integration

FUNCTION = "helios-render"


def document(ffmpeg: str) -> dict[str, Any]:
    """Return a job.json of three chunks, whose ids are not their places."""
    chunks = []
    for place in range(3):
        output = f"parts/part_{place}.mov"
        command = (
            f"{ffmpeg} -nostdin -v error -y -f lavfi -i {PICTURE} "
            f"-vf trim=start_frame={place * 10},setpts=PTS-STARTPTS -frames:v 10 "
            f"-c:v libx264 -preset ultrafast -qp 0 -bf 2 {output}"
        )
        chunk = {"id": 30 - place, "startFrame": place * 10, "frameCount": 10, "outputFile": output, "command": command}
        chunks.append(chunk)
    metadata = {"totalFrames": 30, "fps": 30, "width": 96, "height": 64, "duration": 1}
    return {"metadata": metadata, "chunks": chunks, "mergeCommand": ""}


@asynccontextmanager
async def backend(kind: str, store: Path, folder: Path) -> AsyncIterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Run Helios workers; yields the settings of Longtake's worker, and a job's settings of its backend."""
    (store / "parts").mkdir()
    async with AsyncExitStack() as stack:
        if kind == "lambda":
            service = await stack.enter_async_context(called_service(folder))
            environment = {"HELIOS_WORKSPACE": str(store)}
            service.add_function(FUNCTION, "support.remote.helios_worker.lambda_handler", env=environment)
            yield {"lambda_functions": (FUNCTION,)}, {"type": "lambda"}
        else:
            url, _ = await stack.enter_async_context(helios_server(store))
            yield {"cloud_run_urls": (url,)}, {"type": "cloud_run", "url": url}


@pytest.mark.parametrize("kind", ["lambda", "cloud_run"])
async def test_helios_workers_render_a_helios_job_whose_film_is_that_of_local_workers(
    bare: Farm, ffmpeg: str, tmp_path: Path, kind: str
) -> None:
    spec = document(ffmpeg)
    job = {**convert_helios(spec), "fps": "30000/1001", "output": "film.mov", "base_dir": str(bare.store)}
    async with job_server(spec) as job_url, backend(kind, bare.store, tmp_path) as (allowed, settings):
        told = worker_settings(bare.task_queue, bare.store, slots=2).model_copy(update=allowed)
        async with serving(bare.client, told):
            chosen = {**settings, "protocol": "helios", "job_url": job_url}
            status = await bare.run(RenderJobSpec.model_validate({**job, "backend": chosen}))

    assert status.state is JobState.COMPLETED, status.error
    source = ("-f", "lavfi", "-i", PICTURE, "-frames:v", "30", "-pix_fmt", "yuv420p")
    assert frame_digests(ffmpeg, "-i", str(bare.store / "film.mov")) == frame_digests(ffmpeg, *source)


@pytest.mark.parametrize("kind", ["lambda", "cloud_run"])
async def test_a_chunk_that_a_helios_worker_fails_says_why(bare: Farm, ffmpeg: str, tmp_path: Path, kind: str) -> None:
    spec = document(ffmpeg)
    spec["chunks"][1]["command"] = spec["chunks"][1]["command"].replace("libx264", "libnothing")
    job = {**convert_helios(spec), "fps": "30000/1001", "base_dir": str(bare.store), "retry": {"attempts": 1}}
    async with job_server(spec) as job_url, backend(kind, bare.store, tmp_path) as (allowed, settings):
        told = worker_settings(bare.task_queue, bare.store, slots=2).model_copy(update=allowed)
        async with serving(bare.client, told):
            chosen = {**settings, "protocol": "helios", "job_url": job_url}
            status = await bare.run(RenderJobSpec.model_validate({**job, "backend": chosen}))

    assert status.state is JobState.FAILED
    assert "libnothing" in status.failures[0].error
    assert status.failures[0].chunk == 1
