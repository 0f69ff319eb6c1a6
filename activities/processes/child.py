"""The log of an attempt: its head and its newest end, whatever a renderer prints."""

import contextlib
import fcntl
import os
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Mapping, Sequence

from activities.processes.process_table import ProcessTable
from activities.processes.process_tree import ControlGroup

# The head says how a render was started; the end says why it failed. What lies between is dropped, piece by piece.
SEGMENT_BYTES = 4 * 1024 * 1024
_KEPT_SEGMENTS = 2

# How long output is dropped after a write that failed, before the next try.
_RETRY_SECONDS = 1.0


class BoundedLog:
    """Appends to `PATH`, then to segments `PATH.OFFSET`, of which the newest two are kept.

    The offset is the position of the segment's first byte in all that was printed, so that readers see what is left
    out. A write that fails drops what it should have written and is never the renderer's trouble.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None
        self._size = 0
        self._end = 0
        self._segments: list[int] = []
        self._resumed = False
        self._silent_until = 0.0

    def begin(self) -> None:
        """Make the file, so that there is a log also of a renderer that prints nothing."""
        with contextlib.suppress(OSError):
            self._open()

    def write(self, data: memoryview) -> None:
        """Append."""
        if time.monotonic() < self._silent_until:
            self._end += len(data)
            return
        while data:
            try:
                if self._file is None:
                    self._open()
                written = self._append(data)
            except OSError:
                self.close()
                self._end += len(data)
                self._silent_until = time.monotonic() + _RETRY_SECONDS
                return
            data = data[written:]

    def close(self) -> None:
        """Let go of the file; a write opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, data: memoryview) -> int:
        assert self._file is not None
        written = os.write(self._file, data[: SEGMENT_BYTES - self._size])
        self._size += written
        self._end += written
        # Only now is the new segment worth an old one.
        while len(self._segments) > _KEPT_SEGMENTS:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._path}.{self._segments.pop(0)}")
        if self._size >= SEGMENT_BYTES:
            self.close()
        return written

    def _open(self) -> None:
        if not self._resumed:
            self._resume()
        head = self._end == 0 or (not self._segments and self._size_of(self._path) == self._end < SEGMENT_BYTES)
        if head:
            path, self._size = self._path, self._end
        else:
            newest = self._segments[-1] if self._segments else None
            path, size = (f"{self._path}.{newest}", self._size_of(f"{self._path}.{newest}"))
            if newest is None or newest + size != self._end or size >= SEGMENT_BYTES:
                path, size = f"{self._path}.{self._end}", 0
                self._segments.append(self._end)
            self._size = size
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def _resume(self) -> None:
        """Go on where an earlier command of the same attempt ended."""
        folder, name = os.path.split(self._path)
        ends = [entry[len(name) + 1 :] for entry in os.listdir(folder) if entry.startswith(f"{name}.")]
        self._segments = sorted(int(end) for end in ends if end.isdigit())
        newest = self._segments[-1] if self._segments else 0
        self._end = newest + self._size_of(f"{self._path}.{newest}" if newest else self._path)
        self._resumed = True

    @staticmethod
    def _size_of(path: str) -> int:
        try:
            return os.stat(path).st_size
        except FileNotFoundError:
            return 0


def launch(
    command: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    output: int,
    group: ControlGroup | None,
    table: ProcessTable,
) -> int:
    """Return the pid of the started program, which leads a session of its own and dies with the caller.

    Raises:
        OSError: It cannot be executed, or the folder cannot be entered; `filename` says which.
    """
    keeper = os.getpid()
    reading, writing = os.pipe()
    # A signal to the child before it is a program would be taken for one to the keeper.
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    pid = os.fork()
    if pid == 0:
        culprit = command[0]
        try:
            os.setsid()
            table.die_with_parent()
            if os.getppid() != keeper:
                # It died before it could be told of, and will not be any more.
                os._exit(1)
            if group is not None:
                group.join()
            _arrange_descriptors(output, writing)
            culprit = cwd
            os.chdir(cwd)
            culprit = command[0]
            _reset_signals()
            os.execvpe(command[0], list(command), dict(env))
        except OSError as error:
            os.write(3, f"{error.errno} {culprit}".encode("utf-8", "surrogateescape"))
        except ValueError:
            # A null byte, which no program can be given.
            os.write(3, f"22 {culprit}".encode("utf-8", "surrogateescape"))
        finally:
            os._exit(127)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(writing)
    try:
        failure = os.read(reading, 65536)
    finally:
        os.close(reading)
    if not failure:
        return pid
    os.waitpid(pid, 0)
    number, _, culprit = failure.decode("utf-8", "surrogateescape").partition(" ")
    raise OSError(int(number), os.strerror(int(number)), culprit)


def _arrange_descriptors(output: int, failure: int) -> None:
    """Leave 0 to 2, and 3 until the program begins."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    # Above all that is about to be overwritten.
    sources = [_above(descriptor) for descriptor in (nothing, output, output)]
    failure = _above(failure)
    for target, source in enumerate(sources):
        os.dup2(source, target)
    os.dup2(failure, 3, inheritable=False)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))


def _above(descriptor: int) -> int:
    lower = []
    while descriptor <= 3:
        lower.append(descriptor)
        descriptor = os.dup(descriptor)
    return descriptor


def _reset_signals() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except OSError:
            # The C library keeps some real-time signals to itself.
            continue
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


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
