"""Decode the results of activities, which a person may have written by hand."""

from typing import TypeVar

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from longtake.models.fields import Contract

Report = TypeVar("Report", bound=Contract)


class BadResultError(Exception):
    """An activity was completed with something that is no result of it, as by `temporal activity complete`."""


def read_result(kind: type[Report], result: object) -> Report:
    """Return the result of an activity, or the report in the details of its failure.

    The SDK decodes a result before code of ours runs, and one that does not fit would fail the workflow task for ever;
    so activities are started with `RawValue` as the type of their result.

    Raises:
        BadResultError: It is no such report.
    """
    try:
        if isinstance(result, RawValue):
            result = workflow.payload_converter().from_payloads([result.payload])[0]
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
