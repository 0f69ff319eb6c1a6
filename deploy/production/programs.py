"""Build the farm's programs that are written in Go, find its other servers, and link all under their images' names."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import devserver
from deploy.production.s3_server import find_seaweedfs

TEMPORAL_VERSION = "v1.32.0"


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


TEMPORAL_SERVER = GoProgram(
    name=f"temporal-server-{TEMPORAL_VERSION}",
    package=f"go.temporal.io/server/cmd/server@{TEMPORAL_VERSION}",
    minutes=4,
    go_version="1.26.8",
)
# The server shares its packages: after the server this takes seconds.
TEMPORAL_SQL_TOOL = GoProgram(
    name=f"temporal-sql-tool-{TEMPORAL_VERSION}",
    package=f"go.temporal.io/server/cmd/tools/sql@{TEMPORAL_VERSION}",
    minutes=2,
    go_version="1.26.8",
)
# By the names that the compose file and the scripts use.
_GO_PROGRAMS = {
    "temporal-server": TEMPORAL_SERVER,
    "temporal-sql-tool": TEMPORAL_SQL_TOOL,
}


def install_programs(cache: Path, on_message: Callable[[str], None]) -> dict[str, Path]:
    """Build the missing programs of Temporal's server, in up to 6 minutes, and find the others.

    Returns:
        All programs of the farm, by the names that they have in their images.

    Raises:
        GoBuildError: A program cannot be built.
        TemporalNotFound: There is no `temporal` command.
        ProductionError: There is no S3 server.
    """
    found = {name: program.ensure_built(cache / "bin", on_message) for name, program in _GO_PROGRAMS.items()}
    return {**found, "temporal": devserver.find_temporal(on_message), "weed": find_seaweedfs()}


def link_programs(cache: Path, folder: Path, on_message: Callable[[str], None]) -> Path:
    """Link the programs of `install_programs` under these names in a folder for PATH, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in install_programs(cache, on_message).items():
        link = folder / name
        if not link.is_symlink() or link.readlink() != program:
            link.unlink(missing_ok=True)
            link.symlink_to(program)
    return folder


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
