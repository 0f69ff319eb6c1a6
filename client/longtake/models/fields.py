"""Define the base of all wire models, and the kinds of values that job files hold."""

import re
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from longtake.errors import BadJobError
from longtake.paths import has_control_characters
from longtake.templates import split_command
from longtake.text import quote_value

# Largest limit of failures, because no job has more chunks.
_MOST_FAILURES = 1_000_000


def _as_arguments(value: object) -> object:
    if isinstance(value, str):
        try:
            return split_command(value)
        except BadJobError:
            # Empty arguments break a rule of `job_rules`, whose error names the field.
            return ()
    if isinstance(value, list):
        # Whole numbers need no quotes, as in `-crf, 18`. Others do, or 1.10 would become 1.1.
        return tuple(str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in value)
    return value


def _as_line(value: str) -> str:
    if has_control_characters(value) or not value.strip():
        raise ValueError(f"is {quote_value(value)}; write one line of text")
    return value


def _as_limit(value: object) -> object:
    count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_FAILURES
    share = isinstance(value, str) and re.fullmatch(r"(100|\d{1,2})(\.\d{1,4})?%", value, re.ASCII)
    if not count and not share:
        raise ValueError(f"is {quote_value(value)}; write a number of chunks, or a share such as 10%")
    return value


Arguments = Annotated[tuple[str, ...], BeforeValidator(_as_arguments)]
# Neither compiled nor tried here, which may take for ever: see `longtake.pattern_check`.
Pattern = Annotated[str, Field(max_length=1000)]
# Exit code of a program, or minus the signal that ended it, as in `subprocess`.
ProgramExitCode = Annotated[int, Field(ge=-64, le=255)]
FailureLimit = Annotated[int | str, BeforeValidator(_as_limit)]
Line = Annotated[str, AfterValidator(_as_line)]
Seconds = Annotated[float, Field(gt=0, le=60 * 60 * 24 * 365)]


class Contract(BaseModel):
    """Base of all frozen messages, which an older or a newer Longtake can still read.

    Unknown keys are ignored, because a newer peer may send more; `longtake.jobfile.loader` reads job *files* strictly.
    New fields always have defaults, and no field is ever renamed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def find_ntsc_rate(value: float) -> Fraction | None:
    """Return the exact NTSC rate (n * 1000/1001) that a number such as 29.97 rounds; None if there is none.

    Over a long film the rounding error would become audible.
    """
    if not 0 < value <= 1000 or value.is_integer():
        return None
    near = Fraction(round(value * 1.001) * 1000, 1001)
    return near if near and abs(near - Fraction(value)) < 0.01 else None


def _as_rate(value: object) -> object:
    """Convert a frame rate to its one spelling, `30` or `30000/1001`."""
    if value is None:
        return None
    if isinstance(value, float):
        near = find_ntsc_rate(value)
        fix = f'"{near}"' if near else "a whole number or a fraction"
        raise ValueError(f"write {fix} instead of {value}; a rounded rate drifts over a long film")
    if isinstance(value, str) and re.fullmatch(r"\d{1,4}\.\d{1,9}", value, re.ASCII):
        number = float(value)
        near = find_ntsc_rate(number)
        fix = f'"{near}"' if near else f"{int(number)}" if number.is_integer() else "a whole number or a fraction"
        reason = "" if number.is_integer() else ": a rounded rate drifts over a long film"
        raise ValueError(f"is {quote_value(value)}; write {fix}{reason}")
    spelled = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(spelled, str) or not re.fullmatch(r"[1-9]\d{0,8}(/[1-9]\d{0,8})?", spelled, re.ASCII):
        raise ValueError('must be a whole number such as 30 or a fraction such as "30000/1001"')
    rate = Fraction(spelled)
    if rate > 1000:
        raise ValueError("must be at most 1000 frames a second")
    return str(rate)


Rate = Annotated[str, BeforeValidator(_as_rate)]
