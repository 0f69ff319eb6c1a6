"""One execution environment of a function: a real process of AWS's runtime client, and the Runtime API it polls."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
from support.processes.forks import start_fork, until_fork_ends
from support.servers.http_server import Connection, HttpServer, Request

ROOT = Path(__file__).resolve().parents[3]

# AWS: 6 MB each way for synchronous invocations; the number is the one in its error message.
LARGEST_BYTES = 6_291_556

# AWS gives 10 s; a busy test machine needs more to import a handler.
_INIT_SECONDS = 60.0


class Moment:
    """When something happened, to be waited for."""

    def __init__(self) -> None:
        self.at: float | None = None
        self._happened = asyncio.Event()

    def __bool__(self) -> bool:
        return self.at is not None

    def now(self) -> None:
        """It happens now; only the first time counts."""
        if self.at is None:
            self.at = time.monotonic()
            self._happened.set()

    async def wait(self, seconds: float = 30.0) -> float:
        """Return when it happened, by the monotonic clock; fail after a bounded time."""
        await asyncio.wait_for(self._happened.wait(), seconds)
        assert self.at is not None
        return self.at


@dataclass(eq=False)
class Invocation:
    """One execution of a function, and when what happened to it."""

    id: str
    function: str
    payload: Any
    arrived: Moment = field(default_factory=Moment)
    # The runtime has the event; from here on the caller pays.
    begun: Moment = field(default_factory=Moment)
    # The caller's connection was seen closed before it was answered.
    caller_gone: Moment = field(default_factory=Moment)
    ended: Moment = field(default_factory=Moment)
    answer: Any = None
    error: str | None = None

    @property
    def billed_seconds(self) -> float:
        """From its beginning to its end, or to now."""
        if self.begun.at is None:
            return 0.0
        return (self.ended.at or time.monotonic()) - self.begun.at


@dataclass(frozen=True)
class Outcome:
    """What an invocation came to: the payload, and whether it is a function error."""

    payload: bytes
    is_error: bool = False


def function_error(kind: str, message: str) -> Outcome:
    return Outcome(json.dumps({"errorType": kind, "errorMessage": message}).encode(), is_error=True)


class Environment:
    """Runs one invocation at a time; dies with the first one that times out or crashes."""

    def __init__(
        self,
        name: str,
        handler: str,
        arn: str,
        timeout: float,
        memory_mb: int,
        folder: Path,
        deadline_error_seconds: float = 0.0,
    ) -> None:
        self._name, self._handler, self._arn, self._timeout, self._memory_mb = name, handler, arn, timeout, memory_mb
        self._told_timeout = timeout + deadline_error_seconds
        self._folder = folder
        self._inbox: asyncio.Queue[Invocation] = asyncio.Queue()
        self._result: asyncio.Future[Outcome] | None = None
        self._serving: Invocation | None = None
        self._api = HttpServer(self._runtime_api)
        self._process: BaseProcess | None = None
        self.is_usable = True

    @property
    def pid(self) -> int:
        """The process of the runtime."""
        assert self._process is not None, "not started"
        assert self._process.pid is not None
        return self._process.pid

    @property
    def address(self) -> str:
        """Where its runtime asks for work."""
        return self._api.address

    @property
    def is_started(self) -> bool:
        return self._process is not None

    async def start(self, env: Mapping[str, str]) -> None:
        """Start the runtime with nothing in its environment but what Lambda puts there, and `env`."""
        self._folder.mkdir(parents=True)
        await self._api.start()
        variables = {
            "PATH": os.environ["PATH"],
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "TMPDIR": str(self._folder),
            "AWS_LAMBDA_RUNTIME_API": self.address,
            "AWS_LAMBDA_FUNCTION_NAME": self._name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self._memory_mb),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info[0]}.{sys.version_info[1]}",
            "_HANDLER": self._handler,
            "LAMBDA_TASK_ROOT": str(ROOT),
            **env,
        }
        log = self._folder / "log"
        self._process = await start_fork(_run_runtime, ["awslambdaric", self._handler], variables, log, log)

    async def run(self, invocation: Invocation) -> Outcome:
        """Return what the function answers, or what Lambda says of its end."""
        assert self._process is not None, "not started"
        self._result = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait(invocation)
        exit_code = asyncio.ensure_future(until_fork_ends(self._process, None))
        try:
            begun = asyncio.ensure_future(invocation.begun.wait(2 * _INIT_SECONDS))
            first: set[asyncio.Future[Any]] = {begun, exit_code, self._result}
            await asyncio.wait(first, timeout=_INIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            begun.cancel()
            if invocation.begun:
                ends: set[asyncio.Future[Any]] = {exit_code, self._result}
                await asyncio.wait(ends, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if self._result.done():
                return self._result.result()
            self.is_usable = False
            if exit_code.done():
                return function_error(
                    "Runtime.ExitError", f"RequestId: {invocation.id} Error: {_end(exit_code.result())}"
                )
            when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
            said = f"{when} {invocation.id} Task timed out after {self._timeout:.2f} seconds"
            return Outcome(json.dumps({"errorMessage": said}).encode(), is_error=True)
        finally:
            exit_code.cancel()
            if not self.is_usable:
                await self.close()

    async def close(self) -> None:
        """End everything in it, as when Lambda takes a sandbox down."""
        self.is_usable = False
        if self._process is None:
            return
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        await until_fork_ends(self._process, 30)
        await self._api.close()

    def processes(self) -> list[psutil.Process]:
        """Everything that runs in it: the runtime's descendants, and what inherited its environment."""
        mark, found = self.address, {}
        with suppress(psutil.Error):
            runtime = psutil.Process(self.pid)
            found = {process.pid: process for process in [runtime, *runtime.children(recursive=True)]}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("AWS_LAMBDA_RUNTIME_API") == mark:
                    found[process.pid] = process
        return list(found.values())

    @property
    def log(self) -> str:
        """What the function printed."""
        return (self._folder / "log").read_text(errors="replace")

    async def _runtime_api(self, connection: Connection, request: Request) -> None:
        match request.method, request.target.removeprefix("/2018-06-01/runtime/").split("/"):
            case "GET", ["invocation", "next"]:
                await self._next(connection)
            case "POST", ["invocation", id_, "response"] if self._serves(id_):
                if len(request.body) > LARGEST_BYTES:
                    self.is_usable = False
                    said = f"Response payload size exceeded maximum allowed payload size ({LARGEST_BYTES} bytes)."
                    self._finish(function_error("Function.ResponseSizeTooLarge", said))
                    await connection.respond_json(413, {"errorMessage": said, "errorType": "RequestEntityTooLarge"})
                else:
                    self._finish(Outcome(request.body))
                    await connection.respond_json(202, {"status": "OK"})
            case "POST", ["invocation", id_, "error"] if self._serves(id_):
                self._finish(Outcome(request.body, is_error=True))
                await connection.respond_json(202, {"status": "OK"})
            case "POST", ["init", "error"]:
                self.is_usable = False
                self._finish(Outcome(request.body, is_error=True))
                await connection.respond_json(202, {"status": "OK"})
            case _:
                said = f"Invalid request ID or path: {request.method} {request.target}"
                await connection.respond_json(400, {"errorMessage": said, "errorType": "InvalidRequestID"})

    async def _next(self, connection: Connection) -> None:
        invocation = self._serving = await self._inbox.get()
        invocation.begun.now()
        await connection.respond_json(
            200,
            invocation.payload,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.id,
                "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self._told_timeout) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": self._arn,
                "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{invocation.id.replace('-', '')[:24]}",
            },
        )

    def _serves(self, id_: str) -> bool:
        return self._serving is not None and self._serving.id == id_

    def _finish(self, outcome: Outcome) -> None:
        self._serving = None
        if self._result is not None and not self._result.done():
            self._result.set_result(outcome)


def _end(code: int) -> str:
    """Return how a runtime ended, in Lambda's words."""
    if code == 0:
        return "Runtime exited without providing a reason"
    if code > 0:
        return f"Runtime exited with error: exit status {code}"
    return f"Runtime exited with error: signal: {(signal.strsignal(-code) or str(-code)).lower()}"


def _run_runtime() -> int:
    # Reads the address of the Runtime API when it is imported.
    from awslambdaric.__main__ import main  # noqa: PLC0415

    main(sys.argv)
    return 0
