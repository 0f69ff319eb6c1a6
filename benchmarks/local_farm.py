"""A farm of one host to be measured: a dev server with its database on disk, and one worker, `python worker.py`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from sessions import run_session
from support.processes.process_table import descendants
from support.processes.workers import worker_program
from temporalio.client import Client

import devserver
from longtake import RenderClient
from longtake.connection import connect
from ports import find_free_port

_QUEUE = "bench"


@dataclass(frozen=True)
class LocalFarm:
    """A farm that runs; `run_farm` makes it."""

    client: Client
    render: RenderClient
    address: str
    database: Path
    server_pid: int
    worker_pid: int

    @property
    def database_bytes(self) -> int:
        """Size of the server's database, with what is not yet moved out of its log."""
        return sum(path.stat().st_size for path in self.database.parent.glob(f"{self.database.name}*"))

    @property
    def worker_bytes(self) -> int:
        """Memory of the worker process itself."""
        return int(psutil.Process(self.worker_pid).memory_info().rss)

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the server and the worker, with all that they have started, as far as it has ended or lives."""
        seconds = 0.0
        for pid in (self.server_pid, *self.list_own()):
            # A keeper that ends meanwhile is counted with its supervisor.
            with suppress(psutil.NoSuchProcess):
                seconds += sum(psutil.Process(pid).cpu_times()[:4])
        return seconds

    def list_own(self) -> list[int]:
        """List the processes of Longtake: the worker, its supervisor and keepers; no renderer."""
        found = [seen.pid for seen in descendants(self.worker_pid) if seen.name.startswith("longtake")]
        return [self.worker_pid, *found]


@asynccontextmanager
async def run_server(folder: Path) -> AsyncIterator[devserver.DevServer]:
    """Run a dev server, as `worker.py --dev` does, until the block ends."""
    server = await devserver.start_dev_server(
        devserver.find_temporal(_say_nothing),
        database=folder / "temporal.db",
        address=f"127.0.0.1:{find_free_port()}",
        ui_port=None,
        log=folder / "temporal.log",
        on_message=_say_nothing,
    )
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def run_farm(folder: Path, store: Path, *, slots: int, commands: tuple[str, ...]) -> AsyncIterator[LocalFarm]:
    """Run a server and a worker until the block ends; the worker is ready.

    Args:
        folder: Place of the server's database and of logs.
        store: The folder that the worker may write.
        slots: How many chunks it renders at once.
        commands: Programs that jobs may run.
    """
    async with run_server(folder) as server:
        # It ends with this process, however that ends.
        worker = worker_program(
            server.address,
            _QUEUE,
            store,
            slots=slots,
            through=devserver.end_with_parent([]),
            LONGTAKE_ALLOWED_COMMANDS=":".join((sys.executable, *commands)),
        )
        async with worker as process:
            yield await _connect(folder, server, process.pid)


@asynccontextmanager
async def run_free_farm(folder: Path, store: Path, *, slots: int, chunk_seconds: float) -> AsyncIterator[LocalFarm]:
    """Run a server and a worker whose chunks cost nothing until the block ends; see `free_worker.py`.

    Args:
        folder: Place of the server's database and of logs.
        store: The folder that the worker may write.
        slots: How many spans it takes at once.
        chunk_seconds: What each chunk says that it took.
    """
    program = (sys.executable, Path(__file__).with_name("free_worker.py"))
    async with run_server(folder) as server:
        words = (*program, server.address, _QUEUE, store, str(slots), str(chunk_seconds))
        async with run_session(words, log=folder / "worker.log") as session:
            await session.wait_until_ready()
            yield await _connect(folder, server, session.pid)


async def _connect(folder: Path, server: devserver.DevServer, worker_pid: int) -> LocalFarm:
    assert server.pid is not None
    client = await connect(address=server.address)
    render = RenderClient(client, task_queue=_QUEUE)
    return LocalFarm(client, render, server.address, folder / "temporal.db", server.pid, worker_pid)


def _say_nothing(_: str) -> None:
    """Take messages of a server that starts."""
