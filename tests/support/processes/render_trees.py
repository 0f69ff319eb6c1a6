"""Render processes that do what renderers should not, as scripts of their own, and a worker that has some."""

import asyncio
import json
import os
import sys
import uuid
from pathlib import Path

from support.processes.process_table import until

ROOT = Path(__file__).resolve().parents[3]

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


async def work(folder: Path, renders: int, control_groups: bool) -> None:
    """Be a worker with some hidden trees, until killed."""
    from activities.processes.supervisor import Supervisor  # noqa: PLC0415

    async with Supervisor(control_groups=control_groups) as supervisor:
        tag = {"LONGTAKE_ATTEMPT": folder.name}
        environment = {"PATH": os.environ["PATH"], **tag}
        logs = [folder / f"{index}.log" for index in range(renders)]
        for index, log in enumerate(logs):
            command = (sys.executable, "-S", "-c", HIDDEN, str(folder / f"{index}.pids"))
            await supervisor.spawn(command, cwd=folder, env=environment, log=log, tag=tag)
        await until(lambda: all(log.exists() and b"ready" in log.read_bytes() for log in logs), "the trees")
        print(json.dumps({"supervisor": supervisor.pid}), flush=True)
        await asyncio.sleep(300)


class HiddenWorker:
    """A worker process that has `renders` hidden trees."""

    def __init__(self, folder: Path, *, renders: int = 2, control_groups: bool = False) -> None:
        self._folder = folder / uuid.uuid4().hex
        self._folder.mkdir()
        self._arguments = (str(self._folder), str(renders), str(int(control_groups)))
        self._process: asyncio.subprocess.Process | None = None
        self.supervisor = 0

    async def __aenter__(self) -> "HiddenWorker":
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, *self._arguments), stdout=asyncio.subprocess.PIPE, env=self.environment
        )
        assert self._process.stdout is not None
        self.supervisor = json.loads(await asyncio.wait_for(self._process.stdout.readline(), 60))["supervisor"]
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()

    @property
    def environment(self) -> dict[str, str]:
        paths = f"{ROOT}:{ROOT / 'client'}:{ROOT / 'tests'}"
        return {**os.environ, "PYTHONPATH": paths, "AWS_SECRET_ACCESS_KEY": "hush", "TEMPORAL_API_KEY": "hush"}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def tag(self) -> dict[str, str]:
        return {"LONGTAKE_ATTEMPT": self._folder.name}

    @property
    def renders(self) -> list[int]:
        """Pids of all that the renders consist of."""
        return [pid for file in self._folder.glob("*.pids") for pid in noted(file)]


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), int(sys.argv[2]), bool(int(sys.argv[3]))))


def tag(name: str = "tree") -> dict[str, str]:
    """Return the variable that marks the processes of one tree of this test process."""
    return {"LONGTAKE_ATTEMPT": f"deaths-{os.getpid()}-{name}"}
