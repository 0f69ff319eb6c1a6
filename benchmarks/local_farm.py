"""A farm of one host to be measured: a dev server with its database on disk, and one worker, `python worker.py`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from support.processes.process_table import descendants
from support.processes.workers import worker_program

import devserver
from longtake import RenderClient
from longtake.connection import connect
from ports import find_free_port

_QUEUE = "bench"


@dataclass(frozen=True)
class LocalFarm:
    """A farm that runs; `run_farm` makes it."""

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
        assert server.pid is not None
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
            client = await connect(address=server.address)
            yield LocalFarm(
                RenderClient(client, task_queue=_QUEUE),
                server.address,
                folder / "temporal.db",
                server.pid,
                process.pid,
            )


def _say_nothing(_: str) -> None:
    """Take messages of a server that starts."""
