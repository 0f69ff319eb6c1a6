"""A burst: commands of a span that their keeper starts one after the other, without a word of its worker in between.

What is not as usual ends the burst: a command that prints, fails, takes long or leaves a process behind, and each order
of the worker. The command at hand is then kept as if it had been started alone, and those after it are not begun.

Standard library only: see `supervisor_main`.
"""

import contextlib
import fcntl
import os
import signal
import struct
import termios
import time
from typing import NamedTuple

from activities.processes.child import execute_program, make_output_pipe, start_program
from activities.processes.ipc import KeeperChannel, Message
from activities.processes.process_table import ProcessTable
from activities.processes.process_tree import ProcessTree

# A command that takes longer gets its priority, and is moved into the cgroup of its span, which costs a look at all
# descendants.
_GROUP_SECONDS = 0.1

# Results wait for those after them so long, so that a message holds several.
_RESULTS_SECONDS = 0.03

# High enough for scripts that open descriptors by number, and within the table that a process has in any case.
_LIFELINE_NUMBER = 63


class Lifeline:
    """A pipe that has the kernel kill a process group when the calling process dies.

    In place of PDEATHSIG, which a process can ask for between its fork and its program only: such a fork takes longer
    than the start of the program. The kernel signals the owner of the reading end when the last writing end closes, as
    long as a process has the reading end: each program gets it.
    """

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()
        fcntl.fcntl(self.read_end, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(self.read_end, fcntl.F_SETFL, fcntl.fcntl(self.read_end, fcntl.F_GETFL) | os.O_ASYNC)

    def hold(self, group: int) -> None:
        """Have this process group die with the calling process, and no other one any more."""
        fcntl.fcntl(self.read_end, fcntl.F_SETOWN, -group)


class BegunCommand:
    """A command of a burst that was started.

    Args:
        pid: The renderer.
        pipe: Both ends of the pipe that it prints to.
        began: When it was started, by the monotonic clock.

    Attributes:
        seconds: How long it ran.
        code: Its exit code, once it has ended.
        cpu_seconds: CPU time of all of its processes that were reaped.
        peak_memory_bytes: Most memory that one of them had.
        has_orphans: Whether it has left a process behind.
        is_childless: Whether nothing of it is left: its keeper adopts orphans.
    """

    def __init__(self, pid: int, pipe: tuple[int, int], began: float) -> None:
        self.pid = pid
        self.pipe = pipe
        self._began = began
        self.seconds = 0.0
        self.code: int | None = None
        self.cpu_seconds = 0.0
        self.peak_memory_bytes = 0
        self.has_orphans = self.is_childless = False

    def reap(self) -> None:
        """Take note of what has ended."""
        self.seconds = time.monotonic() - self._began
        try:
            while True:
                pid, status, used = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                self.cpu_seconds += used.ru_utime + used.ru_stime
                # In kibibytes: bursts are for Linux alone.
                self.peak_memory_bytes = max(self.peak_memory_bytes, used.ru_maxrss * 1024)
                if pid == self.pid:
                    self.code = os.waitstatus_to_exitcode(status)
                else:
                    self.has_orphans = True
        except ChildProcessError:
            self.is_childless = True

    @property
    def has_printed(self) -> bool:
        """Whether it has printed anything until now."""
        (waiting,) = struct.unpack("i", fcntl.ioctl(self.pipe[0], termios.FIONREAD, b"\0" * 4))
        return bool(waiting)

    @property
    def is_as_usual(self) -> bool:
        """Whether it has ended well and in silence, and nothing of it is left."""
        return self.code == 0 and self.is_childless and not self.has_orphans and not self.has_printed


class UnusualCommand(NamedTuple):
    """The command that ended a burst, and what came meanwhile."""

    # As if it were started alone.
    request: Message
    begun: BegunCommand
    orders: list[Message]
    signals: set[int]


class BurstRunner:
    """Runs bursts in a keeper.

    Args:
        channel: The worker's orders.
        table: The processes of the host.
        tree: The processes of all commands of the keeper.
    """

    def __init__(self, channel: KeeperChannel, table: ProcessTable, tree: ProcessTree) -> None:
        self._channel = channel
        self._table = table
        self._tree = tree
        self._lifeline: Lifeline | None = None
        with contextlib.suppress(OSError):
            # Some sandboxes know no signals of pipes; programs are forked there.
            self._lifeline = Lifeline()
        self._nothing = os.open(os.devnull, os.O_RDONLY)
        # Of commands that have printed nothing until now.
        self._pipe: tuple[int, int] | None = None
        self._results: list[tuple[float, int, float]] = []
        self._sent_at = 0.0
        # Whether an operator has ended the keeper, when no command was at hand any more.
        self.is_ended = False

    def run(self, request: Message) -> UnusualCommand | None:
        """Run commands in turn, and report how they have ended; return the one that the burst was left for.

        Args:
            request: What commands have in common, and in what each differs.
        """
        self._sent_at = time.monotonic()
        unusual = None
        # Where a command cannot be started, the worker starts it alone, and hears why.
        with contextlib.suppress(OSError):
            os.chdir(request["cwd"])
            unusual = self._run_commands(request, request["commands"])
        os.chdir("/")
        self._report(over=True, kept=None if unusual is None else unusual.begun.pid)
        return unusual

    def _run_commands(self, common: Message, commands: list[Message]) -> UnusualCommand | None:
        for command in commands:
            if self._channel.has_put_back:
                break
            request = {**common, **command, "env": common["env"] | command["tag"]}
            try:
                begun = self._start(request)
            except (OSError, ValueError):
                break
            unusual, goes_on = self._follow(request, begun)
            if not goes_on:
                return unusual
        return None

    def _follow(self, request: Message, begun: BegunCommand) -> tuple[UnusualCommand | None, bool]:
        """Wait for the end of a command; return it where it is not as usual, and whether the burst goes on."""
        longest = float(request["longest_seconds"])
        is_in_group = False
        while True:
            pause = (longest if is_in_group else min(longest, _GROUP_SECONDS)) - begun.seconds
            if self._results:
                pause = min(pause, self._sent_at + _RESULTS_SECONDS - time.monotonic())
            orders, signals = self._channel.wait(pause, also=begun.pipe[0])
            begun.reap()
            self._report_if_due()
            if begun.seconds >= _GROUP_SECONDS and not is_in_group:
                self._tree.fill_group()
                is_in_group = True
                if request["nice"] and begun.code is None:
                    self._table.lower_priority(begun.pid, request["nice"])
            # The other signals wake this process up.
            signals -= {0, signal.SIGCHLD}
            is_interrupted = bool(orders or signals) or not self._channel.is_open
            has_ended = begun.is_childless or begun.code is not None
            if is_interrupted or has_ended or begun.seconds >= longest or begun.has_printed:
                break
        if not begun.is_as_usual or (is_in_group and self._tree.has_group_members()):
            # What it prints is its own.
            self._pipe = None
            return UnusualCommand(request, begun, orders, signals), False
        self._results.append((round(begun.cpu_seconds, 6), begun.peak_memory_bytes, round(begun.seconds, 6)))
        self._report_if_due()
        self._channel.put_back(orders)
        self.is_ended = bool(signals)
        return None, not is_interrupted

    def _start(self, request: Message) -> BegunCommand:
        if self._pipe is None:
            self._pipe = make_output_pipe()
        (_, write_end), began = self._pipe, time.monotonic()
        if self._lifeline is not None and request["account"] is None:
            pid = execute_program(
                request["command"],
                env=request["env"],
                descriptors={0: self._nothing, 1: write_end, 2: write_end, _LIFELINE_NUMBER: self._lifeline.read_end},
            )
            with contextlib.suppress(OSError):
                # It has ended by now.
                self._lifeline.hold(pid)
            self._table.kill_first(pid)
        else:
            pid = start_program(
                request["command"],
                cwd=request["cwd"],
                env=request["env"],
                output=write_end,
                group=None,
                table=self._table,
                nice=request["nice"],
                account=request["account"],
            )
        self._tree.add_tag(request["tag"])
        return BegunCommand(pid, self._pipe, began)

    def _report_if_due(self) -> None:
        if self._results and time.monotonic() - self._sent_at >= _RESULTS_SECONDS:
            self._report()

    def _report(self, **fields: object) -> None:
        self._channel.send({"results": self._results, **fields})
        self._results, self._sent_at = [], time.monotonic()
