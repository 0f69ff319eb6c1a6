"""Workers and a Temporal server that are killed and replaced while jobs run."""

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from support.farm import PATIENCE_SECONDS
from support.processes.process_table import Seen, carrying, children, descendants, still_there, words
from support.processes.workers import WorkerProcess, worker_process
from support.servers.temporal import RestartableServer

WORKERS = 2
SLOTS = 3

# Promised: nothing of a killed worker is left after this.
GONE_SECONDS = 1.0
# What the promise takes where other tests run beside.
GONE_SECONDS_UNDER_LOAD = 10.0


class KilledFarm:
    """Some workers and their server; each method is one disaster and what is done about it."""

    def __init__(
        self, server: RestartableServer, task_queue: str, store: Path, random: Random, gone_seconds: float
    ) -> None:
        self._server = server
        self._gone_seconds = gone_seconds
        self._queue = task_queue
        self._store = store
        self._random = random
        self._stack = AsyncExitStack()
        self._workers: list[WorkerProcess] = []
        # How long processes outlived their killed worker.
        self.outlived_seconds: list[float] = []
        # Who was still there after the promised time.
        self.late: list[str] = []

    async def __aenter__(self) -> Self:
        await self._server.start()
        self._stack.push_async_callback(self._server.stop)
        for _ in range(WORKERS):
            self._workers.append(await self._hire())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def kill(self, victim: str) -> None:
        """Kill -9 one of `worker`, `supervisor`, `both`, `server`; replace what does not come back by itself."""
        place = self._random.randrange(WORKERS)
        if victim == "server":
            await self._server.kill()
            await asyncio.sleep(self._random.uniform(0, 2))
            await self._server.start()
            return
        worker = self._workers[place]
        processes = descendants(worker.pid)
        if victim in ("supervisor", "both"):
            for supervisor in supervisors(worker.pid):
                os.kill(supervisor.pid, signal.SIGKILL)
        if victim in ("worker", "both"):
            await self._lose(worker, processes)
            self._workers[place] = await self._hire()

    async def _lose(self, worker: WorkerProcess, processes: list[Seen]) -> None:
        mark = mark_of(processes)

        def left() -> list[Seen]:
            # The mark also finds what was started since the look.
            return [*filter(still_there, processes), *(carrying(mark) if mark else ())]

        worker.kill()
        began = time.monotonic()
        late: list[str] = []
        while found := left():
            seconds = time.monotonic() - began
            if seconds > self._gone_seconds and not late:
                late = [f"{seen} {words(seen.pid)[:120]!r}" for seen in found]
            assert seconds < PATIENCE_SECONDS, late
            await asyncio.sleep(0.005)
        self.outlived_seconds.append(time.monotonic() - began)
        self.late += late
        await worker.wait()

    async def _hire(self) -> WorkerProcess:
        return await self._stack.enter_async_context(
            worker_process(self._server.address, self._queue, self._store, slots=SLOTS)
        )


def supervisors(worker: int) -> list[Seen]:
    """Return the supervisor of a worker, when it has one."""
    return [seen for seen in children(worker).values() if b"supervisor" in words(seen.pid)]


def mark_of(processes: list[Seen]) -> str:
    """Return what all renders of a worker carry in their environment, when there is a render."""
    for seen in processes:
        for word in words(seen.pid).split(b"\0"):
            if word.startswith(b"LONGTAKE_WORKER="):
                return word.decode()
    return ""
