"""What a backend needs of the processes that render: small enough to be stood in for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from activities.processes.usage import Usage


class Renderer(Protocol):
    """One running render with all that it has started."""

    @property
    def usage(self) -> Usage:
        """What it has used so far, at most a second old; the total after its end."""
        ...

    async def wait(self) -> int:
        """Return the exit code of the renderer itself; minus the signal if one ended it."""
        ...

    async def stop(self, grace_seconds: float) -> None:
        """Return when no process is left."""
        ...

    async def freeze(self) -> None:
        """Return when every process stands still."""
        ...

    async def thaw(self) -> None:
        """Let all of them go on."""
        ...


class Renderers(Protocol):
    """Whoever starts renders."""

    async def spawn(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, tag: Mapping[str, str]
    ) -> Renderer:
        """Return the started render.

        Raises:
            OSError: The program cannot be executed.
        """
        ...
