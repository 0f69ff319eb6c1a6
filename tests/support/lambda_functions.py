"""Functions as Lambda keeps them, and the errors by which it does not run one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from lambda_environment import Environment, Invocation
from loopback_http import Request


@dataclass(eq=False)
class Function:
    """A function that can be invoked by its name or ARN."""

    name: str
    arn: str
    handler: str
    timeout: float
    memory_mb: int
    env: Mapping[str, str]
    # Reserved concurrency: more than these at once are throttled.
    concurrency: int | None
    environments: list[Environment] = field(default_factory=list)
    running: set[Environment] = field(default_factory=set)
    invocations: list[Invocation] = field(default_factory=list)
    # How much later than its end the deadline is that the function is told: a clock that is wrong.
    deadline_error_seconds: float = 0.0
    # Of how many at once it was seen running.
    most_running: int = 0

    @property
    def log(self) -> str:
        """What all its environments printed."""
        return "\n".join(environment.log for environment in self.environments)


@dataclass(frozen=True)
class Refusal:
    """An error of the Invoke API, in AWS's form; status 0 breaks the connection instead."""

    status: int
    code: str
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


def throttled(reason: str) -> Refusal:
    return Refusal(429, "TooManyRequestsException", {"Type": "User", "Reason": reason, "message": "Rate Exceeded."})


def function_name(request: Request) -> str:
    """Return the name or ARN that is invoked, decoded."""
    parts = urlsplit(request.target).path.split("/")
    return unquote(parts[3]) if len(parts) == 5 and parts[1:3] == ["2015-03-31", "functions"] else request.target
