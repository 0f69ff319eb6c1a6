"""Run programs to be measured, each in a session of its own that ends with all that it has started."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_READY_SECONDS = 120.0
_END_SECONDS = 10.0


class SessionError(Exception):
    """Raised when a program ends badly, or is not ready in time; has the end of what it printed."""


class Session:
    """A program that runs; `Session.start` makes it."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Its pid, which is the number of its session too."""
        return self._process.pid

    async def wait_until_ready(self) -> None:
        """Wait for the line `ready` of a peer.

        Raises:
            SessionError: It has ended, or is not ready in time.
        """
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._expect("ready")
        except TimeoutError:
            raise self._make_error(f"not ready within {_READY_SECONDS:g} s") from None

    async def go(self) -> None:
        """Tell a peer that is ready to begin, and wait until it is done.

        Raises:
            SessionError: It has ended before that.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        await self._process.stdin.drain()
        await self._expect("done")

    async def wait(self) -> None:
        """Wait for the end of a program.

        Raises:
            SessionError: It ended with another code than 0.
        """
        if code := await self._process.wait():
            raise self._make_error(f"ended with {code}")

    async def read(self) -> str:
        """Return what a program prints until it has ended, whatever its exit code."""
        assert self._process.stdout is not None
        printed = (await self._process.stdout.read()).decode(errors="replace")
        await self._process.wait()
        return printed

    async def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if line.decode(errors="replace").strip() == word:
                return
        raise self._make_error(f"ended before it was {word}")

    def _make_error(self, what: str) -> SessionError:
        printed = self._log.read_text(errors="replace").strip().splitlines()[-8:]
        return SessionError("\n".join([what, *printed]))


@asynccontextmanager
async def run_session(
    command: Sequence[str | Path], *, log: Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Session]:
    """Run a program until the block ends; then nothing that it has started is left.

    Args:
        command: The program and its arguments.
        log: File for its standard error.
        cwd: Its folder.
        environment: More variables of its environment.
    """
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        yield Session(process, log)
    finally:
        # A second Ctrl-C must not leave half of them.
        await asyncio.shield(_end(process))


async def _end(process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_END_SECONDS):
        while left := find_members(process.pid):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.01)
        await process.wait()


def find_members(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with suppress(OSError):
            fields = Path("/proc", name, "stat").read_text(errors="replace").rpartition(")")[2].split()
            # After the name: state, parent, group, session.
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(name))
    return found
