"""Both ways to an agent: AWS's own runtime client with our handler in it, and the app on a real port."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.remote.agent_jobs import signed
from support.remote.lambda_service import Function, aws_environment, lambda_service
from support.s3.server import S3Server

import devserver
from activities.errors import AttemptError
from activities.remote.aws_lambda import LambdaFunction
from activities.remote.cloud_run import CloudRunService
from activities.remote.protocol import RemoteOrder, RemoteResult
from activities.remote.service import CallLostError, Service, ServiceAnswer
from ports import find_free_port

ROOT = Path(__file__).resolve().parents[3]


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


HANDLER = "agent.lambda_handler.handler"


@dataclass
class Edge:
    """A deployed agent, called as workers call it."""

    name: str
    service: Service
    function: Function | None = None
    app: CloudRunProcess | None = None

    def call(self, order: RemoteOrder) -> "asyncio.Task[ServiceAnswer]":
        return asyncio.ensure_future(self.service.call(signed(order)))

    async def render(self, order: RemoteOrder) -> RemoteResult:
        return self.result(await asyncio.wait_for(self.call(order), 90))

    def result(self, answer: ServiceAnswer) -> RemoteResult:
        return self.service.parse_result(answer)

    @property
    def log(self) -> str:
        """What the agent printed."""
        if self.app is not None:
            return self.app.log
        assert self.function is not None
        return self.function.log


@asynccontextmanager
async def cloud_run_edge(
    folder: Path, environ: Mapping[str, str], s3_server: S3Server | None = None
) -> AsyncIterator[Edge]:
    """Run the app; with what it takes to use the bucket store, where there is one."""
    async with cloud_run_process(folder, {**(s3_server.environment if s3_server else {}), **environ}) as app:
        yield Edge("cloud run", CloudRunService(app.url, concurrency=16), app=app)


@asynccontextmanager
async def lambda_edge(
    folder: Path, environ: Mapping[str, str], s3_server: S3Server | None = None, *, timeout: float = 120.0
) -> AsyncIterator[Edge]:
    """Deploy the handler as a function."""
    # AWS's variables are one set for all of its services.
    access_key, secret_key = (
        (s3_server.access_key, s3_server.secret_key) if s3_server else ("AKIDEXAMPLE", "a-secret-of-the-tests")
    )
    async with lambda_service(folder, access_key=access_key, secret_key=secret_key) as service:
        env = {**({"AWS_ENDPOINT_URL_S3": s3_server.url} if s3_server else {}), **environ}
        function = service.add_function("render", HANDLER, timeout=timeout, env=env)
        with aws_environment(**service.environ):
            yield Edge("lambda", LambdaFunction("render", concurrency=16), function=function)


EDGES: dict[str, Callable[..., AbstractAsyncContextManager[Edge]]] = {
    "cloud run": cloud_run_edge,
    "lambda": lambda_edge,
}


async def refused(edge: Edge, payload: dict[str, Any]) -> str:
    """Return why a request was refused; the worker must understand that it was."""
    try:
        answer = await edge.service.call(payload)
    except CallLostError as error:
        return str(error) if "409" in str(error) else f"lost: {error}"
    with pytest.raises(AttemptError) as caught:
        edge.service.parse_result(answer)
    assert caught.value.fatal
    assert "refused the order" in str(caught.value)
    return str(caught.value)
