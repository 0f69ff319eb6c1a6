"""Define a service that renders one chunk a call, and read what the answers of all services have in common."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from activities.remote.protocol import RemoteResult

# A longer wait than this is a mistake of a clock, or no answer at all.
_LONGEST_WAIT_SECONDS = 600.0


class CallLostError(Exception):
    """The connection broke, or never came about: whether the service works on is for the store to tell.

    Args:
        sentence: What happened.
        begun: Whether the request may have reached the service.
    """

    def __init__(self, sentence: str, *, begun: bool) -> None:
        super().__init__(sentence)
        self.begun = begun


@dataclass(frozen=True)
class ServiceAnswer:
    """What a service answered to one call."""

    status: int
    body: bytes
    # Names in lower case.
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def document(self) -> dict[str, Any] | None:
        """Return the JSON object in the body; None where the body is anything else."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None

    def wait_seconds(self) -> float | None:
        """Return how long `Retry-After` asks to wait, in seconds or until a date; None where it says nothing of use."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            return min(float(value), _LONGEST_WAIT_SECONDS)
        until = _date(value)
        if until is None:
            return None
        # By the clock that wrote it, where that is known.
        now = _date(self.headers.get("date", "")) or datetime.now(UTC)
        return min(max((until - now).total_seconds(), 0.0), _LONGEST_WAIT_SECONDS)


@dataclass(frozen=True)
class HeliosResult:
    """What a Helios worker says of its command, whatever service carried the words."""

    parse_exit_code: int
    stdout: str = ""
    stderr: str = ""
    # Whether the work was done, and only the answer was too large to come back.
    answer_was_lost: bool = False


def find_text(document: Mapping[str, Any], *names: str) -> str:
    """Return the first of these values of an answer that is text and not empty; empty where none is."""
    values = (document.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value), "")


def parse_exit_code(document: Mapping[str, Any], *, lenient: bool) -> int | None:
    """Return the exit code in a Helios worker's answer; None where there is none, and 1 for a number that is not whole.

    Args:
        document: The answer.
        lenient: Whether the words of the worker that Helios deploys, which has no exit code, count as 0.
    """
    code = document.get("exitCode")
    if isinstance(code, bool) or not isinstance(code, int | float):
        return 0 if lenient and {"message", "chunkIndex", "output"} <= document.keys() else None
    return int(code) if code == code // 1 else 1


def ignore_send() -> None:
    """Hear of a call that nobody asks about."""


class Service(Protocol):
    """One function or service that renders."""

    # What people and records call it, as in `lambda longtake-render`.
    where: str
    # How long it lets one call work.
    most_seconds: float

    async def call(self, payload: Mapping[str, Any], *, on_send: Callable[[], None] = ignore_send) -> ServiceAnswer:
        """Send one JSON object and return the answer, whatever its status, but for those below.

        Calls beyond what the worker lets this service have at once wait for their turn. Nothing is ever sent twice.
        A cancel closes the connection at once; one that comes before anything was sent sends nothing.

        Args:
            payload: The object.
            on_send: Called right before the first byte leaves: until then nobody can have begun anything.

        Raises:
            ThrottledError: The service has no room now, or is briefly out of order, and began nothing.
            AttemptError: It will never take this call, as it stands: no such function, no permission, no such request.
            CallLostError: The connection broke.
        """
        ...

    def parse_result(self, answer: ServiceAnswer) -> RemoteResult:
        """Return what our own agent answered.

        Raises:
            AttemptError: It is none: the agent crashed, or refused the order. The sentence says which.
        """
        ...

    def parse_helios_answer(self, answer: ServiceAnswer, *, lenient: bool) -> HeliosResult:
        """Return what a Helios worker says in this answer.

        Args:
            answer: The answer.
            lenient: Whether answers without an exit code count as success where Helios' own adapter takes them so.
        """
        ...


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
