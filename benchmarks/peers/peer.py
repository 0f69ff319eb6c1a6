"""What the scripts of peers share: what they are asked, when they begin, and the chunk itself.

Standard library only: scripts of several environments import it.
"""

import json
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """Chunks to be run; `throughput.py` writes it."""

    count: int
    parallel: int
    program: str
    seed: str
    out: str
    folder: str
    address: str

    def command(self, chunk: int) -> list[str]:
        """Return the command of a chunk."""
        return [self.program, self.seed, f"{self.out}/{chunk:06}.txt"]


def read_asked() -> Asked:
    """Read what this script is asked, from its command line."""
    return Asked(**json.loads(sys.argv[1]))


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
