"""What a workflow and its activities tell each other is small, whatever a job holds."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.data_converter import data_converter
from longtake.models.messages import (
    MOST_GIVEN_UP_BYTES,
    MOST_HEARTBEAT_BYTES,
    Heartbeat,
    JobPlan,
    JobRef,
    SpanOrder,
    StitchOrder,
)
from longtake.models.status import ChunkFailure
from longtake.ranges import Range, RangeSet, pack_ranges

REF = JobRef(id="job", base_dir="/farm", digest="d")
HOLES = tuple((chunk, chunk + 1) for chunk in range(0, 1_000_000, 2))

names = st.one_of(st.text(max_size=255), st.sampled_from(["\x00" * 255, "\U0001f3ac" * 255, '"' * 255, "node-1"]))
messages = st.one_of(st.text(max_size=400), st.sampled_from(["\x1b" * 400, "\U0001f3ac" * 400]))
numbers = st.integers(0, 10**15)
amounts = st.floats(0, 1e12)
failures = st.builds(ChunkFailure, chunk=st.integers(0, 10**6), error=messages, host=names, log=names)
hostile = st.builds(
    Heartbeat,
    chunk=st.integers(0, 10**6), frames=numbers, frames_done=numbers, attempt=numbers, failures=numbers, losses=numbers,
    number=numbers, ended=st.booleans(), unexpected=numbers, reasons=st.lists(failures, max_size=3).map(tuple),
    host=names, failed_on=st.lists(names, max_size=32).map(tuple), throttled=numbers, away=numbers,
    avoid=st.lists(names, max_size=16).map(tuple), given_back=numbers, frozen=numbers, rendered=numbers,
    span_frames=numbers, render_seconds=amounts, billed_seconds=amounts, cost_usd=amounts, message=messages,
    cpu_seconds=amounts, memory_bytes=numbers, io_bytes=numbers,
)  # fmt: skip


def size(message: object) -> int:
    (payload,) = data_converter({}).payload_converter.to_payloads([message])
    return len(payload.data)


def scattered(most_bytes: int) -> tuple[Range, ...]:
    """Return as many failed chunks as a span may have before it gives its rest back."""
    chance, ranges = random.Random(1), []
    for chunk in range(990_000, 1_000_000):
        if chance.random() < 0.5:
            ranges.append((chunk, chunk + 1))
            if len(pack_ranges(ranges)) > most_bytes:
                return RangeSet(ranges).ranges
    raise AssertionError("so many fit")


GIVEN_UP = scattered(MOST_GIVEN_UP_BYTES)


@given(hostile, st.sampled_from([(), GIVEN_UP]))
def test_a_heartbeat_has_a_kibibyte_whatever_stands_in_it(beat: Heartbeat, given_up: tuple[Range, ...]) -> None:
    beat = beat.model_copy(update={"given_up": given_up})

    assert size(beat) <= MOST_HEARTBEAT_BYTES
    read = Heartbeat.model_validate_json(beat.model_dump_json())
    lost = {"reasons", "host", "failed_on", "avoid", "message"}
    assert read.model_dump(exclude=lost) == beat.model_dump(exclude=lost), "what counts is never cut"


def test_a_usual_heartbeat_is_whole() -> None:
    reason = ChunkFailure(chunk=3, error="exited with code 7: no ink", host="node-1", log="logs/3.log")
    beat = Heartbeat(
        chunk=4, frames=10, frames_done=4, host="node-1", given_up=((3, 4),), reasons=(reason,), failed_on=("node-1",),
        avoid=("node-1",), message="Fra:4 Mem:120M", memory_bytes=10**9, cpu_seconds=12.5,
    )  # fmt: skip

    assert Heartbeat.model_validate_json(beat.model_dump_json()) == beat
    assert len(json.loads(Heartbeat(chunk=0).model_dump_json())) == 1


@pytest.mark.parametrize(
    ("message", "most"),
    [
        (StitchOrder(ref=REF, missing=HOLES), 1024),
        (JobPlan(ref=REF, chunk_count=10**6, frame_count=10**6, done=HOLES, left_out=HOLES), 2048),
        (SpanOrder(ref=REF, start=0, stop=5000, published=HOLES[:2500]), 1024),
        (SpanOrder(ref=REF, start=995_000, stop=10**6, published=GIVEN_UP), 1024),
    ],
    ids=["stitch", "plan", "span", "span with scattered holes"],
)
def test_sets_of_chunks_travel_as_bitmaps(message: JobPlan | SpanOrder | StitchOrder, most: int) -> None:
    assert size(message) <= most
    assert type(message).model_validate_json(message.model_dump_json()) == message
