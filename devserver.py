"""Finds a Temporal server program and runs it for development, the demo and the tests; not for production."""

import argparse
import asyncio
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import imageio_ffmpeg
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from gobuild import GoBuildError, go_install
from longtake.names import SEARCH_ATTRIBUTES

# The last release that `go install` can build: later ones have a `replace` line in their go.mod.
GO_PACKAGE = "github.com/temporalio/cli/cmd/temporal@v1.5.1"
ATTRIBUTE_TYPES = {key.name: key.indexed_value_type.name.title() for key in SEARCH_ATTRIBUTES}

# WAL without a sync per commit survives a killed process and spares the one connection the disk.
_PRAGMAS = ["journal_mode=wal", "synchronous=1"]
# One partition spares a hop on one node; the limits are sized for shared clusters and throttle a burst of chunks.
_DYNAMIC_CONFIG = ["frontend.WorkerHeartbeatsEnabled=true"]
_DYNAMIC_CONFIG += [f"matching.numTaskqueue{way}Partitions=1" for way in ("Read", "Write")]
_DYNAMIC_CONFIG += [f"{service}.rps=20000" for service in ("frontend", "history", "matching")]
_DYNAMIC_CONFIG += ["frontend.namespaceRPS=20000"]
_START_SECONDS = 30.0
# A killed parent cannot stop its server, so the kernel does. Not by `preexec_fn`, which can deadlock beside the
# SDK's threads. The parent is compared because one that died before this line sends no signal any more.
_DIE_WITH_PARENT = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "os.getppid() == int(sys.argv[1]) and os.execv(sys.argv[2], sys.argv[2:])"
)


class TemporalNotFound(Exception):
    """No Temporal server program is here and none could be had; says what to install."""


class DevServerError(Exception):
    """The development server did not start; says why, with the end of its log."""


@dataclass
class DevServer:
    """A Temporal server that answers at `address`; `pid` is None where somebody else runs it."""

    address: str
    pid: int | None = None
    process: asyncio.subprocess.Process | None = None

    async def stop(self, patience_seconds: float = 10.0) -> None:
        """Stops the server if this object started it, and returns when it is gone; safe to call twice."""
        if self.process is None or self.process.returncode is not None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            await asyncio.wait_for(self.process.wait(), patience_seconds)
        except TimeoutError:
            pass
        finally:
            if self.process.returncode is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                await self.process.wait()


def cache_dir() -> Path:
    """Returns the folder for what is built or downloaded: `LONGTAKE_CACHE`, else `.cache` in the checkout."""
    return Path(os.environ.get("LONGTAKE_CACHE") or Path(__file__).parent / ".cache").resolve()


def free_port() -> int:
    """Returns a TCP port of the loopback interface that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def version_of(program: Path) -> str | None:
    """Returns what `program --version` says, or None if it does not run."""
    try:
        done = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode().strip() if done.returncode == 0 else None


def find_temporal(say: Callable[[str], None]) -> Path:
    """Returns a Temporal server program that runs; gets it into the cache, in up to 5 minutes, if need be.

    Tries PATH, the cache, the SDK's download and `go install`, with one line to `say` for each miss. Callers at
    the same time share one download or build. Raises `TemporalNotFound` where every place was a miss.
    """
    on_path = shutil.which("temporal")
    if on_path and version_of(Path(on_path)):
        return Path(on_path)
    say(f"{on_path} does not run: passed over." if on_path else "temporal is not on PATH.")
    cached = cache_dir() / "bin" / "temporal"
    cached.parent.mkdir(parents=True, exist_ok=True)
    with (cached.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if version_of(cached):
            return cached
        say("No Temporal server in the project's cache: asking for the SDK's download, up to a minute.")
        for get in (_download, _build):
            with tempfile.TemporaryDirectory(prefix=".get-", dir=cached.parent) as folder:
                if got := get(Path(folder), say):
                    # Renamed into place, so that nobody ever runs half a program.
                    return got.replace(cached)
    raise TemporalNotFound("Install the Temporal CLI (the command `temporal`), or Go so that it can be built here.")


def _download(folder: Path, say: Callable[[str], None]) -> Path | None:
    async def start_once() -> None:
        await (await WorkflowEnvironment.start_local(download_dest_dir=str(folder))).shutdown()

    try:
        # A thread of its own, so that a caller inside an event loop can ask too.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, asyncio.wait_for(start_once(), timeout=300)).result()
    except (RuntimeError, TimeoutError):
        say("The SDK's download of the Temporal server cannot be had.")
        return None
    return next(path for path in folder.iterdir() if os.access(path, os.X_OK))


def _build(folder: Path, say: Callable[[str], None]) -> Path | None:
    if shutil.which("go") is None:
        say("go is not on PATH.")
        return None
    say("Building the Temporal server with Go: 3 to 5 minutes, once.")
    try:
        return go_install(GO_PACKAGE, folder)
    except GoBuildError as error:
        say(str(error))
        return None


def ending_with_parent(command: Sequence[str]) -> list[str]:
    """Returns the command so that it gets SIGTERM when this process is gone, however it ends; on Linux only."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid()), *command]


async def start_dev_server(
    program: Path,
    *,
    database: Path | None,
    address: str = "127.0.0.1:7233",
    ui_port: int | None,
    namespace: str = "default",
    search_attributes: Mapping[str, str] = ATTRIBUTE_TYPES,
    log: Path | None = None,
    say: Callable[[str], None],
) -> DevServer:
    """Returns a Temporal server that answers at `address` (ip:port): the one that runs there, or a new one.

    Call it from the main thread: on Linux the server gets SIGTERM when the *thread* that started it ends. State
    is in memory where `database`, an SQLite file made if missing, is None; there is no UI where `ui_port` is
    None. The log is `.cache/dev/temporal.log` unless told. Raises `DevServerError` if no server answers in 30 s.
    """
    if await _answers(address, namespace):
        say(f"Using the Temporal server that runs at {address}.")
        return DevServer(address)
    host, _, port = address.rpartition(":")
    command = [str(program), "server", "start-dev", f"--ip={host}", f"--port={port}", f"--namespace={namespace}"]
    command += ["--log-level=warn", "--headless" if ui_port is None else f"--ui-port={ui_port}"]
    command += [f"--dynamic-config-value={value}" for value in _DYNAMIC_CONFIG]
    command += [f"--search-attribute={name}={kind}" for name, kind in search_attributes.items()]
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
        command += [f"--db-filename={database}", *(f"--sqlite-pragma={pragma}" for pragma in _PRAGMAS)]
    command = ending_with_parent(command)
    log = log or cache_dir() / "dev" / "temporal.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # A new file: a server that still runs keeps the old one.
    log.unlink(missing_ok=True)
    # A profile for a real cluster must not steer the development server.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    with log.open("wb") as out:
        # A session of its own: Ctrl-C goes to the worker, which needs the server while it shuts down.
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    server = DevServer(address, process.pid, process)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not await _answers(address, namespace):
            if process.returncode is not None or time.monotonic() > deadline:
                end = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
                raise DevServerError(f"No Temporal server came up at {address}; {log} ends:\n{end}")
            await asyncio.sleep(0.05)
    except BaseException:
        await server.stop()
        raise
    say(f"Temporal server at {address}" + (f", UI at http://{host}:{ui_port}." if ui_port else "."))
    return server


async def _answers(address: str, namespace: str) -> bool:
    request, limit = DescribeNamespaceRequest(namespace=namespace), timedelta(seconds=2)
    try:
        client = await asyncio.wait_for(Client.connect(address), limit.total_seconds())
        await client.workflow_service.describe_namespace(request, timeout=limit)
    except (RuntimeError, RPCError, TimeoutError):
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code: 1 where a program is missing."""
    parser = argparse.ArgumentParser(description="Longtake's development server, run by `worker.py --dev`.")
    parser.add_argument("--install", action="store_true", help="get the programs Longtake needs, and name them")
    if not parser.parse_args(arguments).install:
        parser.print_help()
        return 0
    try:
        temporal = find_temporal(lambda line: print(f"  {line}", flush=True))
        ffmpeg = shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()
    except (TemporalNotFound, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Temporal: {temporal} ({version_of(temporal)})\nffmpeg:   {ffmpeg}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
