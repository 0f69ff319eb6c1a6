"""One chunk's turn of a session: a process that renders chunk after chunk, each asked for by a line."""

import os
from dataclasses import replace

from activities.backends.backend import RenderTask
from activities.backends.exit_status import ExitStatus
from activities.processes.render_process import RenderProcess, Usage


class SessionTurn:
    """What one chunk has of a session, seen as a render of its own: it ends with the answer.

    Args:
        process: The session, which takes one line after the other.
        task: What it is asked for; its output goes to the task's log until it answers.
        is_new: Whether it was started for this turn.
    """

    def __init__(self, process: RenderProcess, task: RenderTask, *, is_new: bool) -> None:
        self.process = process
        self._line = task.request or ""
        # Absolute, because its keeper runs in another folder.
        self._log = os.path.abspath(task.log)
        self._is_new = is_new
        self._before = Usage() if is_new else process.usage
        self._answer: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether the session has answered that it is done, so that it can take the next chunk."""
        return self._answer == ""

    @property
    def is_lost(self) -> bool:
        """Whether a session of earlier turns has ended in place of an answer."""
        return self._answer is None and not self._is_new and self.process.has_ended

    @property
    def usage(self) -> Usage:
        """What the session has used since it was asked."""
        now, before = self.process.usage, self._before
        return replace(
            now,
            cpu_seconds=max(0.0, now.cpu_seconds - before.cpu_seconds),
            io_bytes=max(0, now.io_bytes - before.io_bytes),
        )

    @property
    def may_have_printed(self) -> bool:
        """Whether something was printed: at least the answer."""
        return True

    async def wait(self) -> int:
        """Wait for the answer and return 0; without one the exit code of the session.

        Raises:
            KeeperLostError: The keeper was killed; nothing of the session is left.
        """
        self._answer = await self.process.ask(self._line, self._log)
        return await self.process.wait() if self._answer is None else 0

    async def freeze(self) -> None:
        """Stop every process of the session with SIGSTOP and wait until none runs."""
        await self.process.freeze()

    async def thaw(self) -> None:
        """Continue every process of the session with SIGCONT."""
        await self.process.thaw()

    def explain(self, status: ExitStatus) -> ExitStatus:
        """Return how the turn has ended: a session that ends by itself has not answered, whatever its exit code."""
        if status.code is None or self.is_done:
            return status
        if self._answer is None:
            return replace(status, stopped_for=f"ended with code {status.code} before it had answered")
        return replace(status, code=None, stopped_for=f"has failed: {self._answer}")
