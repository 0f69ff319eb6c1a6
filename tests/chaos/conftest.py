"""Farms whose workers are processes of their own: the tests start, cut and kill them."""

import uuid
from pathlib import Path

import pytest_asyncio
from farm import Farm

from longtake import RenderClient
from longtake.connection import connect


@pytest_asyncio.fixture
async def bare(server: str, store: Path) -> Farm:
    """A farm without a worker."""
    client = await connect(address=server)
    task_queue = f"test-{uuid.uuid4().hex[:12]}"
    return Farm(server, task_queue, client, RenderClient(client, task_queue=task_queue), store)
