"""Install what Longtake is compared with into an environment of its own, and tell the versions."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import devserver

# The scripts that run chunks, one for each peer.
PEERS = Path(__file__).parent / "peers"
_PROGRAMS = {"parallel": ("parallel", "--version"), "xargs": ("xargs", "--version")}


def find_peers() -> Path | None:
    """Return the Python that has the peers; None where they are not installed."""
    python = devserver.cache_dir() / "bench-venv" / "bin" / "python"
    return python if (python.parent.parent / "ready").exists() else None


def install_peers(on_message: Callable[[str], None]) -> str:
    """Install the peers into an environment of their own, unless it is there; return why that is not possible."""
    wanted = (PEERS / "peers.txt").read_text()
    folder = devserver.cache_dir() / "bench-venv"
    ready = folder / "ready"
    if ready.exists() and ready.read_text() == wanted:
        return ""
    on_message("installing Celery, Dask, Prefect and Redis into .cache/bench-venv: about 1 minute the first time")
    shutil.rmtree(folder, ignore_errors=True)
    pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    for command in ((sys.executable, "-m", "venv", folder), (*pip, "-r", PEERS / "peers.txt")):
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            return "not installed: " + (ended.stderr.strip().splitlines() or ["pip failed"])[-1]
    ready.write_text(wanted)
    return ""


@cache
def read_versions() -> dict[str, str]:
    """Return the versions of what is there."""
    found = {}
    for name, command in _PROGRAMS.items():
        if shutil.which(name):
            line = subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition("\n")[0]
            found[name] = line.split()[-1]
    if python := find_peers():
        asked = (python, PEERS / "installed_versions.py")
        found |= json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    return found
