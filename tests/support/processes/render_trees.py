"""Render processes that do what renderers should not, as scripts of their own, and a worker that has some."""

import asyncio
import os
import sys
import uuid
from multiprocessing.connection import Connection
from pathlib import Path

from support.processes.forks import FORKS, make_fork
from support.processes.process_table import until

from activities.processes.supervisor import Supervisor

# Apart from `process_trees.py` on purpose: those forget their environments, and the portable way finds strays by the
# tag there.
SPAWN = """
import os, subprocess, sys, time, signal
sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
"""
READY = "print('ready', flush=True)\ntime.sleep(300)\n"

TREES = {
    "obeys TERM": SPAWN + READY,
    "ignores TERM": SPAWN + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY,
    "a child in its group": SPAWN + "subprocess.Popen(sleeper)\n" + READY,
    "a grandchild that leads a session": SPAWN + "subprocess.Popen(sleeper, start_new_session=True)\n" + READY,
    "forked twice into a session of its own": SPAWN
    + "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(300)\n    os._exit(0)\n"
    + READY,
    "detached from all output": SPAWN
    + "subprocess.Popen(sleeper, start_new_session=True, stdin=-3, stdout=-3, stderr=-3, cwd='/')\n"
    + READY,
    "a child that forks without end": SPAWN
    + """
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        if os.fork() == 0:
            time.sleep(0.2)
            os._exit(0)
        time.sleep(0.01)
"""
    + READY,
    "frozen": SPAWN + "subprocess.Popen(sleeper)\nprint('ready', flush=True)\nos.kill(0, signal.SIGSTOP)\n",
}

# Ignores TERM, has a child that leads a session, and one that was forked twice, leads a session and forgot its
# environment: of that one nothing tells but who its parent was. All write their pids into the file that is given.
HIDDEN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
CHILD = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\\\n'); time.sleep(300)"
def run(environment):
    os.execve(sys.executable, [sys.executable, "-S", "-c", CHILD, sys.argv[1]], environment)
open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
if os.fork() == 0:
    os.setsid()
    run(dict(os.environ))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        run({})
    os._exit(0)
while open(sys.argv[1]).read().count("\\n") < 3:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(300)
"""


def noted(file: Path) -> list[int]:
    """Return the pids that a tree has written down."""
    return [int(line) for line in file.read_text().split()]


async def work(folder: Path, renders: int, control_groups: bool, ready: Connection) -> None:
    """Be a worker with some hidden trees, until killed; tell the pid of its supervisor when they stand."""
    async with Supervisor(control_groups=control_groups) as supervisor:
        tag = {"LONGTAKE_ATTEMPT": folder.name}
        environment = {"PATH": os.environ["PATH"], **tag}
        logs = [folder / f"{index}.log" for index in range(renders)]
        for index, log in enumerate(logs):
            command = (sys.executable, "-S", "-c", HIDDEN, str(folder / f"{index}.pids"))
            await supervisor.spawn(command, cwd=folder, env=environment, log=log, tag=tag)
        await until(lambda: all(log.exists() and b"ready" in log.read_bytes() for log in logs), "the trees")
        ready.send(supervisor.pid)
        await asyncio.sleep(300)


def run_worker(folder: Path, renders: int, control_groups: bool, ready: Connection) -> None:
    """Run `work` in a fork."""
    asyncio.run(work(folder, renders, control_groups, ready))


class HiddenWorker:
    """A worker process that has `renders` hidden trees."""

    def __init__(self, folder: Path, *, renders: int = 2, control_groups: bool = False) -> None:
        self._folder = folder / uuid.uuid4().hex
        self._folder.mkdir()
        self._told, told = FORKS.Pipe(duplex=False)
        arguments = (self._folder, renders, control_groups, told)
        self._process = make_fork(run_worker, *arguments)
        self._tells = told
        self.supervisor = 0

    async def __aenter__(self) -> "HiddenWorker":
        await asyncio.to_thread(self._process.start)
        self._tells.close()
        assert await asyncio.to_thread(self._told.poll, 60), "the worker is not ready within 60 s"
        self.supervisor = self._told.recv()
        self._told.close()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._process.kill()
        await asyncio.to_thread(self._process.join)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def tag(self) -> dict[str, str]:
        return {"LONGTAKE_ATTEMPT": self._folder.name}

    @property
    def renders(self) -> list[int]:
        """Pids of all that the renders consist of."""
        return [pid for file in self._folder.glob("*.pids") for pid in noted(file)]


def tag(name: str = "tree") -> dict[str, str]:
    """Return the variable that marks the processes of one tree of this test process."""
    return {"LONGTAKE_ATTEMPT": f"deaths-{os.getpid()}-{name}"}
