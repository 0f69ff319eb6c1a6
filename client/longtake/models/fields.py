"""Kinds of values that job files hold, with what makes one of them good."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from longtake.commands import split_command
from longtake.errors import BadJobError
from longtake.paths import holds_control
from longtake.text import plainly, quoted

# No job has more chunks.
_MOST_FAILURES = 1_000_000


def _as_arguments(value: object) -> object:
    if isinstance(value, str):
        try:
            return split_command(value)
        except BadJobError:
            # The rules say it with the field's name.
            return ()
    if isinstance(value, list):
        # `-crf, 18` needs no quotes; 1.10 does, or it would become 1.1.
        return tuple(str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in value)
    return value


def _as_pattern(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{quoted(value)} is no regular expression ({plainly(str(error))}); mend it") from error
    return value


def _as_line(value: str) -> str:
    if holds_control(value) or not value.strip():
        raise ValueError(f"is {quoted(value)}; write one line of text")
    return value


def _as_limit(value: object) -> object:
    count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_FAILURES
    share = isinstance(value, str) and re.fullmatch(r"(100|\d{1,2})(\.\d{1,4})?%", value, re.ASCII)
    if not count and not share:
        raise ValueError(f"is {quoted(value)}; write a number of chunks, or a share such as 10%")
    return value


Arguments = Annotated[tuple[str, ...], BeforeValidator(_as_arguments)]
Pattern = Annotated[str, AfterValidator(_as_pattern)]
# Minus the signal that ended the renderer, as `subprocess` tells it, or what it exited with.
ExitCode = Annotated[int, Field(ge=-64, le=255)]
FailureLimit = Annotated[int | str, BeforeValidator(_as_limit)]
Line = Annotated[str, AfterValidator(_as_line)]
Seconds = Annotated[float, Field(gt=0, le=60 * 60 * 24 * 365)]
