"""Workers and servers as processes of their own, to be killed."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


class WorkerProcess:
    """A `python worker.py`; ends with the test, however that ends."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end, as an operator or a container runtime does."""
        self._process.terminate()

    async def wait(self) -> int:
        return await asyncio.wait_for(self._process.wait(), 60)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")


@asynccontextmanager
async def worker_process(
    address: str, task_queue: str, store: Path, *, slots: int = 2, through: Sequence[str] = (), **environment: str
) -> AsyncIterator[WorkerProcess]:
    """Run a worker that is ready to work; `through` is a command that becomes the worker, given as its arguments."""
    log = store.parent / f"worker-{os.urandom(4).hex()}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *through,
            *(sys.executable, str(ROOT / "worker.py"), "--address", address, "--slots", str(slots)),
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")},
                "LONGTAKE_ROOTS": str(store),
                "LONGTAKE_ALLOWED_COMMANDS": f"{sys.executable}:ffmpeg:sh",
                "LONGTAKE_TASK_QUEUE": task_queue,
                **environment,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        async with asyncio.timeout(60):
            while "ready:" not in log.read_text(errors="replace"):
                assert process.returncode is None, log.read_text(errors="replace")
                await asyncio.sleep(0.02)
        yield WorkerProcess(process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def own_mount(*mount: str) -> list[str]:
    """Return a command that becomes the program behind it, which sees a file system that nobody else sees.

    Args:
        mount: Arguments of `mount`.
    """
    # Who is not root becomes it in a namespace of users.
    unshare = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]
    script = f'mount {shlex.join(mount)} && exec "$@"'
    return [*unshare, "sh", "-c", script, "sh"]
