"""Workers and servers as processes of their own, to be killed."""

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from support.processes.forks import start_fork, until_fork_ends

from worker import main

ROOT = Path(__file__).resolve().parents[3]


class WorkerProcess:
    """A worker in a process of its own; ends with the test, however that ends."""

    def __init__(self, process: asyncio.subprocess.Process | BaseProcess, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, or minus the number of a signal; None while it runs."""
        return self._process.exitcode if isinstance(self._process, BaseProcess) else self._process.returncode

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.exit_code is None:
            self._process.kill()

    def terminate(self) -> None:
        """Ask it to end, as an operator or a container runtime does."""
        self._process.terminate()

    async def wait(self) -> int:
        if isinstance(self._process, BaseProcess):
            return await until_fork_ends(self._process, 60)
        return await asyncio.wait_for(self._process.wait(), 60)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")


def worker_process(
    address: str, task_queue: str, store: Path, *, slots: int = 2, **environment: str
) -> AbstractAsyncContextManager[WorkerProcess]:
    """Run a worker in a fork of a process that has imported it, until the block ends; it is ready to work.

    Args:
        address: The Temporal server.
        task_queue: The queue that it serves.
        store: The folder that it may write.
        slots: How many chunks it renders at once.
        environment: More variables of its environment.
    """
    return _run_worker(address, task_queue, store, slots, environment, forked=True)


def worker_program(
    address: str, task_queue: str, store: Path, *, slots: int = 2, through: Sequence[str] = (), **environment: str
) -> AbstractAsyncContextManager[WorkerProcess]:
    """Run `python worker.py` in the same way, for what depends on its start: its memory, and what `/proc` shows.

    Args:
        address: The Temporal server.
        task_queue: The queue that it serves.
        store: The folder that it may write.
        slots: How many chunks it renders at once.
        through: A command that becomes the program behind it, such as `own_mount`.
        environment: More variables of its environment.
    """
    return _run_worker(address, task_queue, store, slots, environment, forked=False, through=through)


@asynccontextmanager
async def _run_worker(
    address: str,
    task_queue: str,
    store: Path,
    slots: int,
    environment: Mapping[str, str],
    *,
    forked: bool,
    through: Sequence[str] = (),
) -> AsyncIterator[WorkerProcess]:
    log = store.parent / f"worker-{os.urandom(4).hex()}.log"
    arguments = [str(ROOT / "worker.py"), "--address", address, "--slots", str(slots)]
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")},
        "LONGTAKE_ROOTS": str(store),
        "LONGTAKE_ALLOWED_COMMANDS": f"{sys.executable}:ffmpeg:sh",
        "LONGTAKE_TASK_QUEUE": task_queue,
        **environment,
    }
    log.touch()
    process: asyncio.subprocess.Process | BaseProcess
    if forked:
        process = await start_fork(main, arguments, variables, log, log)
    else:
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(*through, sys.executable, *arguments),
                env=variables,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
    worker = WorkerProcess(process, log)
    try:
        async with asyncio.timeout(60):
            while "ready:" not in worker.log:
                assert worker.exit_code is None, worker.log
                await asyncio.sleep(0.02)
        yield worker
    finally:
        worker.kill()
        await worker.wait()


def own_mount(*mount: str) -> list[str]:
    """Return a command that becomes the program behind it, which sees a file system that nobody else sees.

    Args:
        mount: Arguments of `mount`.
    """
    # Who is not root becomes it in a namespace of users.
    unshare = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]
    script = f'mount {shlex.join(mount)} && exec "$@"'
    return [*unshare, "sh", "-c", script, "sh"]
