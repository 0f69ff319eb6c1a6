"""Decode what programs and people send to a job: its input, signals, updates and the results of activities.

Any SDK, the Temporal UI and a person at a command line send these. What does not fit is refused in one sentence; an
exception of a converter would instead fail the workflow task, which Temporal repeats for ever.
"""

import json
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from temporalio import workflow
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from longtake.codec import explain_undecoded, require_decoded
    from longtake.errors import BadJobError
    from longtake.jobfile.loader import read_job
    from longtake.models.fields import Contract
    from longtake.models.job import RenderJobSpec
    from longtake.models.job_fields import LARGEST_INLINE_JOB_BYTES
    from longtake.models.status import ResumeRequest, SignalledRequest
    from longtake.names import CANCELLED_BY, SCHEDULED_START, check_job_id
    from longtake.ranges import Range, format_ranges
    from longtake.text import describe_invalid, escape_text, quote_value, suggest_key

Request = TypeVar("Request", bound=Contract)
Report = TypeVar("Report", bound=Contract)

HOW_TO_START = "start the job with one JSON object, the keys of a job file"


def accept_job(inputs: tuple[object, ...]) -> RenderJobSpec:
    """Return the job that the input of the workflow describes, with the time of its first start.

    Raises:
        BadJobError: The id of the workflow is none of a job, or the input does not fit.
    """
    check_job_id(workflow.info().workflow_id)
    job = read_job(read_input(inputs))
    return job if job.started_at is not None else job.model_copy(update={"started_at": _find_start()})


def _find_start() -> datetime:
    """Return when the job was started, which a reset does not change."""
    info = workflow.info()
    # A backfill starts the nights of last week today.
    if (scheduled := info.typed_search_attributes.get(SCHEDULED_START)) is not None:
        return scheduled
    # A run by cron is created at the end of the run before, and waits.
    return info.start_time if info.cron_schedule else info.workflow_start_time


def read_input(inputs: tuple[object, ...]) -> object:
    """Return the one input of a workflow, decoded.

    Raises:
        BadJobError: There is none, there are several, it cannot be decoded, or is too large.
    """
    if len(inputs) != 1:
        count = "no input was" if not inputs else f"{len(inputs)} inputs were"
        raise BadJobError(f"job: {count} given; {HOW_TO_START}")
    if isinstance(inputs[0], RawValue):
        raise BadJobError(f"job: the input {_explain(inputs[0], HOW_TO_START)}")
    # Before its chunks are checked one by one: 20,000 of them take longer than a workflow task may.
    size_bytes = len(json.dumps(inputs[0], separators=(",", ":"), default=str))
    if size_bytes > LARGEST_INLINE_JOB_BYTES:
        raise BadJobError(
            f"job: has {size_bytes:,} bytes, and {LARGEST_INLINE_JOB_BYTES:,} can travel; write its chunks into a "
            "job file that the workers see, and `longtake submit` that"
        )
    return inputs[0]


def read_request(kind: type[Request], inputs: tuple[object, ...]) -> Request:
    """Return the argument of a signal or an update; one that needs none may come without.

    Raises:
        ValueError: It cannot be decoded or does not fit; the text names the field and the fix.
    """
    if len(inputs) > 1:
        raise ValueError(f"{len(inputs)} arguments were given; give one, with {_known_keys(kind)}")
    given = inputs[0] if inputs else None
    if isinstance(given, RawValue):
        raise ValueError(f"the argument {_explain(given, f'give a JSON object with {_known_keys(kind)}')}")
    if isinstance(given, dict):
        for key in given:
            if key not in kind.model_fields:
                hint = suggest_key(str(key).lower(), kind.model_fields)
                raise ValueError(f"{escape_text(str(key))}: is not a key of this request; {hint}")
    try:
        return kind.model_validate({} if given is None else given)
    except ValidationError as error:
        text = describe_invalid(error)
        raise ValueError(text if ":" in text else f"the argument {text}") from error


def read_resume(inputs: tuple[object, ...]) -> ResumeRequest:
    """Return the argument of a resume; an empty one where it cannot be read, because a resume is never refused."""
    try:
        return read_request(ResumeRequest, inputs)
    except ValueError:
        return ResumeRequest()


def read_cancel_reason(reason: str) -> tuple[str, str]:
    """Return on whose behalf a cancel of the workflow was sent, and the reason that was given for it otherwise."""
    if reason.startswith(CANCELLED_BY):
        return reason.removeprefix(CANCELLED_BY), ""
    return "", reason


def describe_chunks(chunks: tuple[Range, ...]) -> str:
    """Return which chunks a request names."""
    return f"chunks {format_ranges(chunks)}" if chunks else ""


def _known_keys(kind: type[BaseModel]) -> str:
    return " and ".join(key for key in kind.model_fields if key not in SignalledRequest.model_fields)


def _explain(value: RawValue, advice: str) -> str:
    """Return why a payload was not decoded, and what mends it."""
    if why := explain_undecoded(value.payload):
        return f"cannot be read by its worker: it {why}"
    encoding = value.payload.metadata.get("encoding", b"").decode("ascii", "replace")
    if encoding == "json/plain":
        why = "is not JSON in UTF-8"
    else:
        why = f"has the encoding {quote_value(encoding)}, and json/plain is read" if encoding else "has no encoding"
    return f"{why}; {advice}"


class BadResultError(Exception):
    """An activity was completed with something that is no result of it, as by `temporal activity complete`."""


def read_result(kind: type[Report], result: object) -> Report:
    """Return the result of an activity, or the report in the details of its failure.

    The SDK decodes a result before code of ours runs, and one that does not fit would fail the workflow task for ever;
    so activities are started with `RawValue` as the type of their result.

    Raises:
        BadResultError: It is no such report.
        UndecodedPayloadError: This worker lacks the codec or the key of the one that wrote the result: the workflow
            task fails, and is done by a worker that has it.
    """
    try:
        if isinstance(result, RawValue):
            result = workflow.payload_converter().from_payloads([result.payload])[0]
        if isinstance(result, RawValue):
            require_decoded(result.payload, f"a {kind.__name__}")
        return kind.model_validate(result)
    except ValidationError as error:
        raise BadResultError(f"was completed with what is no {kind.__name__}") from error


def find_result(kind: type[Report], handle: workflow.ActivityHandle[RawValue]) -> Report | None:
    """Return the result of an activity that has ended; None where it has none that can be read."""
    # Without this look at the exception asyncio would report one as never retrieved.
    if handle.cancelled() or handle.exception() is not None:
        return None
    try:
        return read_result(kind, handle.result())
    except BadResultError:
        return None
