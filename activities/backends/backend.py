"""What every place to render offers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from longtake.job import Retry, Timeouts


@dataclass(frozen=True)
class RenderTask:
    """One command to run to its end, with all that a backend must know."""

    command: tuple[str, ...]
    cwd: Path
    env: dict[str, str]
    # Variables of `env` that every process of this run carries, and nothing else does.
    tag: Mapping[str, str]
    log: Path
    timeouts: Timeouts
    retry: Retry = field(default_factory=Retry)
    # What people call the program, where its file has another name.
    program: str = ""
    # Where finished image files appear; each counts as one frame of progress.
    counted_dir: Path | None = None


class Backend(Protocol):
    """Renders somewhere; an `asyncio` cancel stops it."""

    async def render(self, task: RenderTask, progress: Callable[[int], None]) -> None:
        """Run the command to a successful end.

        Every way out leaves no process behind.

        Args:
            task: What to run.
            progress: Called with the number of frames done so far.

        Raises:
            AttemptError: It failed, took too long, or stood still.
        """
        ...
