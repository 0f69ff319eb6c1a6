"""The farm of `make production` for tests: on free ports, with data of its own, gone afterwards."""

import shutil
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support.farm import Farm

from deploy.production.compose import ROOT
from deploy.production.farm import ProductionFarm
from longtake import RenderClient
from longtake.connection import connect


def open_folder() -> Path:
    """Make a folder for a farm; pytest's own are closed to the account that PostgreSQL runs as."""
    made = Path(tempfile.mkdtemp(prefix="longtake-farm-"))
    made.chmod(0o755)
    return made


@asynccontextmanager
async def production_farm(*, worker_program: Path = ROOT / "worker.py") -> AsyncIterator[ProductionFarm]:
    """Run PostgreSQL, Temporal, SeaweedFS and two workers with two slots each."""
    folder = open_folder()
    settings = {"LONGTAKE_ALLOWED_COMMANDS": f"{sys.executable}:ffmpeg:sh", "LONGTAKE_SLOTS": "2"}
    try:
        async with ProductionFarm(
            folder, worker_program=worker_program, worker_settings=settings | {"LONGTAKE_SHUTDOWN_GRACE_SECONDS": "0"}
        ) as farm:
            yield farm
    finally:
        shutil.rmtree(folder)


async def jobs_of(production: ProductionFarm) -> Farm:
    """Return the means to submit jobs to a farm, with a new folder for what they make."""
    client = await connect(address=production.address, namespace=production.namespace)
    store = production.films / uuid.uuid4().hex[:12] / "store"
    store.mkdir(parents=True)
    return Farm(production.address, "longtake", client, RenderClient(client), store)
