"""Frame rates: exact fractions, spelled one way."""

import re
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator


def ntsc_rate(value: float) -> Fraction | None:
    """Return the exact rate that 29.97 and its kind are roundings of: over a long film the rest becomes audible."""
    if not 0 < value <= 1000 or value.is_integer():
        return None
    near = Fraction(round(value * 1.001) * 1000, 1001)
    return near if near and abs(near - Fraction(value)) < 0.01 else None


def _as_rate(value: object) -> object:
    """Turn what people write for a frame rate into its one spelling, `30` or `30000/1001`."""
    if value is None:
        return None
    if isinstance(value, float):
        near = ntsc_rate(value)
        fix = f'"{near}"' if near else "a whole number or a fraction"
        raise ValueError(f"write {fix} instead of {value}; a rounded rate drifts over a long film")
    spelled = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(spelled, str) or not re.fullmatch(r"[1-9]\d{0,8}(/[1-9]\d{0,8})?", spelled, re.ASCII):
        raise ValueError('must be a whole number such as 30 or a fraction such as "30000/1001"')
    rate = Fraction(spelled)
    if rate > 1000:
        raise ValueError("must be at most 1000 frames a second")
    return str(rate)


Rate = Annotated[str, BeforeValidator(_as_rate)]
