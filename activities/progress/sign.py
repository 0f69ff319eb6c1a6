"""What one printed line says of a render."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

# Messages are for people, on one line of a table.
LONGEST_MESSAGE = 200


@dataclass(frozen=True)
class Sign:
    """What one line tells; most tell one thing only."""

    # Frames of this command that are done.
    done: int | None = None
    # How much of this command's work is done, from 0 to 1.
    share: Fraction | None = None
    # The frame being rendered now, as the renderer counts.
    begun: int | None = None
    # A frame that is finished, as the renderer counts.
    finished: int | None = None
    # What the renderer is doing, for a person.
    message: str = ""
    # Whether the line says that the try has failed.
    fatal: bool = False


class Format(Protocol):
    """One way of printing progress; an object of its own for each render, which may remember lines."""

    @property
    def words(self) -> tuple[bytes, ...]:
        """Bytes of which some are in every line that `read` makes something of: looking for them is cheaper."""
        ...

    def read(self, line: str) -> Sign | None:
        """Return what a line tells; None where it is not of this format."""
        ...


def share_of(done: int, total: int) -> Fraction | None:
    """Return a part of a whole; None where there is none."""
    return Fraction(min(done, total), total) if total > 0 else None
