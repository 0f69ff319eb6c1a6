"""The keeper: the process that starts one render, measures, freezes and ends its process tree.

On Linux all descendants of the keeper are the tree (PR_SET_CHILD_SUBREAPER). Standard library only: see
`supervisor_main`.
"""

import contextlib
import enum
import math
import os
import select
import signal
import socket
import sys
import time

from activities.processes.child import BoundedLog, OutputPump, start_program
from activities.processes.ipc import Message, MessageDecoder, SignalInbox, encode_message
from activities.processes.process_table import ProcessTable
from activities.processes.process_tree import PROOF_LOOKS, ControlGroup, ProcessTree

# How long sending the closing messages may take when the worker is slow to read.
_CLOSE_SECONDS = 5.0


class KeeperChannel:
    """The keeper's end of the socket to its worker; never blocks on a worker that does not read.

    Args:
        channel: The socket.
        inbox: Signals to this process, which `wait` returns too.
    """

    def __init__(self, channel: socket.socket, inbox: SignalInbox) -> None:
        self._channel = channel
        self._inbox = inbox
        self._messages = MessageDecoder()
        self._pending = bytearray()
        self.is_open = True

    def read_request(self) -> Message | None:
        """Wait for the worker's first message, which says what to start; None when the worker has gone."""
        while data := self._channel.recv(1 << 20):
            if messages := self._messages.feed(data):
                self._channel.setblocking(False)
                return messages[0]
        return None

    def wait(self, seconds: float) -> tuple[list[Message], set[int]]:
        """Wait for orders and signals, for so many seconds at most, and return them."""
        poll = select.poll()
        poll.register(self._inbox.fileno(), select.POLLIN)
        if self.is_open:
            poll.register(self._channel, select.POLLIN | (select.POLLOUT if self._pending else 0))
        ready = dict(poll.poll(max(0.0, seconds) * 1000))
        signals = self._inbox.take() if self._inbox.fileno() in ready else set()
        if self._channel.fileno() not in ready:
            return [], signals
        self._flush()
        return self._receive(), signals

    def send(self, message: Message, *, droppable: bool = False) -> None:
        """Send a message, or queue it while the socket is full; drop a droppable one while others are queued."""
        if not self.is_open or (droppable and self._pending):
            return
        self._pending += encode_message(message)
        self._flush()

    def close(self) -> None:
        """Send what is queued, and shut the socket down."""
        with contextlib.suppress(OSError):
            self._channel.settimeout(_CLOSE_SECONDS)
            self._channel.sendall(self._pending)
        # Shut down, not only closed at exit: a thread that hangs on a store may keep this process from ending.
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def _receive(self) -> list[Message]:
        try:
            data = self._channel.recv(1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        self.is_open = self.is_open and bool(data)
        return self._messages.feed(data)

    def _flush(self) -> None:
        try:
            while self._pending:
                del self._pending[: self._channel.send(self._pending)]
        except BlockingIOError:
            return
        except OSError:
            self._pending.clear()
            self.is_open = False


# macOS counts in bytes what Linux counts in kibibytes.
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


class UsageMeter:
    """Sums CPU time, I/O and memory of all children, living and ended.

    Args:
        table: The processes of the host.
    """

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self._ended_cpu = 0.0
        self._ended_io = 0
        self._cpu = self._seen_cpu = 0.0
        self._io = self._seen_io = 0
        self._peak_memory = 0

    def reap(self) -> tuple[int, int] | None:
        """Reap one ended child and return its pid and exit code; None when none has ended.

        Raises:
            ChildProcessError: There are no children at all.
        """
        pid = -1
        if self._table.exact:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if dead is None:
                return None
            pid = dead.si_pid
            # Read before the child is reaped: its counters vanish with it.
            self._ended_io += self._table.read_io_bytes(pid)
        pid, status, used = os.wait4(pid, os.WNOHANG)
        if pid == 0:
            return None
        self._ended_cpu += used.ru_utime + used.ru_stime
        self._peak_memory = max(self._peak_memory, used.ru_maxrss * _MAXRSS_BYTES)
        return pid, os.waitstatus_to_exitcode(status)

    def sample(self) -> list[float]:
        """Measure all children, and return the fields of `Usage` in order."""
        living = self._table.list_descendants(os.getpid())
        memory = sum(entry.memory_bytes for entry in living)
        self._peak_memory = max(self._peak_memory, memory)
        # Sums never fall: the host forgets what an unreaped child used, and this meter keeps it.
        cpu = self._ended_cpu + sum(entry.cpu_seconds for entry in living)
        self._cpu, self._seen_cpu = self._cpu + max(0.0, cpu - self._seen_cpu), cpu
        io = self._ended_io + sum(self._table.read_io_bytes(entry.pid) for entry in living)
        self._io, self._seen_io = self._io + max(0, io - self._seen_io), io
        return [round(self._cpu, 6), self._io, memory, self._peak_memory, len(living)]


_SAMPLE_SECONDS = 1.0

# The exit is reported when all output before it is in the log, or after this time where a store hangs.
_DRAIN_SECONDS = 2.0

# Pauses between looks at a tree that is being frozen or ended: short at first, then growing.
_FIRST_PAUSE = 0.002
_LAST_PAUSE = 0.1
# Pause after the survivors of SIGKILL were reported.
_SURVIVOR_PAUSE = 1.0


class Phase(enum.Enum):
    """State that a keeper brings its process tree to."""

    RUNNING = enum.auto()
    FREEZING = enum.auto()
    FROZEN = enum.auto()
    TERMINATING = enum.auto()
    KILLING = enum.auto()
    GONE = enum.auto()


class Keeper:
    """Keeps one render, in a process forked off the supervisor.

    Args:
        channel: Socket to the worker.
        table: The processes of the host.
    """

    def __init__(self, channel: socket.socket, table: ProcessTable) -> None:
        self._table = table
        self._channel = KeeperChannel(channel, SignalInbox(signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP))
        self._meter = UsageMeter(table)
        self._phase = Phase.RUNNING
        self._pause = _FIRST_PAUSE
        self._orders: dict[Phase, list[int]] = {Phase.FROZEN: [], Phase.GONE: []}
        self._kill_at = self._give_up_at = math.inf
        self._quiet_looks = 0
        self._code: int | None = None
        self._exit_reported = False
        self._output_mark: int | None = None
        self._drain_until = math.inf
        self._sample_at = 0.0
        # False after a signal to this keeper: then the worker counts the try as lost.
        self._reports_end = True

    def run(self) -> None:
        """Start the render, obey the worker's orders, and return when nothing of the render is left."""
        os.setsid()
        self._table.adopt_orphans()
        self._table.set_name("longtake-keeper")
        request = self._channel.read_request()
        if request is None or not self._start(request):
            return
        while self._phase is not Phase.GONE:
            orders, signals = self._channel.wait(self._step())
            for order in orders:
                self._handle(order)
            if not self._channel.is_open or signals & {signal.SIGTERM, signal.SIGHUP}:
                # The worker is gone, or an operator ends this keeper: the render ends at once.
                self._reports_end = self._reports_end and not signals & {signal.SIGTERM, signal.SIGHUP}
                self._begin_kill()
        self._finish()

    def _start(self, request: Message) -> bool:
        self._kill_seconds = float(request["kill_seconds"])
        self._group = ControlGroup.create(request["group"]) if request["group"] else None
        self._pump = OutputPump(BoundedLog(request["log"]))
        try:
            self._renderer = start_program(
                request["command"],
                cwd=request["cwd"],
                env=request["env"],
                output=self._pump.write_end,
                group=self._group,
                table=self._table,
                account=request["account"],
            )
        except OSError as error:
            if self._group:
                self._group.remove()
            self._channel.send({"failed": [error.errno, error.filename]})
            self._channel.close()
            return False
        self._tree = ProcessTree(self._table, os.getpid(), tag=request["tag"], group=self._group)
        self._tree.session = self._renderer
        self._channel.send({"started": self._renderer})
        self._pump.start()
        return True

    def _handle(self, order: Message) -> None:
        stopping = self._phase in (Phase.TERMINATING, Phase.KILLING)
        match order["do"]:
            case "stop":
                self._orders[Phase.GONE].append(order["id"])
                self._stop(float(order["grace_seconds"]))
            case "freeze" if not stopping:
                self._orders[Phase.FROZEN].append(order["id"])
                self._enter(Phase.FREEZING)
                self._quiet_looks = 0
            case "thaw" if not stopping:
                self._enter(Phase.RUNNING)
                self._tree.thaw()
                self._answer(Phase.FROZEN)
                self._channel.send({"id": order["id"]})
            case _:
                self._channel.send({"id": order["id"]})

    def _stop(self, grace_seconds: float) -> None:
        if self._phase is Phase.KILLING:
            self._give_up_at = min(self._give_up_at, time.monotonic() + self._kill_seconds)
        elif grace_seconds <= 0:
            self._begin_kill()
        else:
            if self._phase is not Phase.TERMINATING:
                self._enter(Phase.TERMINATING)
                self._answer(Phase.FROZEN)
                self._tree.terminate()
            self._kill_at = min(self._kill_at, time.monotonic() + grace_seconds)

    def _begin_kill(self) -> None:
        if self._phase not in (Phase.KILLING, Phase.GONE):
            self._enter(Phase.KILLING)
            self._answer(Phase.FROZEN)
            self._give_up_at = time.monotonic() + self._kill_seconds

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._pause = _FIRST_PAUSE

    def _answer(self, phase: Phase, **fields: object) -> None:
        for order in self._orders[phase]:
            self._channel.send({"id": order, **fields})
        self._orders[phase].clear()

    def _step(self) -> float:
        """Do one step towards the phase; return the seconds until the next step is due."""
        childless = self._reap()
        now = time.monotonic()
        if now >= self._sample_at:
            self._sample_at = now + _SAMPLE_SECONDS
            self._channel.send({"usage": self._meter.sample()}, droppable=True)
        if self._phase is Phase.FREEZING:
            self._freeze()
        elif self._phase is Phase.TERMINATING:
            if now >= self._kill_at or self._looks_empty(childless):
                self._begin_kill()
            else:
                self._tree.signal_again()
        if self._phase is Phase.KILLING:
            self._kill(now, childless)
        pauses = [self._sample_at - now]
        if not self._report_exit(now):
            pauses.append(_FIRST_PAUSE)
        if self._phase in (Phase.FREEZING, Phase.TERMINATING, Phase.KILLING):
            # As long as the step took, at least: where a look at all processes takes long, half of a core is enough.
            pause = max(self._pause, time.monotonic() - now)
            pauses.append(min(pause, max(0.0, self._kill_at - now)) if now < self._kill_at else pause)
            self._pause = min(self._pause * 1.5, _LAST_PAUSE)
        return 0.0 if self._phase is Phase.GONE else min(pauses)

    def _freeze(self) -> None:
        self._quiet_looks = self._quiet_looks + 1 if self._tree.freeze() else 0
        if self._quiet_looks >= PROOF_LOOKS:
            self._enter(Phase.FROZEN)
            self._answer(Phase.FROZEN)

    def _kill(self, now: float, childless: bool) -> None:
        if self._is_empty(childless):
            self._phase = Phase.GONE
            return
        survivors = self._tree.kill()
        if now >= self._give_up_at:
            self._give_up_at = math.inf
            self._answer(Phase.GONE, survivors=[entry.pid for entry in survivors])
        if self._give_up_at == math.inf:
            self._pause = _SURVIVOR_PAUSE

    def _looks_empty(self, childless: bool) -> bool:
        # Orphans become children of this process, so without a child there is no descendant either.
        return childless if self._table.exact else not self._tree.find_members()

    def _is_empty(self, childless: bool) -> bool:
        if not self._looks_empty(childless):
            return False
        look = self._tree.find_unparented if self._table.exact else self._tree.find_members
        return not any(look() for _ in range(PROOF_LOOKS))

    def _reap(self) -> bool:
        """Reap ended children; return whether no child is left."""
        try:
            while ended := self._meter.reap():
                pid, code = ended
                if pid == self._renderer:
                    self._code = code
                    self._drain_until = time.monotonic() + _DRAIN_SECONDS
        except ChildProcessError:
            return True
        return False

    def _report_exit(self, now: float) -> bool:
        """Report the exit code once the output is in the log; return false while that must wait."""
        if self._code is None or self._exit_reported or not self._reports_end:
            return True
        if self._output_mark is None:
            self._output_mark = self._pump.count_printed()
        if now < self._drain_until and (self._output_mark is None or not self._pump.has_logged(self._output_mark)):
            return False
        self._channel.send({"usage": self._meter.sample()})
        self._channel.send({"exited": self._code})
        self._exit_reported = True
        return True

    def _finish(self) -> None:
        # No process is left that could write, so the pump reaches the end of the pipe.
        self._pump.wait_for_end(_DRAIN_SECONDS)
        with contextlib.suppress(ChildProcessError):
            self._reap()
        self._report_exit(math.inf)
        if self._group:
            self._group.remove()
        if self._reports_end:
            self._channel.send({"usage": self._meter.sample()})
            self._channel.send({"stopped": True})
        self._channel.close()
