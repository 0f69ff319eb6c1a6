"""Both ways to an agent: AWS's own runtime client with our handler in it, and the app on a real port."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from support.processes.forks import start_fork, until_fork_ends
from support.remote.agent_jobs import signed
from support.remote.lambda_service import Function, aws_environment, lambda_service
from support.s3.server import S3Server

from activities.errors import AttemptError
from activities.remote.aws_lambda import LambdaFunction
from activities.remote.cloud_run import CloudRunService
from activities.remote.protocol import RemoteOrder, RemoteResult
from activities.remote.service import CallLostError, Service, ServiceAnswer
from agent.cloud_run import main
from ports import find_free_port


class CloudRunProcess:
    """The Cloud Run app in a process of its own, which takes requests at `url`."""

    def __init__(self, process: BaseProcess, port: int, log: Path) -> None:
        self._process = process
        self._log = log
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def terminate(self) -> None:
        """Ask it to end, as Cloud Run does 10 s before it kills."""
        self._process.terminate()

    def kill(self) -> None:
        """End it as an instance that runs out of memory."""
        self._process.kill()

    async def wait(self, seconds: float = 30.0) -> int:
        return await until_fork_ends(self._process, seconds)


@asynccontextmanager
async def cloud_run_process(
    folder: Path, environ: Mapping[str, str], *, port: int | None = None
) -> AsyncIterator[CloudRunProcess]:
    """Run the app until the block ends, as `python -m agent.cloud_run` does; its environment has these variables."""
    port = port or find_free_port()
    log = folder / f"cloud-run-{os.urandom(4).hex()}.log"
    variables = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(folder),
        "PORT": str(port),
        "LONGTAKE_LISTEN": "127.0.0.1",
        "K_SERVICE": "render",
        **environ,
    }
    log.touch()
    process = await start_fork(main, ["agent.cloud_run"], variables, log, log)
    try:
        await _until_it_listens(process, port, log)
        yield CloudRunProcess(process, port, log)
    finally:
        process.kill()
        await until_fork_ends(process, 30)


async def _until_it_listens(process: BaseProcess, port: int, log: Path) -> None:
    async with asyncio.timeout(60):
        while True:
            assert process.exitcode is None, f"the app has ended; see {log}"
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
