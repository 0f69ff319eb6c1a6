"""`python worker.py --dev`: a farm in one command, that stops clean and goes on where it stopped."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.farm import Farm, alive, eventually, until, until_state
from support.processes.forks import start_fork, until_fork_ends
from support.processes.workers import ROOT

from longtake import JobState, RenderClient
from longtake.connection import connect
from ports import find_free_port
from worker import main

pytestmark = pytest.mark.integration


@asynccontextmanager
async def dev_worker(temporal: Path, folder: Path, address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a development worker that is ready to work."""
    log = folder / "dev.log"
    words = ("--dev", "--address", address, "--database", str(folder / "dev.db"), "--slots", "2")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "LONGTAKE_"))}
    environment |= {
        "PATH": f"{temporal.parent}{os.pathsep}{os.environ['PATH']}",
        "LONGTAKE_ROOTS": str(folder),
        "LONGTAKE_CACHE": str(folder / "cache"),
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(ROOT / "worker.py"), *words, "--ui-port", str(find_free_port())),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        ready = lambda: "ready:" in log.read_text() or process.returncode is not None  # noqa: E731
        await eventually(ready, "the worker is ready")
        assert process.returncode is None, log.read_text()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_named_port_that_is_taken_ends_it_with_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", find_free_port())) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        words = ["worker.py", "--dev", "--address", address, "--database", str(tmp_path / "dev.db")]
        code = await until_fork_ends(await start_fork(main, words, os.environ, tmp_path / "out", tmp_path / "err"), 60)

    assert code == 2
    assert (
        (tmp_path / "err")
        .read_text()
        .splitlines()[-1]
        .startswith(f"worker.py: port {address.rpartition(':')[2]} of --address is taken by process {os.getpid()} (")
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.slow
async def test_a_dev_worker_stops_clean_and_its_jobs_go_on_when_it_is_back(
    temporal_program: Path, store: Path, number: signal.Signals
) -> None:
    folder, address = store.parent, f"127.0.0.1:{find_free_port()}"
    async with dev_worker(temporal_program, folder, address) as worker:
        client = await connect(address=address)
        farm = Farm(address, "longtake", client, RenderClient(client), store)
        gate = ("--gate", str(farm.gate), "--only", "2", "--only", "3")
        job = await farm.submit(farm.job(chunks=4, options=gate, max_parallel=2))
        await until(job, lambda status: status.completed_chunks == 2)
        await eventually(lambda: bool({2, 3} & set(farm.ledger.started)), "a chunk that waits starts")

        worker.send_signal(number)
        assert await asyncio.wait_for(worker.wait(), 60) == 0
        assert not any(map(alive, farm.ledger.pids))
    before = farm.sidecars(job.id)
    farm.open_gate()

    async with dev_worker(temporal_program, folder, address):
        again = RenderClient(await connect(address=address)).job(job.id)
        status = await until_state(again, JobState.COMPLETED)

    said = (folder / "dev.log").read_text()
    assert said.count("ready: ") == 1, "it is ready once, when it serves all of its queues"
    assert status.completed_chunks == 4
    assert farm.sidecars(job.id).items() >= before.items()
    assert farm.ledger.started.count(0) == farm.ledger.started.count(1) == 1
