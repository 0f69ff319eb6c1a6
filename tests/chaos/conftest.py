"""Farms whose workers are processes of their own: the tests start, cut and kill them."""

import os
import secrets
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio
from support.farm import Farm, serving, worker_settings

from longtake import RenderClient
from longtake.connection import connect


@pytest.fixture
def random(capsys: pytest.CaptureFixture[str]) -> Random:
    """Chances of one run; their seed is printed, and `LONGTAKE_CHAOS_SEED` repeats them."""
    seed = int(os.environ.get("LONGTAKE_CHAOS_SEED") or secrets.randbits(32))
    with capsys.disabled():
        print(f"\nLONGTAKE_CHAOS_SEED={seed}")
    return Random(seed)


@pytest_asyncio.fixture
async def bare(server: str, store: Path) -> Farm:
    """A farm without a worker."""
    client = await connect(address=server)
    task_queue = f"test-{uuid.uuid4().hex[:12]}"
    return Farm(server, task_queue, client, RenderClient(client, task_queue=task_queue), store)


@pytest_asyncio.fixture
async def farm(bare: Farm) -> AsyncIterator[Farm]:
    """A farm with workers of four slots in this process."""
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=4)):
        yield bare
