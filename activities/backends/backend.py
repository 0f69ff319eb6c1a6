"""What every place to render offers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from activities.processes.usage import Usage
from longtake.models.policies import ProgressSpec, Retry, Timeouts


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
    # The frames that this command renders: `[start, stop)`; empty where it renders none.
    start: int = 0
    stop: int = 0
    progress: ProgressSpec = field(default_factory=ProgressSpec)
    # Where finished image files appear; each counts as one frame of progress.
    counted_dir: Path | None = None
    # Blocking; whether all outputs of this command are there and proven. None: only its end tells.
    is_whole: Callable[[], bool] | None = None
    # The files that this command makes, the last one last: while they change or are missing, `is_whole` is not asked.
    outputs: tuple[Path, ...] = ()
    # Whether `is_whole` proves so little that a renderer at work must not be ended for it.
    proof_is_weak: bool = False
    # What a Helios worker calls the chunk that this command renders; None for a command that renders none.
    chunk_id: int | None = None

    @property
    def name(self) -> str:
        """What errors call the program."""
        return self.program or Path(self.command[0]).name


@dataclass(frozen=True)
class Progress:
    """How far one command is."""

    frames_done: int = 0
    # What the renderer says it is doing.
    message: str = ""
    usage: Usage = field(default_factory=Usage)


class RenderWatcher(Protocol):
    """Whoever waits for a render: hears how far it is, and says when it must stand still."""

    @property
    def freeze_order(self) -> int:
        """Number of the freeze that the render must obey now; 0 when it may run."""
        ...

    @property
    def most_grace_seconds(self) -> float:
        """How long the end of the render may take at most; short when somebody else renders the same already."""
        ...

    def frozen(self, order: int) -> None:
        """Hear that no process of the render runs, by this order; or with 0, that they run again."""
        ...

    def progress(self, progress: Progress) -> None:
        """Hear how far the render is; called a few times a second."""
        ...


class Backend(Protocol):
    """Renders somewhere; an `asyncio` cancel stops it."""

    async def render(self, task: RenderTask, watcher: RenderWatcher) -> Usage:
        """Run the command to a successful end and return what it used.

        Every way out leaves no process behind; where one survives SIGKILL this does not return before it is gone.

        Raises:
            AttemptError: It failed, took too long, or stood still.
            AttemptLostError: It ended through no fault of its own, and the try does not count.
        """
        ...


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
