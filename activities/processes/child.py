"""The renderer as a child of its keeper: starting the program, and its output, through a pipe, to a bounded log.

Standard library only: see `supervisor_main`.
"""

import contextlib
import fcntl
import functools
import os
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from activities.processes.linux_table import switch_account
from activities.processes.process_table import ProcessTable
from activities.processes.process_tree import ControlGroup

# The head of a log shows how a render was started, its end why it failed. Segments between them are dropped.
SEGMENT_BYTES = 4 * 1024 * 1024
_KEPT_SEGMENTS = 2

# How long output is dropped after a write that failed, before the next try.
_RETRY_SECONDS = 1.0


class BoundedLog:
    """Appends to `PATH`, then to segments `PATH.OFFSET`, of which the newest two are kept.

    The offset is the position of the segment's first byte in all that was printed, so that readers see what is left
    out. A write that fails drops its data and never holds up the renderer.

    Args:
        path: The head of the log.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None
        self._size = 0
        self._end = 0
        self._segments: list[int] = []
        self._resumed = False
        self._silent_until = 0.0

    def create(self) -> None:
        """Create the file, so that a renderer that prints nothing has a log too."""
        with contextlib.suppress(OSError):
            self._open()

    def write(self, data: memoryview) -> None:
        """Append data, and begin new segments as they fill."""
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
        """Close the file; the next write opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, data: memoryview) -> int:
        assert self._file is not None
        written = os.write(self._file, data[: SEGMENT_BYTES - self._size])
        self._size += written
        self._end += written
        # Only after the new segment has data, so that a failed write costs no old segment.
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
        """Find the end of what an earlier command of the same attempt printed."""
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


# User id, group id and all groups of the account that a render runs under.
Account = tuple[int, int, Sequence[int]]


def start_program(
    command: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    output: int,
    group: ControlGroup | None,
    table: ProcessTable,
    nice: int = 0,
    account: Account | None = None,
    input: int | None = None,
) -> int:
    """Start a program in a session of its own that is killed when the calling process dies, and return its pid.

    Args:
        command: Program and arguments.
        cwd: Working directory.
        env: Its whole environment.
        output: Descriptor for standard output and standard error.
        group: Cgroup that the program joins, if any.
        table: The processes of the host.
        nice: Steps of priority below this process.
        account: Account that the program runs under; None for that of this process.
        input: Descriptor for standard input; None for nothing.

    Raises:
        OSError: The program cannot be executed, or the folder cannot be entered; `filename` names which.
    """
    keeper = os.getpid()
    reading, writing = os.pipe()
    # Blocked, because the child has the keeper's handlers until it executes the program.
    changed = _changed_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, changed)
    pid = os.fork()
    if pid == 0:
        culprit = command[0]
        try:
            os.setsid()
            if group is not None:
                group.join()
            if account is not None:
                switch_account(*account)
            # After the switch, which would undo it.
            table.die_with_parent()
            if os.getppid() != keeper:
                # The keeper died before PR_SET_PDEATHSIG was set, so no signal will come.
                os._exit(1)
            table.die_first()
            # All that comes of the program has it; the share of its session is lowered by the keeper, 0.1 s later.
            os.nice(nice)
            _arrange_descriptors(input, output, writing)
            culprit = cwd
            os.chdir(cwd)
            culprit = command[0]
            for handled in changed:
                signal.signal(handled, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.execvpe(command[0], list(command), dict(env))
        except OSError as error:
            os.write(3, f"{error.errno} {culprit}".encode("utf-8", "surrogateescape"))
        except ValueError:
            # A null byte, which no argument can hold; 22 is EINVAL.
            os.write(3, f"22 {culprit}".encode("utf-8", "surrogateescape"))
        finally:
            os._exit(127)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, changed)
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


def execute_program(command: Sequence[str], *, env: Mapping[str, str], descriptors: Mapping[int, int]) -> int:
    """Start a program in a session of its own and in the working folder of this process, and return its pid.

    In half of the time of `start_program`, as nothing of this process is copied. So nothing can be done in the child
    before it is the program: it does not die with this process by itself, and has its account and cgroup.

    Args:
        command: Absolute path of the program, and arguments.
        env: Its whole environment.
        descriptors: The descriptors of this process that it gets, by their numbers there.

    Raises:
        OSError: The program cannot be executed.
        ValueError: There is a null byte, which no argument can hold.
    """
    return os.posix_spawn(
        command[0],
        list(command),
        env,
        file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for target, source in descriptors.items()],
        setsid=True,
        setsigmask=(),
        setsigdef=_changed_signals(),
    )


def _arrange_descriptors(input: int | None, output: int, failure: int) -> None:
    """Close all descriptors but 0 to 2, and 3, which closes when the program is executed."""
    reading = os.open(os.devnull, os.O_RDONLY) if input is None else input
    # Moved above 3 first, so that no source is overwritten.
    sources = [_above(descriptor) for descriptor in (reading, output, output)]
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


@functools.cache
def _changed_signals() -> list[int]:
    """List the signals that this process ignores or handles; a keeper changes none after its start."""
    # None is a handler of somebody else's, which ends with the execution of the program.
    unchanged = (signal.SIG_DFL, None)
    return [number for number in signal.valid_signals() if signal.getsignal(number) not in unchanged]


# A larger pipe holds up a renderer that prints fast less often. Linux allows each user 64 MiB of pipes in all.
_PIPE_BYTES = 256 * 1024
_F_SETPIPE_SZ = 1031


def make_output_pipe() -> tuple[int, int]:
    """Make a pipe for what a renderer prints, and return its reading and its writing end."""
    read_end, write_end = os.pipe()
    with contextlib.suppress(OSError):
        fcntl.fcntl(write_end, _F_SETPIPE_SZ, _PIPE_BYTES)
    return read_end, write_end


class OutputPump:
    """A pipe and, from the first output on, a thread that empties it into a log.

    A thread, because a store that hangs must not hold up the keeper. A command that prints nothing needs none.

    Args:
        log: Where the output goes.
        on_end: Called in the thread when the last writer has closed the pipe and all is in the log.
        on_output: Called in the thread with what was printed, when it is in the log.
        pipe: The pipe, where the renderer has it already.
    """

    def __init__(
        self,
        log: BoundedLog,
        on_end: Callable[[], None],
        on_output: Callable[[bytes], None] | None = None,
        pipe: tuple[int, int] | None = None,
    ) -> None:
        self._log = log
        self._on_end = on_end
        self._on_output = on_output
        self._read_end, self.write_end = pipe or make_output_pipe()
        self._poll = select.poll()
        self._poll.register(self._read_end, select.POLLIN)
        # Held from before bytes leave the pipe until they are in the log.
        self._lock = threading.Lock()
        self._logged = 0
        self._started = self._is_closed = False
        self._ended = threading.Event()

    @property
    def quiet_end(self) -> int | None:
        """The descriptor that is readable at the first output; None when there was some, or none can come."""
        return None if self._started or self._is_closed else self._read_end

    @property
    def has_printed(self) -> bool:
        """Whether there was any output until now."""
        return bool(self._logged or self.count_printed() != 0)

    def follow(self, *, even_if_quiet: bool = False) -> None:
        """Start the thread, if there is output for the first time."""
        if self._started:
            return
        events = dict(self._poll.poll(0)).get(self._read_end, 0)
        # Closed by all writers, of which none has printed anything.
        self._is_closed = events == select.POLLHUP
        if even_if_quiet or events & select.POLLIN:
            self._started = True
            threading.Thread(target=self._run, daemon=True).start()

    def close_write_end(self) -> None:
        """Close the write end, which the renderer has by now."""
        os.close(self.write_end)

    def close(self) -> None:
        """Close the pipe of a command that has printed nothing."""
        if not self._started:
            os.close(self._read_end)

    def change_log(self, log: BoundedLog) -> None:
        """Write what is printed from now on into another log."""
        with self._lock:
            self._log.close()
            self._log = log
            self._log.create()

    def count_printed(self) -> int | None:
        """Count the bytes that were printed until now; None while the thread moves some."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if self._ended.is_set():
                return self._logged
            (waiting,) = struct.unpack("i", fcntl.ioctl(self._read_end, termios.FIONREAD, b"\0" * 4))
            return self._logged + int(waiting)
        finally:
            self._lock.release()

    def has_logged(self, count: int) -> bool:
        """Return whether so many bytes are in the log."""
        return self._logged >= count

    def wait_for_end(self, seconds: float) -> bool:
        """Wait until the last writer has closed the pipe and all is in the log; return false after the time."""
        return not self._started or self._ended.wait(seconds)

    def _run(self) -> None:
        self._log.create()
        buffer = memoryview(bytearray(_PIPE_BYTES))
        count = 1
        while count:
            self._poll.poll()
            with self._lock:
                count = os.readv(self._read_end, [buffer])
                self._log.write(buffer[:count])
                self._logged += count
            if self._on_output is not None:
                self._on_output(bytes(buffer[:count]))
        self._log.close()
        with self._lock:
            os.close(self._read_end)
            self._ended.set()
        self._on_end()


# The lines by which a session answers, on standard output. What stands behind the second one is the reason.
_DONE, _FAILED = b"longtake: done", b"longtake: failed"
# Of a longer line no end is waited for.
_LONGEST_LINE_BYTES = 1 << 16
_LONGEST_REASON_BYTES = 2000


class SessionPipe:
    """Standard input of a session, and its answers among all that it prints.

    Args:
        on_answer: Called in the thread that reads what is printed.
    """

    def __init__(self, on_answer: Callable[[], None]) -> None:
        self.read_end, write_end = os.pipe()
        # A program that does not read must not hold up its keeper.
        os.set_blocking(write_end, False)
        self._write_end: int | None = write_end
        self._on_answer = on_answer
        self._line = b""
        self._answers: list[str] = []

    def ask(self, line: str) -> bool:
        """Write a line to the program; return whether it has room for it. Answers to earlier lines are forgotten."""
        self._answers.clear()
        data = line.encode("utf-8", "surrogateescape")
        try:
            return self._write_end is not None and os.write(self._write_end, data) == len(data)
        except OSError:
            return False

    def take_answer(self) -> str | None:
        """Return an answer: empty for done, or why the program has failed; None while there is none."""
        return self._answers.pop(0) if self._answers else None

    def read_output(self, data: bytes) -> None:
        """Look for answers in what the program has printed."""
        *lines, self._line = (self._line + data).split(b"\n")
        self._line = self._line[:_LONGEST_LINE_BYTES]
        for line in map(bytes.strip, lines):
            if line == _DONE:
                self._answers.append("")
            elif line.startswith(_FAILED):
                reason = line[len(_FAILED) :].strip()[:_LONGEST_REASON_BYTES]
                self._answers.append(reason.decode(errors="replace") or "it gave no reason")
            else:
                continue
            self._on_answer()

    def close(self) -> None:
        """End the standard input of the program."""
        if self._write_end is not None:
            os.close(self._write_end)
            self._write_end = None
