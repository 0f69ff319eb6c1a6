"""What an agent knows of the instance it runs in."""

from collections.abc import Mapping
from pathlib import Path

from activities.processes.host import process_table

# Of cgroups version 2 and version 1.
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")

# Version 1 writes a number close to 2**63 for no limit.
_NO_LIMIT_BYTES = 1 << 50


def memory_mb(environ: Mapping[str, str], groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory of the instance in MiB; 0 where nobody says."""
    told = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    if told.isdigit():
        return int(told)
    for name in _LIMITS:
        try:
            limit = (groups / name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit() and int(limit) < _NO_LIMIT_BYTES:
            return int(limit) >> 20
    return 0


def count_tagged(tag: Mapping[str, str]) -> int:
    """Return how many living processes carry all variables of a tag; blocking.

    A look of its own at all processes: whoever ended the render is not asked whether that went well.
    """
    table = process_table()
    marks = {f"{name}={value}".encode() for name, value in tag.items()}
    found = [pid for pid in table.pids() if marks.issubset(table.environment(pid))]
    return sum((entry := table.entry(pid)) is not None and entry.lives for pid in found)
