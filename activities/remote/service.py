"""Calling a service that renders: one call, one chunk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


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


@dataclass(frozen=True)
class HeliosResult:
    """What a Helios worker says of its command, whatever service carried the words."""

    exit_code: int
    stdout: str = ""
    stderr: str = ""
    # Whether the work was done, and only the answer was too large to come back.
    answer_was_lost: bool = False


def unheard() -> None:
    """Hear of a call that nobody asks about."""


class Service(Protocol):
    """One function or service that renders."""

    # What people and records call it, as in `lambda longtake-render`.
    where: str
    # How long it lets one call work.
    most_seconds: float

    async def call(self, payload: Mapping[str, Any], *, sending: Callable[[], None] = unheard) -> ServiceAnswer:
        """Send one JSON object and return the answer, whatever its status, but for those below.

        Calls beyond what the worker lets this service have at once wait for their turn. Nothing is ever sent twice.
        A cancel closes the connection at once; one that comes before anything was sent sends nothing.

        Args:
            payload: The object.
            sending: Called right before the first byte leaves: until then nobody can have begun anything.

        Raises:
            ThrottledError: The service has no room now, or is briefly out of order, and began nothing.
            AttemptError: It will never take this call, as it stands: no such function, no permission, no such request.
            CallLostError: The connection broke.
        """
        ...

    def result_in(self, answer: ServiceAnswer) -> bytes:
        """Return the JSON of the `RemoteResult` that our own agent answered.

        Raises:
            AttemptError: It is none: the agent crashed, or refused the order. The sentence says which.
        """
        ...

    def helios_result_in(self, answer: ServiceAnswer, *, lenient: bool) -> HeliosResult:
        """Return what a Helios worker says in this answer.

        Args:
            answer: The answer.
            lenient: Whether answers without an exit code count as success where Helios' own adapter takes them so.
        """
        ...
