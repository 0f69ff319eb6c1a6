"""Run a Temporal server for development, the demo and the tests; not for production."""

import argparse
import asyncio
import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, TextIO

import imageio_ffmpeg
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from longtake.names import SEARCH_ATTRIBUTES

# Offered here too: callers find the program before they start a server.
from longtake.temporal_program import TemporalNotFound as TemporalNotFound
from longtake.temporal_program import find_temporal as find_temporal
from longtake.temporal_program import read_version
from ports import LOOPBACK, choose_port, find_free_port, is_port_conflict

# Temporal's defaults: clients connect there unless an address is named.
DEFAULT_ADDRESS = f"{LOOPBACK}:7233"
DEFAULT_UI_PORT = 8233
DEFAULT_PAGE_PORT = 8080
# Search attributes by name, with the type that the server's command line takes.
ATTRIBUTE_TYPES = {key.name: key.indexed_value_type.name.title() for key in SEARCH_ATTRIBUTES}

# WAL without a sync per commit survives a killed process, and the one connection does not wait for the disk.
_PRAGMAS = ["journal_mode=wal", "synchronous=1"]
# The server sends cancels to workers only with both, and they are off by default.
_PUSH = ("frontend.WorkerCommandsEnabled", "system.enableCancelActivityWorkerCommand")
# One partition spares a hop on one node; the limits are sized for shared clusters and throttle a burst of chunks.
_DYNAMIC_CONFIG = [f"matching.numTaskqueue{way}Partitions=1" for way in ("Read", "Write")]
_DYNAMIC_CONFIG += [f"{service}.rps=20000" for service in ("frontend", "history", "matching")]
_DYNAMIC_CONFIG += ["frontend.namespaceRPS=20000"]
# The server's HTTP API takes a POST of text/plain, which any web page can send to a port of this host: one started a
# job that ran `sh -c id`. Longtake does not use that API, so it answers to a name that no DNS has (RFC 2606) alone.
_DYNAMIC_CONFIG += ['frontend.httpAllowedHosts=["longtake.invalid"]']
_START_SECONDS = 30.0
# The server chooses three more ports itself, and loses each to another process once in some thousand starts.
_STARTS = 5
# A killed parent cannot stop its server, so the kernel sends the signal (PR_SET_PDEATHSIG). Not by `preexec_fn`, which
# can deadlock beside the SDK's threads. The account is changed first, because the kernel drops the setting with it. The
# parent's pid is compared because a parent that died before `prctl` causes no signal.
_END_WITH_PARENT = (
    "import ctypes, os, sys; parent, number, uid, gid = map(int, sys.argv[1:5]); "
    "uid < 0 or (os.setgroups([]), os.setgid(gid), os.setuid(uid)); "
    "sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, number); "
    "os.getppid() == parent and os.execvp(sys.argv[5], sys.argv[5:])"
)


class DevServerError(Exception):
    """Raised when the development server does not start; says why, with the end of its log."""


class _PortConflictError(DevServerError):
    """Raised when the server ended because one of its ports was taken between choice and use."""


@dataclass
class DevServer:
    """A Temporal server that answers at `address`; the other fields are None where another process started it."""

    address: str
    pid: int | None = None
    process: asyncio.subprocess.Process | None = None
    ui: str | None = None

    async def stop(self, patience_seconds: float = 10.0) -> None:
        """Stop the server if this object started it, and wait until it has ended; safe to call twice.

        Args:
            patience_seconds: How long it may take before it is killed.
        """
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
    """Return the folder for what is built or kept: `LONGTAKE_CACHE`, else `.cache` in the checkout."""
    return Path(os.environ.get("LONGTAKE_CACHE") or Path(__file__).parent / ".cache").resolve()


def end_with_parent(
    command: Sequence[str], *, stop_signal: signal.Signals = signal.SIGTERM, uid: int = -1, gid: int = -1
) -> list[str]:
    """Wrap a command so that it gets a signal when this process is gone, however it ends; on Linux only.

    Start the command from the main thread: the kernel sends the signal when the *thread* that started it ends.

    Args:
        command: A program, looked for on PATH, and its arguments.
        stop_signal: The signal.
        uid: The account to run the program as; -1 is that of this process.
        gid: The group of that account.
    """
    return [sys.executable, "-ISc", _END_WITH_PARENT, *map(str, (os.getpid(), int(stop_signal), uid, gid)), *command]


async def is_temporal_running(address: str, namespace: str = "default") -> bool:
    """Tell whether a Temporal server with this namespace answers at an address within two seconds."""
    request, limit = DescribeNamespaceRequest(namespace=namespace), timedelta(seconds=2)
    try:
        client = await asyncio.wait_for(Client.connect(address), limit.total_seconds())
        await client.workflow_service.describe_namespace(request, timeout=limit)
    except (RuntimeError, RPCError, TimeoutError):
        return False
    return True


async def start_dev_server(
    program: Path,
    *,
    database: Path | None,
    address: str | None = None,
    ui_port: int | None,
    namespace: str = "default",
    search_attributes: Mapping[str, str] = ATTRIBUTE_TYPES,
    push_cancels: bool = True,
    log: Path | None = None,
    on_message: Callable[[str], None],
) -> DevServer:
    """Start a Temporal server and wait until it answers; return the running one where there is one.

    A default port that is taken is replaced, and a server that loses a port as it starts is started again.
    Call this from the main thread: on Linux the server gets SIGTERM when the *thread* that started it ends.

    Args:
        program: The program that `find_temporal` returned.
        database: SQLite file of the server's state, made if missing; a server that runs on it already is used. None
            keeps the state in memory.
        address: Address of the server (ip:port); None is `DEFAULT_ADDRESS`, or another port if that is taken.
        ui_port: Port of the UI; 0 is `DEFAULT_UI_PORT`, or another if that is taken; None is no UI.
        namespace: Namespace to create.
        search_attributes: Names and types of the search attributes to create.
        push_cancels: Send cancels to workers at once; without it, workers get them with the answer to a heartbeat, as
            from servers before 1.32.
        log: File for the server's log; `.cache/dev/temporal.log` by default.
        on_message: Called with one line for each event.

    Raises:
        PortTakenError: A port that was given is taken by another process.
        DevServerError: The server has ended, or does not answer after 30 s.
    """
    wanted = address or DEFAULT_ADDRESS
    if not re.fullmatch(r".+:\d+", wanted):
        raise DevServerError(f"--address {wanted} is no host:port, as in {DEFAULT_ADDRESS}.")
    log = log or cache_dir() / "dev" / "temporal.log"
    starts_left = _STARTS
    while True:
        if await is_temporal_running(wanted, namespace):
            return _use_running(wanted, on_message)
        with _open_lock(database) as lock:
            if lock and (running := await _lock_or_find_server(lock, namespace)):
                if address is not None:
                    raise DevServerError(f"The server at {running} uses {database}: name another --database.")
                return _use_running(running, on_message)
            ports = _choose_ports(wanted, ui_port, is_address_named=address is not None, on_message=on_message)
            command = _make_command(program, ports, database, namespace, search_attributes, push_cancels=push_cancels)
            try:
                server = await _start_server(command, ports, namespace, log, lock)
            except _PortConflictError:
                starts_left -= 1
                if not starts_left:
                    raise
                on_message(f"Another process took a port of the Temporal server: starting it again at {ports.address}.")
            else:
                on_message(f"Temporal server at {server.address}" + (f", UI at {server.ui}." if server.ui else "."))
                return server


@dataclass(frozen=True)
class _Ports:
    host: str
    frontend: int
    ui: int | None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.frontend}"


@asynccontextmanager
async def run_page(
    address: str, task_queue: str, *, port: int, ui: str | None, on_message: Callable[[str], None]
) -> AsyncIterator[None]:
    """Run `longtake web` beside a development server, where it is installed, until the block ends.

    Args:
        address: Address of the server.
        task_queue: Queue of the workers.
        port: Port of the page; 0 is `DEFAULT_PAGE_PORT`, or another if that is taken.
        ui: Address of the Temporal UI, for links to it.
        on_message: Called with one line for each event.

    Raises:
        PortTakenError: A port that was given is taken by another process.
    """
    if importlib.util.find_spec("fastapi") is None:
        on_message("The page of the farm is not installed: pip install -e '.[web]'.")
        yield
        return
    named_by = "--page-port" if port else None
    chosen = choose_port(port or DEFAULT_PAGE_PORT, "the page", named_by=named_by, on_message=on_message)
    command = [sys.executable, "-m", "longtake", "--address", address, "--task-queue", task_queue]
    command += ["web", "--port", f"{chosen}", *(("--ui", ui) if ui else ())]
    process = await asyncio.create_subprocess_exec(
        *end_with_parent(command), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    on_message(f"The page of the farm is at http://{LOOPBACK}:{chosen}.")
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def _use_running(address: str, on_message: Callable[[str], None]) -> DevServer:
    on_message(f"Using the Temporal server that runs at {address}.")
    return DevServer(address)


def _open_lock(database: Path | None) -> AbstractContextManager[TextIO | None]:
    """Open the lock file of a database, which a server keeps locked as long as it lives."""
    if database is None:
        return nullcontext()
    database.parent.mkdir(parents=True, exist_ok=True)
    return database.with_name(f"{database.name}.lock").open("a+")


async def _lock_or_find_server(lock: TextIO, namespace: str) -> str | None:
    """Lock a database; where a server has locked it, return that server's address once it answers.

    Raises:
        DevServerError: The server does not answer.
    """
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            address = lock.read()
            if address and await is_temporal_running(address, namespace):
                return address
            if time.monotonic() > deadline:
                raise DevServerError(
                    f"Another process holds {lock.name}, and no Temporal server answers at {address or 'any address'}: "
                    "end that process, or name another --database."
                ) from None
            await asyncio.sleep(0.05)
        else:
            return None


def _choose_ports(
    wanted: str, ui_port: int | None, *, is_address_named: bool, on_message: Callable[[str], None]
) -> _Ports:
    host, _, port = wanted.rpartition(":")
    frontend = choose_port(
        int(port),
        "the Temporal server",
        named_by="--address" if is_address_named else None,
        on_message=on_message,
        host=host,
    )
    if ui_port is None:
        return _Ports(host, frontend, None)
    named_by = "--ui-port" if ui_port else None
    ui = choose_port(ui_port or DEFAULT_UI_PORT, "the Temporal UI", named_by=named_by, on_message=on_message, host=host)
    return _Ports(host, frontend, ui)


def _make_command(
    program: Path,
    ports: _Ports,
    database: Path | None,
    namespace: str,
    search_attributes: Mapping[str, str],
    *,
    push_cancels: bool,
) -> list[str]:
    words = [str(program), "server", "start-dev", f"--ip={ports.host}", f"--port={ports.frontend}"]
    # Ports that the server picks itself are among those of outgoing connections, one of which takes it at times.
    words += [f"--{use}-port={find_free_port(ports.host)}" for use in ("http", "metrics")]
    words += ["--headless" if ports.ui is None else f"--ui-port={ports.ui}", "--log-level=warn"]
    words += [f"--namespace={namespace}", *(f"--dynamic-config-value={value}" for value in _DYNAMIC_CONFIG)]
    words += [f"--dynamic-config-value={name}={'true' if push_cancels else 'false'}" for name in _PUSH]
    words += [f"--search-attribute={name}={kind}" for name, kind in search_attributes.items()]
    if database is not None:
        words += [f"--db-filename={database}", *(f"--sqlite-pragma={pragma}" for pragma in _PRAGMAS)]
    return words


async def _start_server(
    command: Sequence[str], ports: _Ports, namespace: str, log: Path, lock: TextIO | None
) -> DevServer:
    """Start a server, which inherits the lock, and wait until it answers.

    Raises:
        DevServerError: The server has ended, or does not answer in time.
    """
    if lock is not None:
        lock.truncate(0)
        lock.write(ports.address)
        lock.flush()
    # Variables for a real cluster must not steer the development server.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    with _open_log(log) as out:
        # A session of its own: Ctrl-C goes to the worker, which needs the server while it shuts down.
        process = await asyncio.create_subprocess_exec(
            *end_with_parent(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            pass_fds=() if lock is None else (lock.fileno(),),
        )
    ui = f"http://{ports.host}:{ports.ui}" if ports.ui else None
    server = DevServer(ports.address, process.pid, process, ui)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while process.returncode is None and time.monotonic() < deadline:
            if await is_temporal_running(server.address, namespace):
                return server
            await asyncio.sleep(0.05)
    except BaseException:
        await server.stop()
        raise
    await server.stop()
    raise _make_error(server, log)


def _open_log(log: Path) -> BinaryIO:
    log.parent.mkdir(parents=True, exist_ok=True)
    # A new file: a server that still runs writes on into the old one.
    log.unlink(missing_ok=True)
    return log.open("wb")


def _make_error(server: DevServer, log: Path) -> DevServerError:
    printed = log.read_text(errors="replace")
    last = "\n".join(printed.splitlines()[-5:])
    kind = _PortConflictError if is_port_conflict(printed) else DevServerError
    return kind(f"No Temporal server came up at {server.address}; {log} ends:\n{last}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code, 1 where a program is missing."""
    parser = argparse.ArgumentParser(description="Longtake's development server, run by `worker.py --dev`.")
    parser.add_argument("--check", action="store_true", help="name the programs that Longtake needs")
    if not parser.parse_args(arguments).check:
        parser.print_help()
        return 0
    try:
        temporal = find_temporal(lambda line: print(f"  {line}", flush=True))
        ffmpeg = shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()
    except (TemporalNotFound, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Temporal: {temporal} ({read_version(temporal)})\nffmpeg:   {ffmpeg}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
