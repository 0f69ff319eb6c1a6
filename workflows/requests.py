"""Decode and check what programs and people send to a job: its input, signals, updates and the results of activities.

Any SDK, the Temporal UI and a person at a command line send these. What does not fit is refused in one sentence; an
exception of a converter would instead fail the workflow task, which Temporal repeats for ever.
"""

import json
from difflib import get_close_matches
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from temporalio import workflow
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from longtake.errors import BadJobError
    from longtake.models.fields import Contract
    from longtake.models.job_fields import LARGEST_INLINE_JOB_BYTES
    from longtake.models.status import RetryFailed, SkipChunks
    from longtake.ranges import RangeSet, format_ranges
    from longtake.text import describe_invalid, escape_text, quote_value
    from workflows.spans import SpanRunner

Request = TypeVar("Request", bound=Contract)

_HOW_TO_START = "start the job with one JSON object, the keys of a job file"


def read_input(inputs: tuple[object, ...]) -> object:
    """Return the one input of a workflow, decoded.

    Raises:
        BadJobError: There is none, there are several, it cannot be decoded, or is too large.
    """
    if len(inputs) != 1:
        count = "no input was" if not inputs else f"{len(inputs)} inputs were"
        raise BadJobError(f"job: {count} given; {_HOW_TO_START}")
    if isinstance(inputs[0], RawValue):
        raise BadJobError(f"job: the input {_explain(inputs[0])}; {_HOW_TO_START}")
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
        raise ValueError(f"the argument {_explain(given)}; give a JSON object with {_known_keys(kind)}")
    if isinstance(given, dict):
        for key in given:
            if key not in kind.model_fields:
                near = get_close_matches(str(key).lower()[:60], kind.model_fields, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(kind.model_fields)}"
                raise ValueError(f"{escape_text(str(key))}: is not a key of this request; {hint}")
    try:
        return kind.model_validate({} if given is None else given)
    except ValidationError as error:
        text = describe_invalid(error)
        raise ValueError(text if ":" in text else f"the argument {text}") from error


def _known_keys(kind: type[BaseModel]) -> str:
    return " and ".join(kind.model_fields)


def _explain(value: RawValue) -> str:
    """Return why a payload was not decoded."""
    encoding = value.payload.metadata.get("encoding", b"").decode("ascii", "replace")
    if encoding == "json/plain":
        return "is not JSON in UTF-8"
    if encoding == "binary/encrypted":
        return "is encrypted, and this worker has no codec for it"
    if not encoding:
        return "has no encoding"
    return f"has the encoding {quote_value(encoding)}, and json/plain is read"


def check_rendering(spans: SpanRunner | None) -> SpanRunner:
    """Return the spans of a job that is rendering.

    Raises:
        ValueError: The job is not rendering yet, or not any more.
    """
    if spans is None:
        raise ValueError("the job is not rendering yet; try again in a moment")
    if spans.is_closed:
        raise ValueError("the job has come to the end of its rendering; `longtake retry` is for when it has ended")
    return spans


def check_retry(request: RetryFailed, spans: SpanRunner | None) -> None:
    """Check that all chunks that a retry names have failed or are left out.

    Raises:
        ValueError: One is neither, or no chunk has failed.
    """
    chunks = check_rendering(spans).scheduler
    if not request.chunks and not chunks.failed:
        raise ValueError("no chunk has failed; there is nothing to retry")
    there = RangeSet((*chunks.failed, *chunks.left_out))
    _check_within(request.chunks, there, "neither failed nor skipped; only such chunks can be retried")


def check_skip(request: SkipChunks, spans: SpanRunner | None) -> None:
    """Check that all chunks that a skip names can be left out.

    Raises:
        ValueError: One is published or not a chunk of this job, or the film must not have gaps.
    """
    running = check_rendering(spans)
    chunks = running.scheduler
    _check_within(request.chunks, RangeSet([(0, chunks.chunk_count)]), f"not among the job's {chunks.chunk_count}")
    unfinished = RangeSet(chunks.done).gaps(0, chunks.chunk_count)
    _check_within(request.chunks, unfinished, "finished already; only others can be skipped")
    if running.has_film and not (request.allow_gaps or running.allow_gaps):
        raise ValueError("the film would have gaps; say that it may (allow_gaps, or `longtake skip --allow-gaps`)")


def _check_within(asked: tuple[tuple[int, int], ...], there: RangeSet, problem: str) -> None:
    for start, stop in asked:
        if start >= stop:
            raise ValueError(f"chunks: [{start}, {stop}) is empty; give the first chunk and the one after the last")
        if lacking := there.gaps(start, stop).ranges:
            one = sum(high - low for low, high in lacking) == 1
            raise ValueError(
                f"chunk {format_ranges(lacking)} is {problem}"
                if one
                else f"chunks {format_ranges(lacking)} are {problem}"
            )
