"""Calls of the command line in forks of a process that has imported it already: 1.5 s of CPU time less for each."""

import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from longtake.__main__ import main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["longtake.cli.app"])
_LOCK = threading.Lock()


def run_command(arguments: Sequence[str], environment: Mapping[str, str], seconds: float) -> tuple[int, str, str]:
    """Run `longtake` with these arguments; return its exit code and what it wrote to stdout and stderr."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _FORKS.Process(target=_call, args=(list(arguments), dict(environment), out, err), daemon=True)
        with _LOCK:
            process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"longtake {' '.join(arguments)} has not ended after {seconds:g} s")
        return process.exitcode, out.read_text(), err.read_text()


def _call(arguments: list[str], environment: dict[str, str], out: Path, err: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = ["longtake", *arguments]
    sys.exit(main())
