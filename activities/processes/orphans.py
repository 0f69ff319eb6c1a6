"""Ending what is left of workers that died together with all that should have ended it."""

import time

from activities.processes.control_group import groups_by_worker
from activities.processes.host import process_table
from activities.processes.process_tree import ProcessTree
from activities.processes.worker_mark import WORKER_VARIABLE, WorkerMark

# Longer than any process needs to die that can.
_KILL_SECONDS = 10.0
_PAUSE_SECONDS = 0.01


def sweep_leftovers() -> list[int]:
    """Kill the renders of workers that are dead, and return the pids; those of living workers are left alone.

    Looks at all processes that it may see, so it belongs to the start of a worker. Blocking.
    """
    killed: set[int] = set()
    end = time.monotonic() + _KILL_SECONDS
    # Twice, because a render may have started another while the first look was on.
    while (found := _kill_round()) or _kill_round():
        killed |= found
        if time.monotonic() >= end:
            break
        time.sleep(_PAUSE_SECONDS)
    return sorted(killed)


def _kill_round() -> set[int]:
    found: set[int] = set()
    table = process_table()
    marks = {mark for pid in table.scan() if (mark := _mark_of(table.environment(pid)))}
    for mark in marks:
        if mark.is_dead:
            tree = ProcessTree(table, None, tag={WORKER_VARIABLE: str(mark)})
            found |= {entry.pid for entry in tree.kill()}
    for name, group in groups_by_worker():
        mark_of_group = WorkerMark.parse(name)
        if mark_of_group is not None and mark_of_group.is_dead:
            found |= set(group.pids())
            group.kill()
            group.remove()
    return found


def _mark_of(environment: list[bytes]) -> WorkerMark | None:
    prefix = f"{WORKER_VARIABLE}=".encode()
    item = next((item for item in environment if item.startswith(prefix)), None)
    return WorkerMark.parse(item[len(prefix) :].decode("utf-8", "replace")) if item else None
