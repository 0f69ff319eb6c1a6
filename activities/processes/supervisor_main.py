"""The supervisor: a small process beside a worker that forks a keeper for each span and outlives all of them.

`Supervisor` starts it, with the descriptor of a socket and `exact` or `portable`. Each keeper is a fork of it, so what
this module imports is paid by every keeper: the standard library only, without asyncio and dataclasses.
"""

import contextlib
import gc
import math
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback

from activities.processes.ipc import SignalInbox
from activities.processes.keeper import Keeper
from activities.processes.linux_table import forbid_reading, process_table
from activities.processes.process_table import ProcessTable
from activities.processes.process_tree import ProcessTree

# A message is the number of a keeper: to the supervisor, with the keeper's socket, to fork it; from the supervisor,
# when the keeper has ended and nothing of its renders is left.
NUMBER = struct.Struct("!Q")

# A keeper whose worker has gone ends long before this, unless it was stopped by a signal.
_KEEPER_END_SECONDS = 5.0

_FIRST_PAUSE = 0.002
_LAST_PAUSE = 0.5

_BLOCKED_DURING_FORK = {signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP}


class SupervisorProcess:
    """Forks keepers, and kills the orphans of keepers that were killed.

    Args:
        control: Socket to the worker.
        table: The processes of the host.
    """

    def __init__(self, control: socket.socket, table: ProcessTable) -> None:
        self._control = control
        self._table = table
        self._inbox = SignalInbox(*_BLOCKED_DURING_FORK)
        self._keepers: dict[int, int] = {}
        self._orphans = ProcessTree(table, os.getpid(), tag={}, excluded=lambda: frozenset(self._keepers))
        self._lost: list[int] = []
        self._ending = False
        self._kill_keepers_at = math.inf
        self._pause = _FIRST_PAUSE

    def run(self) -> None:
        """Fork keepers until the worker has gone and no process that was started for it is left."""
        while True:
            idle = self._reap()
            if self._ending and idle and not self._keepers:
                return
            # With nothing to kill, SIGCHLD wakes this process when a keeper ends.
            idle_pause = _LAST_PAUSE if self._ending else None
            self._wait(idle_pause if idle else self._pause)
            if time.monotonic() >= self._kill_keepers_at:
                self._signal_keepers(signal.SIGKILL)

    def _wait(self, seconds: float | None) -> None:
        poll = select.poll()
        poll.register(self._inbox.fileno(), select.POLLIN)
        if not self._ending:
            poll.register(self._control, select.POLLIN)
        ready = dict(poll.poll(None if seconds is None else seconds * 1000))
        if self._inbox.fileno() in ready:
            self._pause = _FIRST_PAUSE
            if self._inbox.take() & {signal.SIGTERM, signal.SIGHUP}:
                self._end()
                self._signal_keepers(signal.SIGTERM)
        if self._control.fileno() in ready and not self._ending:
            self._receive()

    def _receive(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, NUMBER.size, 1)
        except OSError:
            data, descriptors = b"", []
        if len(data) == NUMBER.size and descriptors:
            self._fork(NUMBER.unpack(data)[0], descriptors[0])
        else:
            # The worker has gone. Keepers notice by their own sockets.
            self._end()

    def _end(self) -> None:
        self._ending = True
        self._kill_keepers_at = min(self._kill_keepers_at, time.monotonic() + _KEEPER_END_SECONDS)

    def _fork(self, number: int, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        # Blocked until the keeper has an inbox of its own: before, its signals would be written to this process's.
        signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED_DURING_FORK)
        try:
            pid = os.fork()
        except OSError:
            # The host has too many processes. The worker sees the keeper's socket close.
            self._lost.append(number)
        else:
            if pid == 0:
                self._become_keeper(descriptor)
            self._keepers[pid] = number
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED_DURING_FORK)
        os.close(descriptor)

    def _become_keeper(self, descriptor: int) -> None:
        code = 1
        try:
            self._inbox.close()
            self._control.close()
            keeper = Keeper(socket.socket(fileno=descriptor), self._table)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED_DURING_FORK)
            keeper.run()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self) -> bool:
        """Reap ended children and kill orphans; return whether none is left."""
        with contextlib.suppress(ChildProcessError):
            while True:
                ended, status = os.waitpid(-1, os.WNOHANG)
                if ended == 0:
                    break
                if (number := self._keepers.pop(ended, None)) is None:
                    continue
                # A keeper that exits with 0 has proven that nothing of its renders is left. The worker may not know: a
                # keeper that got SIGTERM does not say so, and an order written to a closed socket (EPIPE) makes
                # asyncio drop the keeper's last messages.
                if status == 0:
                    self._report_gone([number])
                else:
                    self._lost.append(number)
        if not self._lost:
            return True
        if self._orphans.kill_twice():
            self._pause = min(self._pause * 1.5, _LAST_PAUSE)
            return False
        self._report_gone(self._lost)
        self._lost.clear()
        return True

    def _report_gone(self, numbers: list[int]) -> None:
        with contextlib.suppress(OSError):
            for number in numbers:
                self._control.send(NUMBER.pack(number))

    def _signal_keepers(self, number: signal.Signals) -> None:
        for pid in self._keepers:
            os.kill(pid, number)


def main() -> None:
    """Run the supervisor process of a worker."""
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    forbid_reading()
    table = process_table(exact=sys.argv[2] == "exact")
    table.adopt_orphans()
    table.set_name("longtake-superv")
    # Without this, garbage collection in a fork writes to shared pages and each keeper gets a copy of them.
    gc.collect()
    gc.freeze()
    SupervisorProcess(control, table).run()


if __name__ == "__main__":
    main()
