"""What the renderers of the tests share: their command line, their ledger and their gate.

It imports little, because the suite starts thousands of them: argparse alone would take twice their time.
"""

import os
import sys
import time


def read_options(given: object) -> None:
    """Set the attributes of an object, which are its defaults and say of which type they are, by the command line.

    A word without dashes is its `output`; a flag sets a bool, and a tuple of numbers takes one at each mention.
    """
    words = iter(sys.argv[1:])
    for word in words:
        if not word.startswith("--"):
            setattr(given, "output", word)  # noqa: B010
            continue
        name = word.removeprefix("--").replace("-", "_")
        default = getattr(given, name)
        if isinstance(default, bool):
            setattr(given, name, True)
        elif isinstance(default, tuple):
            setattr(given, name, (*default, int(next(words))))
        else:
            setattr(given, name, type(default)(next(words)))


def note(ledger: str, line: str) -> None:
    """Append a line in one write, which renders running side by side cannot mix."""
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def wait_for(gate: str) -> None:
    """Wait until a file is there; bounded, so that a test that fails leaves nothing behind for long."""
    end = time.monotonic() + 600
    while not os.path.exists(gate) and time.monotonic() < end:
        time.sleep(0.01)
