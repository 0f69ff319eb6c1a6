"""Whole jobs on Lambda and Cloud Run: the same file and the same film as on one's own hosts, in folders and buckets."""

import asyncio
import json
import secrets
from pathlib import Path

import pytest
from support.farm import Farm, serving
from support.jobs.films import frame_digests, lossless_job
from support.remote.agent_farm import services
from support.s3.server import S3Server

from longtake import JobState, load_job
from longtake.models.backends import BackendKind
from longtake.stores.factory import open_store

pytestmark = pytest.mark.integration

FRAMES = 20


@pytest.fixture
def job_file(bare: Farm) -> Path:
    """The one job file of these tests: it names neither a backend nor a store."""
    job = lossless_job(bare.store, frames=FRAMES, per_chunk=10)
    path = bare.store / "film.json"
    path.write_text(
        json.dumps({key: value for key, value in job.to_wire().items() if key not in ("base_dir", "contract")})
    )
    return path


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("directory", BackendKind.LOCAL),
        ("directory", BackendKind.CLOUD_RUN),
        ("bucket", BackendKind.LOCAL),
        ("bucket", BackendKind.LAMBDA),
        pytest.param("directory", BackendKind.LAMBDA, marks=pytest.mark.slow),
        pytest.param("bucket", BackendKind.CLOUD_RUN, marks=pytest.mark.slow),
    ],
)
async def test_one_job_file_makes_one_film_on_every_backend_and_in_every_store(
    bare: Farm, job_file: Path, ffmpeg: str, tmp_path: Path, s3_server: S3Server, kind: BackendKind, where: str
) -> None:
    url = f"s3://{s3_server.bucket()}/{secrets.token_hex(4)}" if where == "bucket" else str(bare.store)
    chosen = {"backend": kind.value, **({"store": url} if where == "bucket" else {})}
    async with (
        services(kind, (url,), tmp_path, s3_server=s3_server) as running,
        serving(bare.client, running.settings(bare)),
    ):
        status = await bare.run(load_job(job_file, chosen))
        assert status.state is JobState.COMPLETED, status.error
        films = open_store(url, scratch=tmp_path / "look")
        film = await asyncio.to_thread(films.download, f"{url}/film.mp4", tmp_path / "film.mp4")

    made = await asyncio.to_thread(frame_digests, ffmpeg, "-i", str(film))
    source = ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=30000/1001", "-frames:v", str(FRAMES), "-pix_fmt", "yuv420p")
    assert made == await asyncio.to_thread(frame_digests, ffmpeg, *source)
    assert status.completed_chunks == FRAMES / 10
    assert (status.metrics.billed_seconds > 0) is (kind is not BackendKind.LOCAL)
    assert (status.metrics.cost_usd > 0) is (kind is not BackendKind.LOCAL)
