"""Programs of the checkout in forks of a process that has imported them already: 1 to 2 s of CPU time less for each."""

import asyncio
import multiprocessing
import os
import runpy
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from activities.processes.linux_table import process_table

# For what processes of a test file share: `FORKS.Barrier`, `FORKS.Queue`. `make_fork` makes the processes.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    # Named from the checkout, which is all that the process they are forked from finds.
    ["longtake.cli.app", "worker", "agent.cloud_run", "agent.lambda_handler", "tests.support.s3.read_ahead"]
)
_LOCK = threading.Lock()


async def start_fork(
    main: Callable[[], int], arguments: Sequence[str], environment: Mapping[str, str], out: Path, err: Path
) -> BaseProcess:
    """Start a program with these arguments and nothing but this environment; it writes into these files.

    Args:
        main: The entry of the program, which returns its exit code; its module is imported by the fork.
        arguments: `sys.argv`, the name of the program included.
        environment: All of its environment. `/proc` shows that of the process it is forked from.
        out: Where its standard output goes.
        err: Where its standard error goes; may be the same file.
    """
    process = FORKS.Process(
        target=_call,
        args=(_run, (main, list(arguments), out, err), dict(environment)),
        daemon=True,
        name=arguments[0],
    )
    await asyncio.to_thread(_start, process)
    return process


def make_fork(function: Callable[..., None], *arguments: object) -> BaseProcess:
    """Return a process, to be started, that calls a function of a test file in the environment of now.

    The process it is forked from has that of the test that was the first to need one, a proxy's address and all.
    """
    return FORKS.Process(target=_call, args=(function, arguments, dict(os.environ)), daemon=True)


def run_script(path: str) -> int:
    """Run a file as `python FILE` does: for a fork, which has imported already what the file imports."""
    runpy.run_path(path, run_name="__main__")
    return 0


async def until_fork_ends(process: BaseProcess, seconds: float | None) -> int:
    """Return the exit code, as `subprocess` has it; `TimeoutError` after so many seconds."""
    ended = asyncio.Event()
    # A descriptor of its own: a loop knows one reader of each, and several may wait.
    sentinel = os.dup(process.sentinel)
    asyncio.get_running_loop().add_reader(sentinel, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), seconds)
    finally:
        asyncio.get_running_loop().remove_reader(sentinel)
        os.close(sentinel)
    assert process.exitcode is not None
    return process.exitcode


def _start(process: BaseProcess) -> None:
    with _LOCK:
        process.start()


def _call(function: Callable[..., None], arguments: tuple[object, ...], environment: dict[str, str]) -> None:
    process_table().die_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)


def _run(main: Callable[[], int], arguments: list[str], out: Path, err: Path) -> None:
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = arguments
    sys.exit(main())
