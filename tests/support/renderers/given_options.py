"""The command line of a renderer of the tests, of which the suite starts thousands: argparse takes twice their time."""

import sys


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
