"""Find or build the servers and tools of the farm, and link them under the names that they have in their images."""

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
