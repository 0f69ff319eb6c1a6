"""Programs written in Go that the project runs, each built once into its cache."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class GoBuildError(Exception):
    """A program could not be built; says why and what to install."""


@dataclass(frozen=True)
class GoProgram:
    """A program of a Go module, at one version.

    Args:
        name: What it is called in the cache, with its version in it.
        package: What `go install` builds, as in `example.org/tool/cmd/tool@v1.2.3`.
        minutes: How long that takes on two cores with nothing cached, as people are told.
        go_version: The oldest Go that builds it.
    """

    name: str
    package: str
    minutes: int
    go_version: str

    def find(self, folder: Path) -> Path | None:
        """Return the program if it is in the cache already."""
        program = folder / self.name
        return program if os.access(program, os.X_OK) else None

    def get(self, folder: Path, say: Callable[[str], None] = lambda line: None) -> Path:
        """Return the program in this folder of the cache; builds it if it is not there.

        Callers at the same time, in other processes too, share one build.

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
            say(f"Building {self.package} with Go: up to {self.minutes} minutes, once.")
            with tempfile.TemporaryDirectory(prefix=".get-", dir=folder) as build:
                # Renamed into place, so that nobody ever runs half a program.
                return _go_install(self.package, Path(build)).replace(folder / self.name)


def _go_install(package: str, folder: Path) -> Path:
    """Return the program that `go install` has put into an empty folder.

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
