"""The project's Cloud Run app as a process on a real port."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import devserver
from ports import find_free_port

ROOT = Path(__file__).resolve().parents[2]


class CloudRunProcess:
    """A `python -m agent.cloud_run` that takes requests at `url`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
        self._process = process
        self._log = log
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def terminate(self) -> None:
        """Ask it to end, as Cloud Run does 10 s before it kills."""
        self._process.terminate()

    def kill(self) -> None:
        """End it as an instance that runs out of memory."""
        self._process.send_signal(signal.SIGKILL)

    async def wait(self, seconds: float = 30.0) -> int:
        return await asyncio.wait_for(self._process.wait(), seconds)


@asynccontextmanager
async def cloud_run_process(
    folder: Path, environ: Mapping[str, str], *, port: int | None = None
) -> AsyncIterator[CloudRunProcess]:
    """Run the app until the block ends; nothing but these variables is in its environment."""
    port = port or find_free_port()
    log = folder / f"cloud-run-{os.urandom(4).hex()}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *devserver.end_with_parent([sys.executable, "-m", "agent.cloud_run"]),
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}",
                "PYTHONDONTWRITEBYTECODE": "1",
                "TMPDIR": str(folder),
                "PORT": str(port),
                "LONGTAKE_LISTEN": "127.0.0.1",
                "K_SERVICE": "render",
                **environ,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        await _until_it_listens(process, port, log)
        yield CloudRunProcess(process, port, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _until_it_listens(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    async with asyncio.timeout(60):
        while True:
            assert process.returncode is None, f"the app has ended; see {log}"
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)
