"""Define a service that renders one chunk a call, its answers and their errors; parse what all answers share."""

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
    """A connection that broke or was never made; only records in the store tell whether an agent works on.

    Args:
        sentence: What happened, for people.
        begun: Whether the request may have reached the service.
    """

    def __init__(self, sentence: str, *, begun: bool) -> None:
        super().__init__(sentence)
        self.begun = begun


@dataclass(frozen=True)
class ServiceAnswer:
    """The HTTP answer of a service to one call."""

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
        """Return the seconds that `Retry-After` asks to wait, by a number or a date; None without a usable value."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            return min(float(value), _LONGEST_WAIT_SECONDS)
        until = _date(value)
        if until is None:
            return None
        # By the service's own clock where its answer has the time: the two clocks may differ.
        now = _date(self.headers.get("date", "")) or datetime.now(UTC)
        return min(max((until - now).total_seconds(), 0.0), _LONGEST_WAIT_SECONDS)


@dataclass(frozen=True)
class HeliosResult:
    """Exit code and output of a command that a Helios worker has run, by whatever service."""

    exit_code: int
    stdout: str = ""
    stderr: str = ""
    # The work is done, and its answer was too large to come back.
    answer_was_lost: bool = False


def find_text(document: Mapping[str, Any], *names: str) -> str:
    """Return the first of these fields of an answer that is text and not empty; else an empty text."""
    values = (document.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value), "")


def parse_exit_code(document: Mapping[str, Any], *, lenient: bool) -> int | None:
    """Parse the exit code in a Helios worker's answer: None without one, 1 for a number that is not whole.

    Args:
        document: The answer.
        lenient: Whether the answer of the worker that Helios deploys, which has no exit code, counts as 0.
    """
    code = document.get("exitCode")
    if isinstance(code, bool) or not isinstance(code, int | float):
        return 0 if lenient and {"message", "chunkIndex", "output"} <= document.keys() else None
    return int(code) if code == code // 1 else 1


def ignore_send() -> None:
    """Do nothing: the default `on_send` of a call."""


class Service(Protocol):
    """One function or service that renders."""

    # Name for people and records, as in `lambda longtake-render`.
    where: str
    # Longest time that the service lets one call work.
    most_seconds: float

    async def call(self, payload: Mapping[str, Any], *, on_send: Callable[[], None] = ignore_send) -> ServiceAnswer:
        """Send one JSON object and return the answer, whatever its status, except for the errors below.

        Calls beyond the concurrency of this service wait for a slot. Nothing is ever sent twice. A cancel closes the
        connection at once; a cancel before the first byte was sent sends nothing.

        Args:
            payload: The object.
            on_send: Called right before the first byte leaves: until then no agent can have begun.

        Raises:
            ThrottledError: The service has no room now, or is briefly out of order, and began nothing.
            AttemptError: The service will never take this call: no such function, no permission, no such request.
            CallLostError: The connection broke.
        """
        ...

    def parse_result(self, answer: ServiceAnswer) -> RemoteResult:
        """Parse the result in the answer of a Longtake agent.

        Raises:
            AttemptError: The answer holds none: the agent crashed, or refused the order. The sentence says which.
        """
        ...

    def parse_helios_answer(self, answer: ServiceAnswer, *, lenient: bool) -> HeliosResult:
        """Parse exit code and output in the answer of a Helios worker.

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
