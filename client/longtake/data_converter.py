"""Write payloads and failures for Temporal the same way on clients, workers and in replays."""

from collections.abc import Sequence
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.common import RawValue
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, DefaultFailureConverter, PayloadConverter

from longtake.text import cut_to_bytes

# In place of a failure of more than 4,096 bytes a server shows "Failure exceeds size limit." as the reason of a failed
# try, and warns from 2,048 on (`limit.mutableStateActivityFailureSize`). The rest is for the details and their frame.
MOST_MESSAGE_BYTES = 750


class LenientPayloadConverter(PydanticPayloadConverter):
    """Decode payloads by their type hints, and hand on what cannot be decoded where there is no hint.

    Inputs of workflows, signals and updates come from any program or person. An error of the converter is raised
    before code of ours runs: it would retry the workflow task of an input for ever, and drop a signal without a word.
    """

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """Return the values; `RawValue` in place of a value without a type hint that cannot be decoded."""
        if type_hints:
            return super().from_payloads(payloads, type_hints)
        return [self._from_unknown(payload) for payload in payloads]

    def _from_unknown(self, payload: Payload) -> Any:
        try:
            (value,) = super().from_payloads([payload])
        except (KeyError, ValueError, RuntimeError):
            # An unknown encoding; broken JSON, or what is not UTF-8; a broken protobuf.
            return RawValue(payload)
        return value


class BriefFailureConverter(DefaultFailureConverter):
    """Write failures that a server keeps whole: one short message, no causes and no stack traces.

    Both are in the log of the worker, where the failure was handled.
    """

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """Write an exception into a failure."""
        super().to_failure(exception, payload_converter, failure)
        # A failure that came from the server, such as that of an activity, is its cause: it stays.
        if failure.HasField("application_failure_info") or failure.HasField("canceled_failure_info"):
            failure.ClearField("cause")
        failure.stack_trace = ""
        failure.message = cut_to_bytes(failure.message, MOST_MESSAGE_BYTES)


def data_converter() -> DataConverter:
    """Return how payloads and failures are written: the same on clients, workers and in replays."""
    return DataConverter(payload_converter_class=LenientPayloadConverter, failure_converter_class=BriefFailureConverter)
