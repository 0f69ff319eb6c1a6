"""Open Job Description's directives, which every adaptor written for it prints."""

import re
from fractions import Fraction

from activities.progress.sign import Sign

# The colon and one blank are part of the directive: `openjd_progress: 55.0`.
_DIRECTIVE = re.compile(r"openjd_(progress|status|fail): (.+)", re.DOTALL)
_PERCENT = re.compile(r"\s*([0-9]{1,3}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s*")


class OpenJdFormat:
    """Reads `openjd_progress`, `openjd_status` and `openjd_fail`; the other directives say nothing of progress."""

    words = (b"openjd_progress: ", b"openjd_status: ", b"openjd_fail: ")

    def read(self, line: str) -> Sign | None:
        match = _DIRECTIVE.fullmatch(line)
        if match is None:
            return None
        if match[1] == "progress":
            share = percent(match[2])
            return None if share is None else Sign(share=share)
        return Sign(fatal=True) if match[1] == "fail" else Sign(message=match[2])


def percent(text: str) -> Fraction | None:
    """Return a number from 0 to 100 as a part of the whole; None where it is none."""
    match = _PERCENT.fullmatch(text)
    share = Fraction(match[1]) / 100 if match else None
    return share if share is not None and share <= 1 else None
