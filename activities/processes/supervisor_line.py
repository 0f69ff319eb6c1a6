"""A worker's line to one running supervisor process."""

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Self

from activities.processes.errors import SupervisorError
from activities.processes.supervisor_main import NUMBER

_ROOT = Path(__file__).resolve().parents[2]

# Without these some Python installations do not start; nothing else of the worker's is any business of the supervisor.
_PASSED = ("PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class SupervisorLine:
    """Asks for keepers, and hears of renders that are wholly gone."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._control.setblocking(False)
        self._buried: dict[int, asyncio.Future[None]] = {}
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(control.fileno(), self._receive)

    @classmethod
    async def start(cls, *, exact: bool) -> Self:
        """Start a supervisor.

        Raises:
            SupervisorError: That is not possible.
        """
        ours, theirs = socket.socketpair()
        # Without site-packages the process, and each fork of it, is smaller by a third. Only psutil needs them.
        options = ("-S",) if exact else ()
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *options, "-s", "-P", "-m", "activities.processes.supervisor_main"),
                *(str(theirs.fileno()), "exact" if exact else "portable"),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env={**environment, "PYTHONPATH": str(_ROOT)},
            )
        except BaseException as error:
            ours.close()
            if isinstance(error, OSError):
                raise SupervisorError(f"the supervisor of renders cannot be started: {error}") from error
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_lost(self) -> bool:
        """Whether the supervisor is dead."""
        return self._lost.done()

    async def keep(self, number: int, channel: socket.socket) -> None:
        """Ask for a keeper that talks through this socket; whether it comes is seen there.

        Raises:
            OSError: The supervisor is dead.
        """
        self._buried[number] = asyncio.get_running_loop().create_future()
        while True:
            try:
                socket.send_fds(self._control, [NUMBER.pack(number)], [channel.fileno()])
                return
            except BlockingIOError:
                # So many are asked for at once that it has not come round to the others.
                await asyncio.sleep(0.001)
            except OSError:
                # Known here before the loop has come round to the end of the socket.
                self.close()
                raise

    async def buried(self, number: int) -> None:
        """Return when the supervisor has nothing of a render any more, or is dead itself."""
        if (burial := self._buried.get(number)) is not None:
            await asyncio.wait([burial, self._lost], return_when=asyncio.FIRST_COMPLETED)
            self._buried.pop(number, None)

    def forget(self, number: int) -> None:
        """Take it that nobody will ask for the burial of a render."""
        self._buried.pop(number, None)

    async def end(self) -> int:
        """Have the supervisor end, and return its exit code."""
        self.close()
        return await self._process.wait()

    def close(self) -> None:
        """Have the supervisor end, without waiting for it."""
        if not self._lost.done():
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._lost.set_result(None)

    def _receive(self) -> None:
        try:
            data = self._control.recv(NUMBER.size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if len(data) < NUMBER.size:
            self.close()
        elif (burial := self._buried.get(NUMBER.unpack(data)[0])) and not burial.done():
            burial.set_result(None)
