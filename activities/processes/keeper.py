"""A keeper: the process that starts one render, owns all that comes of it, and ends it."""

import contextlib
import enum
import math
import os
import select
import signal
import socket
import sys
import time

from activities.processes.child import BoundedLog, OutputPump, launch
from activities.processes.ipc import Message, Messages, SignalInbox, encode
from activities.processes.process_table import ProcessTable
from activities.processes.process_tree import PROOF_LOOKS, ControlGroup, ProcessTree

# How long the last words may take when the worker is slow to read.
_LAST_WORDS_SECONDS = 5.0


class KeeperChannel:
    """Hears orders and signals, and says what happens, without ever waiting for a worker that does not read."""

    def __init__(self, channel: socket.socket, inbox: SignalInbox) -> None:
        self._channel = channel
        self._inbox = inbox
        self._messages = Messages()
        self._pending = bytearray()
        self.is_open = True

    def first(self) -> Message | None:
        """Return what the worker wants at first, or None when it has gone."""
        while data := self._channel.recv(1 << 20):
            if messages := self._messages.feed(data):
                self._channel.setblocking(False)
                return messages[0]
        return None

    def wait(self, seconds: float) -> tuple[list[Message], set[int]]:
        """Return the orders and signals that come, after the time at the latest."""
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

    def say(self, message: Message, *, droppable: bool = False) -> None:
        """Send a message as soon as that can be; or, when others wait already, not at all."""
        if not self.is_open or (droppable and self._pending):
            return
        self._pending += encode(message)
        self._flush()

    def close(self) -> None:
        """Send what is left, and say that there will be no more."""
        with contextlib.suppress(OSError):
            self._channel.settimeout(_LAST_WORDS_SECONDS)
            self._channel.sendall(self._pending)
        # Told, not only closed: a thread that waits for a hanging store may keep this process from ending.
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
    """Sums up CPU time, bytes and memory of all children, living and ended."""

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self._ended_cpu = 0.0
        self._ended_io = 0
        self._cpu = self._seen_cpu = 0.0
        self._io = self._seen_io = 0
        self._peak_memory = 0

    def reap(self) -> tuple[int, int] | None:
        """Bury one dead child; return its pid and exit code, or None when none is dead.

        Raises:
            ChildProcessError: There are no children at all.
        """
        pid = -1
        if self._table.exact:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if dead is None:
                return None
            pid = dead.si_pid
            # Gone with the zombie.
            self._ended_io += self._table.io_bytes(pid)
        pid, status, used = os.wait4(pid, os.WNOHANG)
        if pid == 0:
            return None
        self._ended_cpu += used.ru_utime + used.ru_stime
        self._peak_memory = max(self._peak_memory, used.ru_maxrss * _MAXRSS_BYTES)
        return pid, os.waitstatus_to_exitcode(status)

    def sample(self) -> list[float]:
        """Return the fields of `Usage`."""
        living = self._table.below(os.getpid())
        memory = sum(entry.memory_bytes for entry in living)
        self._peak_memory = max(self._peak_memory, memory)
        # Grows only: what a child used that nobody waited for is lost to the host, and not taken back here.
        cpu = self._ended_cpu + sum(entry.cpu_seconds for entry in living)
        self._cpu, self._seen_cpu = self._cpu + max(0.0, cpu - self._seen_cpu), cpu
        io = self._ended_io + sum(self._table.io_bytes(entry.pid) for entry in living)
        self._io, self._seen_io = self._io + max(0, io - self._seen_io), io
        return [round(self._cpu, 6), self._io, memory, self._peak_memory, len(living)]


_SAMPLE_SECONDS = 1.0

# What was printed before the end should be in the log when the end is told; a store that hangs delays it by this.
_DRAIN_SECONDS = 2.0

# Looks at a tree that is about to stand still or to end come soon at first, and then less and less often.
_FIRST_PAUSE = 0.002
_LAST_PAUSE = 0.1
# After the survivors were named.
_SURVIVOR_PAUSE = 1.0


class Phase(enum.Enum):
    """What a keeper wants of its tree."""

    RUNNING = enum.auto()
    FREEZING = enum.auto()
    FROZEN = enum.auto()
    TERMINATING = enum.auto()
    KILLING = enum.auto()
    GONE = enum.auto()


class Keeper:
    """Runs in a process of its own, forked off the supervisor; returns when nothing of the render is left."""

    def __init__(self, channel: socket.socket, table: ProcessTable) -> None:
        self._table = table
        self._line = KeeperChannel(channel, SignalInbox(signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP))
        self._meter = UsageMeter(table)
        self._phase = Phase.RUNNING
        self._pause = _FIRST_PAUSE
        self._orders: dict[Phase, list[int]] = {Phase.FROZEN: [], Phase.GONE: []}
        self._kill_at = self._give_up_at = math.inf
        self._quiet_looks = 0
        self._code: int | None = None
        self._code_told = False
        self._mark: int | None = None
        self._drain_until = math.inf
        self._sample_at = 0.0
        self._loyal = True

    def run(self) -> None:
        """Serve one render to its end."""
        os.setsid()
        self._table.adopt_orphans()
        self._table.call_itself("longtake-keeper")
        request = self._line.first()
        if request is None or not self._start(request):
            return
        while self._phase is not Phase.GONE:
            orders, signals = self._line.wait(self._step())
            for order in orders:
                self._obey(order)
            if not self._line.is_open or signals & {signal.SIGTERM, signal.SIGHUP}:
                # The worker is gone, or an operator wants this one to go: the render ends at once.
                self._loyal = self._loyal and not signals & {signal.SIGTERM, signal.SIGHUP}
                self._begin_kill()
        self._finish()

    def _start(self, request: Message) -> bool:
        self._kill_seconds = float(request["kill_seconds"])
        self._group = ControlGroup.made(request["group"]) if request["group"] else None
        self._pump = OutputPump(BoundedLog(request["log"]))
        try:
            self._renderer = launch(
                request["command"],
                cwd=request["cwd"],
                env=request["env"],
                output=self._pump.writing,
                group=self._group,
                table=self._table,
            )
        except OSError as error:
            if self._group:
                self._group.remove()
            self._line.say({"failed": [error.errno, error.filename]})
            self._line.close()
            return False
        self._tree = ProcessTree(self._table, os.getpid(), tag=request["tag"], group=self._group)
        self._tree.session = self._renderer
        self._line.say({"started": self._renderer})
        self._pump.start()
        return True

    def _obey(self, order: Message) -> None:
        stopping = self._phase in (Phase.TERMINATING, Phase.KILLING)
        match order["do"]:
            case "stop":
                self._orders[Phase.GONE].append(order["id"])
                self._stop(float(order["grace_seconds"]))
            case "freeze" if not stopping:
                self._orders[Phase.FROZEN].append(order["id"])
                self._turn_to(Phase.FREEZING)
                self._quiet_looks = 0
            case "thaw" if not stopping:
                self._turn_to(Phase.RUNNING)
                self._tree.thaw()
                self._answer(Phase.FROZEN)
                self._line.say({"id": order["id"]})
            case _:
                self._line.say({"id": order["id"]})

    def _stop(self, grace_seconds: float) -> None:
        if self._phase is Phase.KILLING:
            self._give_up_at = min(self._give_up_at, time.monotonic() + self._kill_seconds)
        elif grace_seconds <= 0:
            self._begin_kill()
        else:
            if self._phase is not Phase.TERMINATING:
                self._turn_to(Phase.TERMINATING)
                self._answer(Phase.FROZEN)
                self._tree.terminate()
            self._kill_at = min(self._kill_at, time.monotonic() + grace_seconds)

    def _begin_kill(self) -> None:
        if self._phase not in (Phase.KILLING, Phase.GONE):
            self._turn_to(Phase.KILLING)
            self._answer(Phase.FROZEN)
            self._give_up_at = time.monotonic() + self._kill_seconds

    def _turn_to(self, phase: Phase) -> None:
        self._phase = phase
        self._pause = _FIRST_PAUSE

    def _answer(self, phase: Phase, **words: object) -> None:
        for order in self._orders[phase]:
            self._line.say({"id": order, **words})
        self._orders[phase].clear()

    def _step(self) -> float:
        """Do what there is to do now; return the seconds until there is more."""
        childless = self._reap()
        now = time.monotonic()
        if now >= self._sample_at:
            self._sample_at = now + _SAMPLE_SECONDS
            self._line.say({"usage": self._meter.sample()}, droppable=True)
        if self._phase is Phase.FREEZING:
            self._freeze()
        elif self._phase is Phase.TERMINATING:
            if now >= self._kill_at or self._looks_empty(childless):
                self._begin_kill()
            else:
                self._tree.insist()
        if self._phase is Phase.KILLING:
            self._kill(now, childless)
        pauses = [self._sample_at - now]
        if not self._tell_exit(now):
            pauses.append(_FIRST_PAUSE)
        if self._phase in (Phase.FREEZING, Phase.TERMINATING, Phase.KILLING):
            pauses.append(min(self._pause, max(0.0, self._kill_at - now)) if now < self._kill_at else self._pause)
            self._pause = min(self._pause * 1.5, _LAST_PAUSE)
        return 0.0 if self._phase is Phase.GONE else min(pauses)

    def _freeze(self) -> None:
        self._quiet_looks = self._quiet_looks + 1 if self._tree.freeze() else 0
        if self._quiet_looks >= PROOF_LOOKS:
            self._turn_to(Phase.FROZEN)
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
        # Without a child there is no descendant either, because orphans come here.
        return childless if self._table.exact else not self._tree.members()

    def _is_empty(self, childless: bool) -> bool:
        if not self._looks_empty(childless):
            return False
        look = self._tree.strangers if self._table.exact else self._tree.members
        return not any(look() for _ in range(PROOF_LOOKS))

    def _reap(self) -> bool:
        """Bury the dead; return whether no child is left."""
        try:
            while ended := self._meter.reap():
                pid, code = ended
                if pid == self._renderer:
                    self._code = code
                    self._drain_until = time.monotonic() + _DRAIN_SECONDS
        except ChildProcessError:
            return True
        return False

    def _tell_exit(self, now: float) -> bool:
        """Return whether there is nothing to tell, or it is told: not before what was printed is in the log."""
        if self._code is None or self._code_told or not self._loyal:
            return True
        if self._mark is None:
            self._mark = self._pump.mark()
        if now < self._drain_until and (self._mark is None or not self._pump.is_past(self._mark)):
            return False
        self._line.say({"usage": self._meter.sample()})
        self._line.say({"exited": self._code})
        self._code_told = True
        return True

    def _finish(self) -> None:
        # No writer is left.
        self._pump.ended_within(_DRAIN_SECONDS)
        with contextlib.suppress(ChildProcessError):
            self._reap()
        self._tell_exit(math.inf)
        if self._group:
            self._group.remove()
        if self._loyal:
            self._line.say({"usage": self._meter.sample()})
            self._line.say({"stopped": True})
        self._line.close()
