"""The ways in which media can be refused, each told in one sentence."""

from typing import Self


class MediaError(Exception):
    """A file is not what it must be; `sentence` says which file and what is wrong with it."""

    def __init__(self, subject: str, problem: str, *, chunk: int | None = None) -> None:
        self.subject = subject
        self.problem = problem
        self.chunk = chunk
        self.sentence = f"{subject} {problem}"
        super().__init__(self.sentence)

    def about(self, subject: str, chunk: int) -> Self:
        """Returns the same refusal told of `subject`, the chunk at position `chunk` of a join."""
        return type(self)(subject, self.problem, chunk=chunk)


class DamagedOutput(MediaError):
    """The file is missing, empty, cut short, unreadable or of the wrong length: rendering again helps."""


class MismatchedOutput(MediaError):
    """The file is sound but differs in size, rate or codec settings: only a changed render helps."""


class JoinStopped(Exception):
    """Reading or joining ended early because its caller set the stop event."""
