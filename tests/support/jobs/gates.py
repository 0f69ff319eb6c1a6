"""Commands that wait for a file, so that a test finds a job where it wants it, however fast the job is otherwise."""

from pathlib import Path

_WAITING = 'if [ "$1" -ge "$2" ]; then until [ -e "$0" ]; do sleep 0.02; done; fi; shift 2; exec "$@"'


def behind_gate(gate: Path, command: tuple[str, ...], *, from_chunk: int = 0) -> tuple[str, ...]:
    """Return a command whose chunks from a number on wait for a file before they begin."""
    return ("sh", "-c", _WAITING, str(gate), "{chunk}", str(from_chunk), *command)
