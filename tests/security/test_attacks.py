"""Attacks on a farm, each a program of its own that exits 0 when it is repelled."""

import os
import uuid
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from support.processes.forks import run_script, start_fork, until_fork_ends
from support.processes.workers import ROOT, worker_program

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

ATTACKS = sorted(path.stem for path in (Path(__file__).parent / "attacks").glob("*.py"))
# For what an attack starts itself.
PATHS = os.pathsep.join(map(str, (ROOT, ROOT / "client", ROOT / "tests")))
SECRET = "the-secret-that-no-render-reads"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(server: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    """What an attack knows of a farm: one worker with a secret, as in production."""
    store = tmp_path_factory.mktemp("attacked") / "store"
    store.mkdir()
    task_queue = f"attacked-{uuid.uuid4().hex[:12]}"
    # A program and no fork: a fork's `/proc/<pid>/environ` shows the process that it was forked from.
    async with worker_program(server, task_queue, store, slots=2, AWS_SECRET_ACCESS_KEY=SECRET) as worker:
        yield {
            "ATTACK_ADDRESS": server,
            "ATTACK_QUEUE": task_queue,
            "ATTACK_STORE": str(store),
            "ATTACK_SECRET": SECRET,
            "ATTACK_WORKER": str(worker.pid),
        }


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_is_repelled(target: dict[str, str], attack: str, tmp_path: Path) -> None:
    said = tmp_path / "said"
    path = str(Path(__file__).parent / "attacks" / f"{attack}.py")
    process = await start_fork(
        partial(run_script, path), [path], {**os.environ, **target, "PYTHONPATH": PATHS}, said, said
    )
    try:
        code = await until_fork_ends(process, 240)
    finally:
        process.kill()
    assert code == 0, said.read_text(errors="replace")
