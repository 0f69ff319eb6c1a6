"""Turning a fork of a keeper into a renderer."""

import os
import signal
from collections.abc import Mapping, Sequence

from activities.processes.control_group import ControlGroup
from activities.processes.process_table import ProcessTable


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
