"""What a backend is asked (`RenderTask`), what it reports, and the interface that all backends implement."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from activities.processes.render_process import Usage
from longtake.models.policies import ProgressSpec, Retry, Timeouts


@dataclass(frozen=True)
class RenderTask:
    """One command to run to its end, and all that a backend must know of it."""

    command: tuple[str, ...]
    cwd: Path
    env: dict[str, str]
    # Variables of `env` that every process of this run carries, and nothing else does.
    tag: Mapping[str, str]
    log: Path
    timeouts: Timeouts
    retry: Retry = field(default_factory=Retry)
    # Whether the log is new: no command of the attempt has run before this one.
    is_first: bool = False
    # Name of the program in errors, where its file has another name.
    program: str = ""
    # Numbers of the frames that this command renders; empty where it renders none.
    frames: range = range(0)
    progress: ProgressSpec = field(default_factory=ProgressSpec)
    # Where finished image files appear; so many of them count as one frame of progress.
    counted_dir: Path | None = None
    files_per_frame: int = 1
    # Returns whether all outputs of this command are there and proven; blocking. None where only its end tells.
    is_whole: Callable[[], bool] | None = None
    # The files that this command makes, the last one last: while they change or are missing, `is_whole` is not asked.
    outputs: tuple[Path, ...] = ()
    # Whether `is_whole` proves so little that a renderer at work must not be ended for it.
    proof_is_weak: bool = False
    # What a Helios worker calls the chunk that this command renders; None for a command that renders none.
    chunk_id: int | None = None
    # Folders of the attempt that the command may write into, where renders have an account of their own.
    folders: tuple[Path, ...] = ()
    # File that the command reads on standard input; None for nothing.
    input: Path | None = None
    # The line by which a session is asked to do the work; None for a command that ends when its work is done.
    request: str | None = None

    @property
    def name(self) -> str:
        """Name of the program in errors."""
        return self.program or Path(self.command[0]).name


@dataclass(frozen=True)
class Progress:
    """How far one command is, and what it has used."""

    frames_done: int = 0
    # What the renderer says it is doing.
    message: str = ""
    usage: Usage = field(default_factory=Usage)


class RenderWatcher(Protocol):
    """What the caller of a render implements: orders to freeze, and callbacks for progress."""

    @property
    def freeze_order(self) -> int:
        """Number of the freeze that the render must obey now; 0 when it may run."""
        ...

    @property
    def most_grace_seconds(self) -> float:
        """Longest grace for the end of the render; short when another worker may render the same already."""
        ...

    def on_frozen(self, order: int) -> None:
        """Take note that all processes of the render are stopped, by this order; with 0, that they run again."""
        ...

    def on_progress(self, progress: Progress) -> None:
        """Take note of the progress of the render, a few times a second."""
        ...


class Backend(Protocol):
    """Runs commands, on this host or through a service; an `asyncio` cancel stops the command."""

    def open_span(self) -> AbstractAsyncContextManager["Backend"]:
        """Return the backend for commands that run one after the other, which cost less through it.

        No way out of the block leaves a process behind.
        """
        ...

    async def render(self, task: RenderTask, watcher: RenderWatcher) -> Usage:
        """Run the command to a successful end and return what it used.

        No way out leaves a process behind: where one survives SIGKILL, this does not return before it is gone.

        Raises:
            AttemptError: The command failed, took too long, or stood still.
            AttemptLostError: The command was ended from outside, and the try does not count.
        """
        ...
