"""What is written where: results to stdout, messages to stderr, and never a control character of others."""

import json
import sys

from rich.console import Console, RenderableType
from rich.text import Text

from longtake.plaintext import plain

# Files and pipes have no width: nothing is wrapped or cut for them.
_PIPE_WIDTH = 100_000


def one_line(text: str) -> str:
    """Return text of any shape as one clean line."""
    return plain(" ".join(text.split()))


def shortened(text: str, most: int = 240) -> str:
    """Return a line cut in its middle: what went wrong stands at the beginning and at the end."""
    line = one_line(text)
    return line if len(line) <= most else f"{line[: most // 3]} ... {line[-(most - most // 3) :]}"


def stdout() -> Console:
    """Return the console for results."""
    return _console(stderr=False)


def stderr() -> Console:
    """Return the console for messages and progress."""
    return _console(stderr=True)


def say(text: str) -> None:
    """Write a message for a person, as one line."""
    stderr().print(Text(one_line(text)), soft_wrap=True)


def answer(text: str) -> None:
    """Write a result as one line."""
    stdout().print(Text(one_line(text)), soft_wrap=True)


def show(what: RenderableType) -> None:
    """Write a table or the like as the result; in files and pipes its lines end where their text does."""
    console = stdout()
    if console.is_terminal:
        console.print(what)
        return
    with console.capture() as written:
        console.print(what)
    print("\n".join(line.rstrip() for line in written.get().splitlines()), file=sys.stdout, flush=True)


def answer_json(value: object, *, indent: int | None = 2) -> None:
    """Write a result as one JSON document; contract models anywhere in it are written as on the wire."""
    # Plain ASCII: control characters of others stay escaped, and any locale can write it.
    text = json.dumps(value, indent=indent, default=lambda model: model.model_dump(mode="json"))
    print(text, file=sys.stdout, flush=True)


def answer_json_line(value: object) -> None:
    """Write a result as JSON on one line, for streams of them."""
    answer_json(value, indent=None)


def _console(*, stderr: bool) -> Console:
    file = sys.stderr if stderr else sys.stdout
    width = None if file.isatty() else _PIPE_WIDTH
    return Console(file=file, width=width, markup=False, emoji=False, highlight=False)
