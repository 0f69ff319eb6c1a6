"""Payloads that cannot be decoded are handed on, and failures fit what a server keeps of them, encrypted or not."""

import base64
import json
import secrets
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, CancelledError, FailureError

from activities.errors import describe_unexpected
from longtake.data_converter import MOST_MESSAGE_BYTES, data_converter, reveal_message
from longtake.errors import ErrorType, UndecodedPayloadError
from longtake.models.messages import Heartbeat, SpanReport
from longtake.models.status import RemoteStop
from longtake.text import cut_to_bytes

# `limit.mutableStateActivityFailureSize.warn` of Temporal 1.32: a server warns from here on, and cuts at twice that.
MOST_BYTES = 2048

# What the failures of activities are made of: the longest host name, path and sentence, and what JSON writes longest.
TEXT = st.text(max_size=3000) | st.sampled_from(["\x00" * 1000, "\U0001f3ac" * 1000, "\u2028" * 800 + "/" * 4096])


PLAIN: dict[str, str] = {}
ENCRYPTED = {
    "LONGTAKE_CODEC": "longtake.encryption:aes_gcm",
    "LONGTAKE_CODEC_KEYS": f"{'k' * 64}={base64.b64encode(secrets.token_bytes(32)).decode()}",
}


@pytest.fixture(autouse=True, scope="module", params=[PLAIN, ENCRYPTED], ids=["plain", "encrypted"])
def environ(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The settings of the codec, of which the included one reads the keys from the process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in request.param.items():
            patch.setenv(name, value)
        yield request.param


async def failure_of(error: BaseException) -> Failure:
    """Return a failure as it goes to the server."""
    failure = Failure()
    await data_converter().encode_failure(error, failure)
    return failure


async def told(failure: Failure) -> str:
    """Return the message of a failure, as a client reads it."""
    copy = Failure()
    copy.CopyFrom(failure)
    error = await data_converter().decode_failure(copy)
    assert isinstance(error, FailureError)
    return error.message


def raised(error: BaseException) -> BaseException:
    """Return an error with a traceback and causes, as activities raise them."""
    try:
        try:
            try:
                raise OSError("no space left on device" * 40)
            except OSError as cause:
                raise ValueError("x" * 3000) from cause
        except ValueError as cause:
            raise error from cause
    except BaseException as raised:
        return raised


@given(message=TEXT, kind=st.sampled_from(ErrorType), number=st.integers(0, 2**31))
async def test_the_failure_of_a_try_fits_what_a_server_keeps(message: str, kind: ErrorType, number: int) -> None:
    report = SpanReport(
        done=tuple((number + 2 * i, number + 2 * i + 1) for i in range(10)),
        failed=tuple((number + 2 * i, number + 2 * i + 1) for i in range(10)),
        left_failures=1000,
        left_losses=1000,
        rendered=number,
        render_seconds=number / 3,
        cpu_seconds=number / 3,
        peak_memory_bytes=2**50,
        billed_seconds=number / 3,
        cost_usd=number / 3,
        stops=(RemoteStop(chunk=number, where="lambda " + "r" * 64, confirmed=True, seconds=number / 3),),
    )
    error = ApplicationError(message, report, type=kind, next_retry_delay=timedelta(seconds=1.234567))

    failure = await failure_of(raised(error))

    assert failure.ByteSize() <= MOST_BYTES
    assert not failure.HasField("cause")
    assert failure.stack_trace == ""
    assert failure.application_failure_info.type == kind


@given(message=TEXT)
async def test_an_unexpected_error_fits_too(message: str) -> None:
    failure = await failure_of(raised(RuntimeError(message)))
    assert failure.ByteSize() <= MOST_BYTES
    failure = await failure_of(
        raised(ApplicationError(describe_unexpected(KeyError(message)), type=ErrorType.UNEXPECTED))
    )
    assert failure.ByteSize() <= MOST_BYTES
    assert (await failure_of(raised(CancelledError(message)))).ByteSize() <= MOST_BYTES


@given(text=st.text(), most=st.integers(20, 200))
def test_a_text_is_cut_between_characters(text: str, most: int) -> None:
    cut = cut_to_bytes(text, most)
    assert len(cut.encode()) <= most
    assert cut == text or cut.startswith(text[:1]) or len(text[0].encode()) > 1


async def test_both_ends_of_a_long_message_stay() -> None:
    cut = await told(await failure_of(ApplicationError("begin " + "x" * 5000 + " end")))
    assert len(cut) in (MOST_MESSAGE_BYTES, 550)
    assert cut.startswith("begin x")
    assert cut.endswith("x end")


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"{", "json/plain"),
        (b"\xff", "json/plain"),
        (b"", "json/plain"),
        (b"{}", "binary/zlib"),
        (b"{}", "json/protobuf"),
    ],
)
def test_a_value_of_no_known_type_that_cannot_be_decoded_is_handed_on(data: bytes, encoding: str) -> None:
    payload = Payload(metadata={"encoding": encoding.encode()}, data=data)
    converter = data_converter().payload_converter

    (value, other) = converter.from_payloads([payload, converter.to_payload({"a": 1})])
    assert isinstance(value, RawValue)
    assert value.payload == payload
    assert other == {"a": 1}
    with pytest.raises((KeyError, ValueError, RuntimeError)):
        converter.from_payloads([payload], [Heartbeat])


def test_models_travel_as_json() -> None:
    converter = data_converter().payload_converter
    beat = Heartbeat(chunk=7, losses=1)
    payload = converter.to_payload(beat)
    assert json.loads(payload.data)["losses"] == 1
    assert converter.from_payload(payload, Heartbeat) == beat


async def test_a_failure_hides_its_message_where_there_is_a_codec(environ: dict[str, str]) -> None:
    failure = await failure_of(raised(ApplicationError("TOKEN=hunter2", SpanReport(left_failures=7))))

    assert (b"hunter2" in failure.SerializeToString()) is (environ is PLAIN)
    assert (b"left_failures" in failure.SerializeToString()) is (environ is PLAIN)
    assert await told(failure) == "TOKEN=hunter2"


async def test_what_a_server_hands_out_of_a_failure_is_revealed_also_inside_one_of_its_own() -> None:
    failure = await failure_of(ApplicationError("TOKEN=hunter2"))
    around = Failure(message="Failure exceeds size limit.", cause=failure)

    await reveal_message(around, data_converter())
    await reveal_message(failure, data_converter())
    assert around.message == "Failure exceeds size limit."
    assert around.cause.message == failure.message == "TOKEN=hunter2"


async def test_a_failure_that_comes_from_the_server_goes_back_as_it_was(environ: dict[str, str]) -> None:
    """The failure of an activity goes on as the cause of a workflow's, and is encoded once."""
    first = await failure_of(ApplicationError("TOKEN=hunter2"))
    error = await data_converter().decode_failure(first)

    again = await failure_of(error)
    assert (b"hunter2" in again.SerializeToString()) is (environ is PLAIN)
    assert await told(again) == "TOKEN=hunter2"


async def test_without_the_key_values_and_failures_say_so_and_what_is_plain_is_read_with_one(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = await failure_of(ApplicationError("TOKEN=hunter2"))
    payloads = await data_converter().encode([Heartbeat(chunk=7)])
    if environ is PLAIN:
        for name, value in ENCRYPTED.items():
            monkeypatch.setenv(name, value)
        assert await told(failure) == "TOKEN=hunter2"
        assert await data_converter().decode(payloads, [Heartbeat]) == [Heartbeat(chunk=7)]
        return
    for name in ENCRYPTED:
        monkeypatch.delenv(name)
    with pytest.raises(UndecodedPayloadError) as unread:
        await data_converter().decode(payloads, [Heartbeat])
    sentence = f"is encrypted with the key '{'k' * 56}..., and no codec is set here; set LONGTAKE_CODEC="
    assert str(unread.value).startswith(f"a value of this job {sentence}")
    assert (await told(failure)).startswith(f"the reason of this failure {sentence}")
    # As the SDK raises it for the arguments of an activity.
    error = ApplicationError("Failed decoding arguments")
    error.__cause__ = unread.value
    assert (await told(await failure_of(error))).startswith(
        f"Failed decoding arguments: a value of this job {sentence}"
    )
