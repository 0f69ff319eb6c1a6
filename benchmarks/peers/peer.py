"""What the scripts of peers share: what they are asked, when they begin, and the chunk itself.

Standard library only: scripts of several environments import it.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Asked:
    """Chunks to be run; `ways.py` writes it.

    Attributes:
        commands: The command of each chunk.
        parallel: How many run at once.
        folder: For what a server of this peer writes.
        address: A Temporal server, where the peer needs one.
    """

    commands: list[list[str]]
    parallel: int
    folder: str
    address: str


def read_asked() -> Asked:
    """Read what this script is asked, from the file that its command line names."""
    return Asked(**json.loads(Path(sys.argv[1]).read_text()))


def wait_for_go() -> None:
    """Say that everything is up, and wait for the word to begin; end where nobody is left to say it."""
    print("ready", flush=True)
    if sys.stdin.readline().strip() != "go":
        sys.exit(1)


def say_done() -> None:
    """Say that all chunks have ended well."""
    print("done", flush=True)


def run_chunk(command: list[str]) -> None:
    """Run a chunk as people do who write a task: its exit code is believed."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
