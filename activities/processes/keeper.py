"""The keeper: the process that runs the commands of a span in turn, and measures, freezes and ends their processes.

On Linux all descendants of the keeper are the tree (PR_SET_CHILD_SUBREAPER). Standard library only: see
`supervisor_main`.
"""

import contextlib
import enum
import math
import os
import random
import signal
import socket
import sys
import time

from activities.processes.burst import BegunCommand, BurstRunner, UnusualCommand
from activities.processes.child import BoundedLog, OutputPump, SessionPipe, start_program
from activities.processes.ipc import KeeperChannel, Message, SignalInbox
from activities.processes.process_table import ProcessEntry, ProcessTable
from activities.processes.process_tree import PROOF_LOOKS, ControlGroup, ProcessTree

# An operator ends a keeper with these: its render ends at once, and counts as lost.
_END_SIGNALS = frozenset({signal.SIGTERM, signal.SIGHUP})

# macOS counts in bytes what Linux counts in kibibytes.
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


class UsageMeter:
    """Sums CPU time, I/O and memory of all children, living and ended.

    Args:
        table: The processes of the host.

    Attributes:
        living: The living children at the last sample.
    """

    def __init__(self, table: ProcessTable) -> None:
        self.living: list[ProcessEntry] = []
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

    def add_ended(self, cpu_seconds: float, peak_memory_bytes: int) -> None:
        """Add what children have used that were reaped elsewhere."""
        self._ended_cpu += cpu_seconds
        self._peak_memory = max(self._peak_memory, peak_memory_bytes)

    def sample(self, *, childless: bool = False) -> list[float]:
        """Measure all children, and return the fields of `Usage` in order.

        Args:
            childless: Whether no child is left that could be measured.
        """
        self.living = living = [] if childless else self._table.list_descendants(os.getpid())
        memory = sum(entry.memory_bytes for entry in living)
        self._peak_memory = max(self._peak_memory, memory)
        # Sums never fall: the host forgets what an unreaped child used, and this meter keeps it.
        cpu = self._ended_cpu + sum(entry.cpu_seconds for entry in living)
        self._cpu, self._seen_cpu = self._cpu + max(0.0, cpu - self._seen_cpu), cpu
        io = self._ended_io + sum(self._table.read_io_bytes(entry.pid) for entry in living)
        self._io, self._seen_io = self._io + max(0, io - self._seen_io), io
        return [round(self._cpu, 6), self._io, memory, self._peak_memory, len(living)]


_SAMPLE_SECONDS = 1.0
# The first sample: most commands that end before it have used nothing that anybody looks at meanwhile.
_FIRST_SAMPLE_SECONDS = 0.1

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


class CommandKeeper:
    """Keeps one command from its start until nothing of it is left.

    Args:
        channel: The worker's orders.
        inbox: Signals to this process.
        table: The processes of the host.
        tree: The processes of all commands of this keeper.
        request: What to start.
        begun: The command, where it was started as one of a burst.
    """

    def __init__(
        self,
        channel: KeeperChannel,
        inbox: SignalInbox,
        table: ProcessTable,
        tree: ProcessTree,
        request: Message,
        begun: BegunCommand | None = None,
    ) -> None:
        self._table = table
        self._channel = channel
        self._tree = tree
        self._meter = UsageMeter(table)
        self._kill_seconds = float(request["kill_seconds"])
        self._is_last = bool(request["last"])
        self._nice = int(request["nice"])
        # Process groups whose priority has been lowered.
        self._lowered: set[int] = set()
        # After the last command nobody else would look at all processes.
        self._needs_look = self._is_last or not table.exact
        self._session = SessionPipe(inbox.wake) if request.get("session") else None
        # Number of the order whose answer is waited for.
        self._asked: int | None = None
        on_output = self._session.read_output if self._session is not None else None
        pipe = begun.pipe if begun is not None else None
        self._pump = OutputPump(BoundedLog(request["log"]), inbox.wake, on_output, pipe)
        self._phase = Phase.RUNNING
        self._pause = _FIRST_PAUSE
        self._orders: dict[Phase, list[int]] = {Phase.FROZEN: [], Phase.GONE: []}
        self._kill_at = self._give_up_at = math.inf
        self._quiet_looks = 0
        self._code: int | None = None
        self._exit_reported = False
        self._output_mark: int | None = None
        self._drain_until = math.inf
        self._sample_at = time.monotonic() + _FIRST_SAMPLE_SECONDS
        # False after a signal to this keeper: then the worker counts the try as lost.
        self._reports_end = True
        # Whether the report of the exit has told that nothing is left.
        self._was_proven = False

    def run(self, request: Message) -> bool:
        """Start the command, obey the worker's orders, and return when nothing of it is left.

        Returns:
            Whether this process can keep another command.
        """
        if not self._start(request):
            return not self._is_last
        return self._keep([], set())

    def run_begun(self, unusual: UnusualCommand) -> bool:
        """Do as `run` for a command that was started as one of a burst."""
        begun = unusual.begun
        self._pump.close_write_end()
        self._meter.add_ended(begun.cpu_seconds, begun.peak_memory_bytes)
        self._needs_look = self._needs_look or begun.has_orphans
        self._renderer = self._tree.session = begun.pid
        self._tree.fill_group()
        if begun.code is not None:
            self._note_exit(begun.code)
        return self._keep(unusual.orders, unusual.signals)

    def _keep(self, orders: list[Message], signals: set[int]) -> bool:
        while True:
            self._pump.follow()
            for order in orders:
                self._handle(order)
            if not self._channel.is_open or signals & _END_SIGNALS:
                # The worker is gone, or an operator ends this keeper.
                self._reports_end = self._reports_end and not signals & _END_SIGNALS
                self._begin_kill()
            pause = self._step()
            if self._phase is Phase.GONE:
                return self._finish()
            orders, signals = self._channel.wait(pause, also=self._pump.quiet_end)

    def _start(self, request: Message) -> bool:
        reading = None
        try:
            if self._session is not None:
                reading = self._session.read_end
            elif (path := request.get("input")) is not None:
                reading = os.open(path, os.O_RDONLY)
            renderer = start_program(
                request["command"],
                cwd=request["cwd"],
                env=request["env"],
                output=self._pump.write_end,
                group=self._tree.group,
                table=self._table,
                nice=self._nice,
                account=request["account"],
                input=reading,
            )
        except OSError as error:
            self._pump.close_write_end()
            self._pump.close()
            if self._session is not None:
                self._session.close()
            self._channel.send({"failed": [error.errno, error.filename]})
            return False
        finally:
            if reading is not None:
                os.close(reading)
        self._pump.close_write_end()
        self._tree.add_tag(request["tag"])
        self._renderer = self._tree.session = renderer
        self._channel.send({"started": renderer})
        return True

    def _handle(self, order: Message) -> None:
        stopping = self._phase in (Phase.TERMINATING, Phase.KILLING)
        match order.get("do"):
            case None:
                # The worker waits for the end of this keeper.
                self._is_last = True
                self._begin_kill()
            case "stop":
                self._orders[Phase.GONE].append(order["id"])
                self._stop(float(order["grace_seconds"]))
            case "freeze" if not stopping:
                self._orders[Phase.FROZEN].append(order["id"])
                self._needs_look = True
                self._enter(Phase.FREEZING)
                self._quiet_looks = 0
            case "thaw" if not stopping:
                self._enter(Phase.RUNNING)
                self._tree.thaw()
                self._answer(Phase.FROZEN)
                self._channel.send({"id": order["id"]})
            case "ask" if self._session is not None and self._code is None and not stopping:
                self._asked = order["id"]
                self._pump.change_log(BoundedLog(order["log"]))
                if not self._session.ask(order["line"]):
                    self._report_answer(None)
            case _:
                self._channel.send({"id": order["id"]})

    def _stop(self, grace_seconds: float) -> None:
        if self._session is not None:
            self._session.close()
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
        if self._session is not None and (answer := self._session.take_answer()) is not None:
            self._report_answer(answer)
        if now >= self._sample_at:
            self._channel.send({"usage": self._meter.sample(childless=childless)}, droppable=True)
            # Sooner, and not in step with the other keepers that were refused: of 48 in step, one was served a second.
            self._sample_at = now + _SAMPLE_SECONDS * (1 if self._lower_priorities() else random.uniform(0.1, 1))
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
        if not self._report_exit(now, childless):
            pauses.append(_FIRST_PAUSE)
        if self._phase in (Phase.FREEZING, Phase.TERMINATING, Phase.KILLING):
            # As long as the step took, at least: where a look at all processes takes long, half of a core is enough.
            pause = max(self._pause, time.monotonic() - now)
            pauses.append(min(pause, max(0.0, self._kill_at - now)) if now < self._kill_at else pause)
            self._pause = min(self._pause * 1.5, _LAST_PAUSE)
        return min(pauses)

    def _lower_priorities(self) -> bool:
        """Lower the priority of what has a group of its own, and maybe a session, as launchers of browsers make.

        Returns:
            False where the kernel refused that, and wants to be asked again.
        """
        if not self._nice:
            return True
        # Of each group the process that is nearest to this one: parents stand before their children, and outlive them.
        groups = {entry.group: entry.pid for entry in reversed(self._meter.living)}
        known, lower = self._lowered, self._table.lower_priority
        self._lowered = {group for group, pid in groups.items() if group in known or lower(pid, self._nice)}
        return len(self._lowered) == len(groups)

    def _freeze(self) -> None:
        self._quiet_looks = self._quiet_looks + 1 if self._tree.freeze() else 0
        if self._quiet_looks >= PROOF_LOOKS:
            self._enter(Phase.FROZEN)
            self._answer(Phase.FROZEN)

    def _kill(self, now: float, childless: bool) -> None:
        if self._looks_empty(childless) and self._tree.prove_empty():
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

    def _reap(self) -> bool:
        """Reap ended children; return whether no child is left."""
        try:
            while ended := self._meter.reap():
                pid, code = ended
                if pid == self._renderer:
                    self._note_exit(code)
                else:
                    # The renderer has left it behind, or any other process of the tree, and it may have told others
                    # to go on.
                    self._needs_look = True
        except ChildProcessError:
            return True
        return False

    def _note_exit(self, code: int) -> None:
        self._code = code
        self._drain_until = time.monotonic() + _DRAIN_SECONDS

    def _report_exit(self, now: float, childless: bool) -> bool:
        """Report the exit code once the output is in the log; return false while that must wait.

        A renderer that has ended without descendants is gone: its keeper adopts orphans, so that no child of the
        keeper means no descendant of the renderer. Told with the exit code, that saves the worker the order to stop.
        """
        if self._code is None or self._exit_reported or not self._reports_end:
            return True
        # The log of a command that has failed is there, whatever it printed.
        self._pump.follow(even_if_quiet=self._code != 0)
        if now < self._drain_until and not self._has_logged(childless):
            return False
        usage, printed = self._meter.sample(childless=childless), self._pump.has_printed
        message = {"usage": usage, "exited": self._code, "printed": printed}
        if childless and self._phase is Phase.RUNNING and not self._needs_look and not self._tree.has_group_members():
            message["stopped"] = self._was_proven = True
            self._phase = Phase.GONE
        if self._session is not None:
            # Before its end is told, which answers all that is still waited for.
            self._report_answer(self._session.take_answer())
        self._channel.send(message)
        self._exit_reported = True
        return True

    def _report_answer(self, answer: str | None) -> None:
        """Report the answer of a session: empty for done, or why it has failed; None where none will come."""
        if self._asked is not None:
            self._channel.send({"usage": self._meter.sample()})
            self._channel.send({"id": self._asked, "answer": answer})
            self._asked = None

    def _has_logged(self, childless: bool) -> bool:
        if childless:
            # Nobody is left that could write.
            return self._pump.wait_for_end(0)
        if self._output_mark is None:
            self._output_mark = self._pump.count_printed()
        return self._output_mark is not None and self._pump.has_logged(self._output_mark)

    def _finish(self) -> bool:
        # No process is left that could write, so the pump reaches the end of the pipe.
        is_drained = self._pump.wait_for_end(_DRAIN_SECONDS)
        self._pump.close()
        if self._session is not None:
            self._session.close()
        if self._was_proven:
            return is_drained
        with contextlib.suppress(ChildProcessError):
            self._reap()
        self._report_exit(math.inf, childless=False)
        if self._is_last and self._tree.group:
            self._tree.group.remove()
        if self._reports_end:
            self._channel.send({"usage": self._meter.sample()})
            self._channel.send({"stopped": True})
        return is_drained and self._reports_end and not self._is_last


class Keeper:
    """Keeps the commands of a span, one after the other, in a process forked off the supervisor.

    Args:
        channel: Socket to the worker.
        table: The processes of the host.
    """

    def __init__(self, channel: socket.socket, table: ProcessTable) -> None:
        self._table = table
        self._inbox = SignalInbox(signal.SIGCHLD, *_END_SIGNALS)
        self._channel = KeeperChannel(channel, self._inbox)
        self._tree = ProcessTree(table, os.getpid(), tag={})
        self._bursts: BurstRunner | None = None

    def run(self) -> None:
        """Run commands until the worker wants no more, and return when nothing of any of them is left."""
        os.setsid()
        self._table.adopt_orphans()
        self._table.set_name("longtake-keeper")
        while (request := self._next_request()) is not None:
            if self._tree.group is None and request["group"]:
                self._tree.group = ControlGroup.create(request["group"])
            if not (self._run_burst(request) if "commands" in request else self._keep_command(request)):
                break
        self._end()

    def _keep_command(self, request: Message) -> bool:
        return CommandKeeper(self._channel, self._inbox, self._table, self._tree, request).run(request)

    def _run_burst(self, request: Message) -> bool:
        """Run commands in turn, and keep the one that ended the burst; return whether another request is taken."""
        if self._bursts is None:
            self._bursts = BurstRunner(self._channel, self._table, self._tree)
        unusual = self._bursts.run(request)
        if unusual is None:
            return not self._bursts.is_ended
        begun = unusual.begun
        command = CommandKeeper(self._channel, self._inbox, self._table, self._tree, unusual.request, begun)
        return command.run_begun(unusual)

    def _next_request(self) -> Message | None:
        """Wait for the worker's next command; None when there is none."""
        while self._channel.is_open:
            messages, signals = self._channel.wait()
            if signals & _END_SIGNALS:
                break
            for number, message in enumerate(messages):
                if "end" in message:
                    return None
                if "command" in message or "commands" in message:
                    # A burst may be ended before anything is heard of it.
                    self._channel.put_back(messages[number + 1 :])
                    return message
                # An order to a command that had ended meanwhile.
                self._channel.send({"id": message["id"]})
        return None

    def _end(self) -> None:
        """End what carries a tag of these commands and is no descendant of theirs."""
        while not self._tree.prove_empty():
            self._tree.kill()
            time.sleep(_LAST_PAUSE)
        if self._tree.group:
            self._tree.group.remove()
        self._channel.send({"ended": True})
        self._channel.close()
