"""Renderers that are hard to end: each kind builds its tree of processes, writes a line, and waits."""

import os
import signal
import sys
import time
from collections.abc import Callable

kind, output, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
if output.endswith("/"):
    # A folder: each renderer gets a file of its own in it, which outlives the attempt.
    os.makedirs(output, exist_ok=True)
    output = f"{output}{os.getpid()}.txt"
# A test that fails leaves nothing behind for longer than this.
END = time.monotonic() + seconds


def say(line: str) -> None:
    """Append a line in one write."""
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line} {os.getpid()} {time.monotonic():.6f}\n".encode())
    os.close(descriptor)


def wait() -> None:
    """Live on until the end of the test, whatever becomes of the parent."""
    while time.monotonic() < END:
        time.sleep(0.05)


def child(work: Callable[[], None]) -> int:
    """Return the pid of a new child that does some work and ends."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def elsewhere() -> None:
    """Become a program that nothing but its command line ties to this one: own session, no environment, no output."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.execve(sys.executable, [sys.executable, "-S", "-E", __file__, "sleeper", output, str(seconds)], {})


def setsid_grandchild() -> None:
    def parent() -> None:
        child(elsewhere)
        wait()

    child(parent)


def double_fork() -> None:
    """Start a daemon: its parent is gone before it begins."""

    def parent() -> None:
        os.setsid()
        child(elsewhere)

    os.waitpid(child(parent), 0)


def detached_output() -> None:
    def silent() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        wait()

    child(silent)


def fork_for_ever() -> None:
    """Run through pids: each process lives some milliseconds and leaves a successor."""
    while time.monotonic() < END:
        time.sleep(0.002)
        if os.fork() > 0:
            os._exit(0)


def tick() -> None:
    """Keep the time of day in a file, for whoever wants to know whether this process runs."""
    descriptor = os.open(f"{output}.clock", os.O_WRONLY | os.O_CREAT)
    while time.monotonic() < END:
        os.pwrite(descriptor, f"{time.monotonic():020.6f}".encode(), 0)
        time.sleep(0.002)


def trap() -> None:
    """Note when TERM arrives, and obey."""

    def obey(*_: object) -> None:
        say("term")
        os._exit(143)

    signal.signal(signal.SIGTERM, obey)


if kind == "ignores":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif kind == "traps":
    trap()
elif kind == "setsid":
    setsid_grandchild()
elif kind == "daemon":
    double_fork()
elif kind == "detached":
    detached_output()
elif kind == "forks":
    child(fork_for_ever)
elif kind == "frozen":
    child(wait)
# Programs started anew with `elsewhere` say so themselves; the tree stands when they and the renderer have.
say("ready")
if kind == "frozen":
    # The whole group: a tree that somebody else has stopped.
    os.killpg(0, signal.SIGSTOP)
if kind == "traps":
    tick()
wait()
