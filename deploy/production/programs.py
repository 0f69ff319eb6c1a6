"""The servers and tools that the farm runs: found or built once, and offered under the names of their images."""

from collections.abc import Callable
from pathlib import Path

import devserver
from deploy.production.s3_server import find_seaweedfs
from gobuild import GoProgram

TEMPORAL_VERSION = "v1.32.0"

TEMPORAL_SERVER = GoProgram(
    name=f"temporal-server-{TEMPORAL_VERSION}",
    package=f"go.temporal.io/server/cmd/server@{TEMPORAL_VERSION}",
    minutes=4,
    go_version="1.26.8",
)
# Built from what the server is built from, so it takes seconds after it.
TEMPORAL_SQL_TOOL = GoProgram(
    name=f"temporal-sql-tool-{TEMPORAL_VERSION}",
    package=f"go.temporal.io/server/cmd/tools/sql@{TEMPORAL_VERSION}",
    minutes=2,
    go_version="1.26.8",
)
# What the compose file and the scripts call them.
_NAMES = {
    "temporal-server": TEMPORAL_SERVER,
    "temporal-sql-tool": TEMPORAL_SQL_TOOL,
}


def install_programs(cache: Path, say: Callable[[str], None]) -> dict[str, Path]:
    """Return all programs of the farm by the names that they have in their images.

    Builds those of Temporal's server that are missing, in up to 6 minutes.

    Raises:
        GoBuildError: A program cannot be built.
        TemporalNotFound: There is no `temporal` command.
        ProductionError: There is no S3 server.
    """
    found = {name: program.get(cache / "bin", say) for name, program in _NAMES.items()}
    return {**found, "temporal": devserver.find_temporal(say), "weed": find_seaweedfs()}


def offer_programs(cache: Path, folder: Path, say: Callable[[str], None]) -> Path:
    """Return a folder for PATH in which the programs of `install_programs` have those names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in install_programs(cache, say).items():
        link = folder / name
        if not link.is_symlink() or link.readlink() != program:
            link.unlink(missing_ok=True)
            link.symlink_to(program)
    return folder
