"""Carries what a renderer prints from its pipe into its log."""

import contextlib
import fcntl
import os
import select
import struct
import termios
import threading

from activities.processes.child import BoundedLog

# A renderer that prints fast waits less often with a larger pipe; users may have 64 MiB of them in all.
_PIPE_BYTES = 256 * 1024
_F_SETPIPE_SZ = 1031


class OutputPump:
    """One pipe and the thread that empties it: a log on a store that hangs must not hold up its keeper."""

    def __init__(self, log: BoundedLog) -> None:
        self._log = log
        self._reading, self.writing = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.writing, _F_SETPIPE_SZ, _PIPE_BYTES)
        # Held from before bytes leave the pipe until they are in the log.
        self._turn = threading.Lock()
        self._carried = 0
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin; the renderer has its end of the pipe by now."""
        os.close(self.writing)
        threading.Thread(target=self._run, daemon=True).start()

    def mark(self) -> int | None:
        """Return the count of bytes that all printed until now makes; None while that cannot be told."""
        if not self._turn.acquire(blocking=False):
            return None
        try:
            (waiting,) = struct.unpack("i", fcntl.ioctl(self._reading, termios.FIONREAD, b"\0" * 4))
            return self._carried + int(waiting)
        finally:
            self._turn.release()

    def is_past(self, mark: int) -> bool:
        """Return whether all until a mark is in the log."""
        return self._carried >= mark

    def ended_within(self, seconds: float) -> bool:
        """Return whether the last writer closes the pipe in time, and all of it is in the log."""
        return self._ended.wait(seconds)

    def _run(self) -> None:
        self._log.begin()
        buffer = memoryview(bytearray(_PIPE_BYTES))
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        count = 1
        while count:
            poll.poll()
            with self._turn:
                count = os.readv(self._reading, [buffer])
                self._log.write(buffer[:count])
                self._carried += count
        self._ended.set()
