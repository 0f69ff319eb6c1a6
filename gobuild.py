"""Build programs written in Go, each once, into a folder of the cache."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class GoBuildError(Exception):
    """Raised when a program cannot be built; says why and what to install."""


@dataclass(frozen=True)
class GoProgram:
    """A program of a Go module, at one version.

    Args:
        name: File name in the cache, the version included.
        package: Package for `go install`, as in `example.org/tool/cmd/tool@v1.2.3`.
        minutes: Minutes that the build takes on two cores with nothing cached, for the message.
        go_version: The oldest Go that builds the package.
    """

    name: str
    package: str
    minutes: int
    go_version: str

    def find(self, folder: Path) -> Path | None:
        """Return the program if it is built already."""
        program = folder / self.name
        return program if os.access(program, os.X_OK) else None

    def ensure_built(self, folder: Path, on_message: Callable[[str], None] = lambda line: None) -> Path:
        """Build the program unless it is there, and return it.

        Callers at the same time, in other processes too, share one build.

        Args:
            folder: The folder of the cache.
            on_message: Called with one line before a build.

        Raises:
            GoBuildError: There is no Go, or the build failed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if found := self.find(folder):
                return found
            if shutil.which("go") is None:
                raise GoBuildError(
                    f"There is no Go to build {self.package} with: install Go {self.go_version} or later and put it "
                    "on PATH."
                )
            on_message(f"Building {self.package} with Go: up to {self.minutes} minutes, once.")
            with tempfile.TemporaryDirectory(prefix=".get-", dir=folder) as build:
                # Renamed into place: a half-written program is never run.
                return _go_install(self.package, Path(build)).replace(folder / self.name)


def _go_install(package: str, folder: Path) -> Path:
    """Build a package into an empty folder and return the program.

    Raises:
        GoBuildError: The build failed.
    """
    done = subprocess.run(
        ["go", "install", package],
        env={**os.environ, "GOBIN": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise GoBuildError(f"go install {package} failed: {(done.stderr.strip() or 'no output').splitlines()[-1]}")
    (program,) = folder.iterdir()
    return program
