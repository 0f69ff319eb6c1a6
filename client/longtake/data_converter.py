"""Write payloads and failures for Temporal the same way on clients, workers and in replays."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.common import RawValue
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, DefaultFailureConverter, PayloadConverter

from longtake.codec import explain_undecoded, load_codec, require_decoded
from longtake.errors import UndecodedPayloadError
from longtake.text import cut_to_bytes

# In place of a failure of more than 4,096 bytes a server shows "Failure exceeds size limit." as the reason of a failed
# try, and warns from 2,048 on (`limit.mutableStateActivityFailureSize`). The rest is for the details and their frame.
MOST_MESSAGE_BYTES = 750

# The same for a message that travels as an encrypted payload, in JSON: beside it are two nonces, tags and key ids.
_MOST_ENCODED_BYTES = 550

# What the SDK's failure converter writes in place of a message that a codec encodes.
_ENCODED_MESSAGE = "Encoded failure"


class LenientPayloadConverter(PydanticPayloadConverter):
    """Decode payloads by their type hints, and hand on what cannot be decoded where there is no hint.

    Inputs of workflows, signals and updates come from any program or person. An error of the converter is raised
    before code of ours runs: it would retry the workflow task of an input for ever, and drop a signal without a word.
    """

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """Return the values; `RawValue` in place of a value without a type hint that cannot be decoded.

        Raises:
            UndecodedPayloadError: A value with a type hint needs another codec or key.
        """
        if type_hints:
            for payload, hint in zip(payloads, type_hints, strict=False):
                if hint is not RawValue:
                    require_decoded(payload, "a value of this job")
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

    # Whether messages travel as payloads, which a codec encodes.
    encodes_messages = False

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """Write an exception into a failure."""
        super().to_failure(exception, payload_converter, failure)
        # A failure that came from the server, such as that of an activity, is its cause: it stays.
        if failure.HasField("application_failure_info") or failure.HasField("canceled_failure_info"):
            failure.ClearField("cause")
        failure.stack_trace = ""
        if isinstance(exception.__cause__, UndecodedPayloadError):
            # The SDK's own says no more than "Failed decoding arguments".
            failure.message = f"{failure.message}: {exception.__cause__}"
        # One that came from the server has its message in both places.
        failure.ClearField("encoded_attributes")
        if self.encodes_messages:
            attributes = {"message": _cut_to_json(failure.message), "stack_trace": ""}
            failure.encoded_attributes.CopyFrom(payload_converter.to_payload(attributes))
            failure.message = _ENCODED_MESSAGE
        else:
            failure.message = cut_to_bytes(failure.message, MOST_MESSAGE_BYTES)

    def from_failure(self, failure: Failure, payload_converter: PayloadConverter) -> BaseException:
        """Read a failure; one whose message cannot be decoded says why not."""
        if why := explain_undecoded(failure.encoded_attributes):
            told = Failure()
            told.CopyFrom(failure)
            told.ClearField("encoded_attributes")
            told.message = f"the reason of this failure {why}"
            failure = told
        return super().from_failure(failure, payload_converter)


class EncodedFailureConverter(BriefFailureConverter):
    """Write the messages of failures as payloads, for a codec: they quote commands, paths and logs of jobs."""

    encodes_messages = True


async def reveal_message(failure: Failure, converter: DataConverter) -> None:
    """Put the message of a failure that a server hands out, which a codec may have encoded, back in its place.

    Args:
        failure: The failure, which is changed; or one of the server's own around the failure.
        converter: Decoder of the message. Where it cannot decode it, the message becomes the reason why.
    """
    for each in (failure, failure.cause) if failure.HasField("cause") else (failure,):
        if each.HasField("encoded_attributes"):
            # A copy, for the converter decodes all of a failure in place.
            told = Failure()
            told.CopyFrom(each)
            each.message = str(getattr(await converter.decode_failure(told), "message", _ENCODED_MESSAGE))
            each.ClearField("encoded_attributes")


def _cut_to_json(message: str) -> str:
    """Cut a message so that it fits with its escapes, of which a control character has six bytes."""
    most, cut = _MOST_ENCODED_BYTES, cut_to_bytes(message, _MOST_ENCODED_BYTES)
    while len(json.dumps(cut, ensure_ascii=False).encode("utf-8", "replace")) > _MOST_ENCODED_BYTES + 2:
        most = most * 3 // 4
        cut = cut_to_bytes(message, most)
    return cut


def data_converter(environ: Mapping[str, str] | None = None) -> DataConverter:
    """Return how payloads and failures are written: the same on clients, workers and in replays.

    Args:
        environ: The environment with the settings of the codec; default: that of this process.

    Raises:
        LongtakeError: The settings of the codec are off.
    """
    codec = load_codec(environ)
    return DataConverter(
        payload_converter_class=LenientPayloadConverter,
        payload_codec=codec,
        failure_converter_class=EncodedFailureConverter if codec else BriefFailureConverter,
    )
