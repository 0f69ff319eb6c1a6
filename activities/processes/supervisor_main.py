"""The supervisor: a small process beside a worker that forks a keeper for each render and outlives them all.

Run by `Supervisor`, with the descriptor of its socket and `exact` or `portable`.
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
from activities.processes.linux_table import process_table
from activities.processes.process_table import ProcessTable
from activities.processes.process_tree import ProcessTree

# The number of a render: to start its keeper, with the keeper's socket; and back when all of it is gone.
NUMBER = struct.Struct("!Q")

# A keeper whose worker has gone is done long before, unless it was stopped itself.
_PATIENCE_SECONDS = 5.0

_FIRST_PAUSE = 0.002
_LAST_PAUSE = 0.5

_HELD_BACK = {signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP}


class SupervisorProcess:
    """Forks keepers, and kills whatever comes back to it without one: its keeper was killed."""

    def __init__(self, control: socket.socket, table: ProcessTable) -> None:
        self._control = control
        self._table = table
        self._inbox = SignalInbox(*_HELD_BACK)
        self._keepers: dict[int, int] = {}
        self._orphans = ProcessTree(table, os.getpid(), tag={}, spared=lambda: frozenset(self._keepers))
        self._dying: list[int] = []
        self._ending = False
        self._kill_keepers_at = math.inf
        self._pause = _FIRST_PAUSE

    def run(self) -> None:
        """Serve until the worker has gone and nothing that was started for it is left."""
        while True:
            idle = self._bury()
            if self._ending and idle and not self._keepers:
                return
            # With nothing to kill, the end of a keeper is what wakes it.
            calm = _LAST_PAUSE if self._ending else None
            self._wait(calm if idle else self._pause)
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
            # The worker has gone. Its keepers know it from their own sockets.
            self._end()

    def _end(self) -> None:
        self._ending = True
        self._kill_keepers_at = min(self._kill_keepers_at, time.monotonic() + _PATIENCE_SECONDS)

    def _fork(self, number: int, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        # A signal to the keeper that it cannot tell from one to this process must wait.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        try:
            pid = os.fork()
        except OSError:
            # Too many processes: the worker sees its socket close.
            self._dying.append(number)
        else:
            if pid == 0:
                self._become_keeper(descriptor)
            self._keepers[pid] = number
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
        os.close(descriptor)

    def _become_keeper(self, descriptor: int) -> None:
        code = 1
        try:
            self._inbox.close()
            self._control.close()
            keeper = Keeper(socket.socket(fileno=descriptor), self._table)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
            keeper.run()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _bury(self) -> bool:
        """Reap the dead and kill orphans; return whether none is left."""
        with contextlib.suppress(ChildProcessError):
            while True:
                ended, status = os.waitpid(-1, os.WNOHANG)
                if ended == 0:
                    break
                # One that ends as it should has proven before that nothing is left.
                if (number := self._keepers.pop(ended, None)) is not None and status != 0:
                    self._dying.append(number)
        if not self._dying:
            return True
        if self._orphans.kill_all_seen():
            self._pause = min(self._pause * 1.5, _LAST_PAUSE)
            return False
        with contextlib.suppress(OSError):
            for number in self._dying:
                self._control.send(NUMBER.pack(number))
        self._dying.clear()
        return True

    def _signal_keepers(self, number: signal.Signals) -> None:
        for pid in self._keepers:
            os.kill(pid, number)


def main() -> None:
    """Run as the program of a worker."""
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    table = process_table(exact=sys.argv[2] == "exact")
    table.adopt_orphans()
    table.call_itself("longtake-superv")
    # Forks share what no collection moves.
    gc.collect()
    gc.freeze()
    SupervisorProcess(control, table).run()


if __name__ == "__main__":
    main()
