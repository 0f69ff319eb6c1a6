"""Keep the environment and the memory of a process from renders on its host, which may be any program.

A render has its worker's account and knows its worker's process id. Without this `/proc/<worker>/environ` gave it the
worker's AWS keys, the secret that orders are signed with, and the key of Temporal.
"""

import json
import os
import sys
from collections.abc import Collection

from activities.processes.linux_table import forbid_reading

# Of a file in memory that holds the rest of the environment; set between the two lives of the process alone.
_VARIABLE = "_LONGTAKE_ENVIRONMENT_FD"

# What programs need to find their files, their language and their GPU.
_PASSED_VARIABLES = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP", "DISPLAY"}
    | {"XDG_RUNTIME_DIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}
)


def is_passed(name: str) -> bool:
    """Return whether renders see this variable of their worker without being told to."""
    return name in _PASSED_VARIABLES or name.startswith("LC_")


def hide_environment(also_passed: Collection[str] = ()) -> None:
    """Start this process again with nothing in its environment that renders do not have, and keep others out of it.

    The rest comes back into `os.environ` through a descriptor: taking a variable away does not change what
    `/proc/<pid>/environ` shows, which is what the process was started with. Does nothing where there is no `/proc`.

    Args:
        also_passed: Names of more variables that renders see.
    """
    if sys.platform != "linux":
        return
    descriptor = os.environ.pop(_VARIABLE, None)
    if descriptor is not None:
        with open(int(descriptor), "rb") as file:
            os.environ.update(json.load(file))
    else:
        kept = {
            name: value
            for name, value in os.environ.items()
            if is_passed(name) or name in also_passed or name.startswith("PYTHON")
        }
        hidden = {name: value for name, value in os.environ.items() if name not in kept}
        if hidden:
            # Inherited by the next program, which is this one: no close on exec.
            file_in_memory = os.memfd_create("environment", flags=0)
            os.write(file_in_memory, json.dumps(hidden).encode())
            os.lseek(file_in_memory, 0, os.SEEK_SET)
            environment = {**kept, _VARIABLE: str(file_in_memory)}
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    forbid_reading()
