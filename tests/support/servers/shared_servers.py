"""The Temporal and the S3 server of a test session: each started once, on first use, for all pytest workers.

The process `SharedServers` starts holds the servers, because no other lives as long as the session in every case:
pytest workers are replaced when they crash, and a killed pytest stops nothing. This process reads its standard input,
which ends with pytest however pytest ends, and then stops what it started. It has a session of its own, so that Ctrl-C
reaches pytest alone.
"""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from support.s3.server import run_s3_server

import devserver
from ports import find_free_port

ROOT = Path(__file__).resolve().parents[3]

# A server that is built first takes minutes; a test may wait 180 s.
_ANSWER_SECONDS = 150.0
_STOP_SECONDS = 30.0
_SOCKET = "servers"

Answer = dict[str, Any]


class SharedServers:
    """The process that holds the servers of a test session, as pytest sees it.

    Attributes:
        folder: What the pytest workers of the session share; removed at its end.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="longtake-tests-"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.folder / _SOCKET))
            listener.listen()
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(self.folder), str(listener.fileno())],
                pass_fds=(listener.fileno(),),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "client", ROOT / "tests")))},
                stdin=subprocess.PIPE,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Stop the servers, and return when they are gone."""
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        finally:
            self._process.kill()


def ask(folder: Path, name: str) -> Answer:
    """Return the facts about a server, `temporal` or `s3`, when it answers; start it if need be."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(str(folder / _SOCKET))
        connection.sendall(f"{name}\n".encode())
        with connection.makefile() as lines:
            answer: Answer = json.loads(lines.readline() or '{"error": "the process that starts it has ended"}')
    assert "error" not in answer, f"There is no {name} server for the tests: {answer['error']}"
    return answer


class _Servers:
    """What was started, in the process that holds it."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._started: dict[str, asyncio.Task[Answer]] = {}
        self._starts: dict[str, Callable[[], Awaitable[Answer]]] = {"temporal": self._temporal, "s3": self._s3}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one caller."""
        name = (await reader.readline()).decode().strip()
        if name not in self._started:
            self._started[name] = asyncio.create_task(self._start(name))
        # A caller that hangs up leaves the server to the others.
        answer = await asyncio.shield(self._started[name])
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        writer.close()

    async def _start(self, name: str) -> Answer:
        try:
            return await self._starts[name]()
        except Exception as error:
            traceback.print_exc()
            return {"error": f"{error}"}

    async def _temporal(self) -> Answer:
        server = await devserver.start_dev_server(
            await asyncio.to_thread(devserver.find_temporal, lambda line: None),
            database=None,
            address=f"127.0.0.1:{find_free_port()}",
            ui_port=None,
            log=self._folder / "temporal.log",
            on_message=lambda line: None,
        )
        self._stack.push_async_callback(server.stop)
        return {"address": server.address}

    async def _s3(self) -> Answer:
        # Not in a thread: the server ends with the thread that starts it.
        server = self._stack.enter_context(run_s3_server(self._folder / "s3"))
        return {name: getattr(server, name) for name in ("url", "access_key", "secret_key", "pid")}


async def _serve(folder: Path, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    end = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(end), sys.stdin)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        servers = _Servers(stack, folder)
        await asyncio.start_unix_server(servers.answer, sock=listener)
        await end.read()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))))
