"""Turn errors into problem details (RFC 9457): one sentence for a person, a type for programs, errors by field."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from temporalio.service import RPCError, RPCStatusCode

from longtake.describe import describe_rpc_error
from longtake.errors import (
    BadJobError,
    JobEndedError,
    JobExistsError,
    JobNotEndedError,
    LongtakeError,
    NoSuchJobError,
    NotReachableError,
    StoreUnusableError,
    UndecodedPayloadError,
)
from longtake.text import list_invalid

_log = logging.getLogger(__name__)

TEMPORAL_AWAY = "temporal-away"

# Of a file with thousands of mistakes the first tell enough.
_MOST_FIELDS = 50

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """What is wrong with one field of a job file or of a request."""

    field: str = Field(description="key of the job file, or name of the parameter; empty: the whole")
    message: str = Field(description="what is wrong, and the fix")


class Problem(BaseModel):
    """What every answer that is no success has as its body."""

    type: str = Field(default="about:blank", description="kind of the problem, for programs")
    title: str
    status: int
    detail: str = Field(default="", description="one sentence for a person, with the fix")
    instance: str = Field(default="", description="path of the request")
    errors: tuple[FieldError, ...] = ()
    since: datetime | None = Field(default=None, description="since when what is away is away, where that is known")


class ProblemError(Exception):
    """Raised for an answer that is no success.

    Args:
        status: Its HTTP status.
        detail: One sentence, with the fix.
        kind: Its type, for programs.
        headers: Headers of the answer.
        errors: What is wrong with each field, where it is a field that is wrong.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str = "about:blank",
        headers: dict[str, str] | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.headers = headers or {}
        self.errors = tuple(errors)


# Status and type of each error; the first that fits counts.
_BY_ERROR: tuple[tuple[type[Exception], int, str], ...] = (
    (BadJobError, 422, "bad-job"),
    (NoSuchJobError, 404, "no-such-job"),
    (JobExistsError, 409, "job-exists"),
    (JobEndedError, 409, "job-ended"),
    (JobNotEndedError, 409, "job-not-ended"),
    (StoreUnusableError, 503, "store-away"),
    (UndecodedPayloadError, 500, "codec"),
    (NotReachableError, 503, TEMPORAL_AWAY),
    (LongtakeError, 409, "refused"),
)


def describe_problem(error: Exception, *, instance: str = "") -> Problem:
    """Return the problem that an error is."""
    if isinstance(error, ProblemError):
        return make_problem(error.status, error.detail, kind=error.kind, instance=instance, errors=error.errors)
    if isinstance(error, RPCError):
        return describe_problem(_explain_call(error), instance=instance)
    if is_connect_failure(error):
        return make_problem(503, "Temporal does not answer", kind=TEMPORAL_AWAY, instance=instance)
    for kind, status, name in _BY_ERROR:
        if isinstance(error, kind):
            if isinstance(error, NotReachableError) and isinstance(error.__cause__, TimeoutError):
                name = "no-worker"
            errors = _find_fields(error) if isinstance(error, BadJobError) else ()
            return make_problem(status, str(error), kind=name, instance=instance, errors=errors)
    return make_problem(500, "the server met an error that it does not know; its log says more", instance=instance)


def _explain_call(error: RPCError) -> LongtakeError:
    said = describe_rpc_error(error)
    if error.status is RPCStatusCode.NOT_FOUND and said == error.message:
        # Of a namespace that is not there, another sentence is made.
        return NoSuchJobError(f"there is no such job ({said})")
    if error.status is RPCStatusCode.INVALID_ARGUMENT:
        return BadJobError(f"Temporal refuses this request: {said}")
    return NotReachableError(f"Temporal does not serve this request: {said}")


def is_connect_failure(error: Exception) -> bool:
    """Tell whether an error is that of a client of Temporal that has not been connected yet."""
    return isinstance(error, RuntimeError) and "client connect" in str(error)


def make_problem(
    status: int,
    detail: str,
    *,
    kind: str = "about:blank",
    instance: str = "",
    errors: Sequence[FieldError] = (),
    since: datetime | None = None,
) -> Problem:
    """Return a problem with the usual title of its status."""
    return Problem(
        type=kind,
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=instance,
        errors=tuple(errors),
        since=since,
    )


def respond(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Return the answer that tells a problem."""
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, problem.status, headers=headers, media_type=MEDIA_TYPE)


def _find_fields(error: BadJobError) -> tuple[FieldError, ...]:
    """Return what is wrong with each field; of a sentence alone the field that it begins with, if any."""
    if isinstance(error.__cause__, ValidationError):
        invalid = list_invalid(error.__cause__)[:_MOST_FIELDS]
        return tuple(FieldError(field=field, message=message) for field, message in invalid)
    sentence = str(error)
    field, colon, message = sentence.partition(": ")
    if colon and " " not in field:
        return (FieldError(field=field, message=message),)
    return (FieldError(field="", message=sentence),)


def add_handlers(app: FastAPI, describe: Callable[..., Problem]) -> None:
    """Let an application answer all errors by problem details.

    Args:
        app: The application.
        describe: Does what `describe_problem` does, and may know more.
    """

    async def answer(request: Request, error: Exception) -> Response:
        problem = describe(error, instance=request.url.path)
        if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return respond(problem, getattr(error, "headers", None))

    async def answer_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [
            FieldError(field=".".join(str(part) for part in each["loc"][1:]), message=each["msg"])
            for each in error.errors()
        ]
        detail = "; ".join(f"{each.field}: {each.message}" for each in errors[:3])
        return respond(make_problem(422, detail, kind="bad-request", instance=request.url.path, errors=errors))

    async def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return respond(
            make_problem(error.status_code, str(error.detail), instance=request.url.path),
            dict(error.headers or {}),
        )

    for kind in (ProblemError, LongtakeError, RPCError, RuntimeError, Exception):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(HTTPException, answer_http)
