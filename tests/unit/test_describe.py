"""The chunks that run, read from Temporal's pending activities: rendering, frozen, waiting, paused by hand."""

import pytest
from temporalio.api.enums.v1 import PendingActivityState, TimeoutType
from temporalio.api.failure.v1 import Failure, ServerFailureInfo, TimeoutFailureInfo
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.contrib.pydantic import pydantic_data_converter

from longtake.describe import read_running_chunks
from longtake.models.messages import Heartbeat
from longtake.models.status import RunningChunk

BEAT = Heartbeat(
    chunk=7, frames=10, frames_done=4, failures=1, host="node", message="Tile 3", cpu_seconds=2.5, memory_bytes=2**20,
    io_bytes=99,
)  # fmt: skip


async def pending(state: PendingActivityState.ValueType, beat: Heartbeat | None = BEAT) -> PendingActivityInfo:
    activity = PendingActivityInfo(activity_id="chunks-7-9.3", state=state)
    activity.activity_type.name = "render_span"
    if beat is not None:
        activity.heartbeat_details.payloads.extend(await pydantic_data_converter.encode([beat]))
    return activity


async def read(activity: PendingActivityInfo) -> RunningChunk:
    (chunk,) = await read_running_chunks([activity], pydantic_data_converter, job_id="film-1")
    return chunk


async def test_a_chunk_that_renders_shows_all_its_heartbeat_says() -> None:
    chunk = await read(await pending(PendingActivityState.PENDING_ACTIVITY_STATE_STARTED))

    assert chunk == RunningChunk(
        chunk=7, frames=10, frames_done=4, attempt=2, host="node", message="Tile 3", cpu_seconds=2.5,
        memory_bytes=2**20, io_bytes=99,
    )  # fmt: skip


async def test_a_chunk_that_is_being_stopped_still_runs() -> None:
    chunk = await read(await pending(PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED))

    assert not chunk.waiting


async def test_a_frozen_chunk_keeps_its_frames_and_memory() -> None:
    beat = BEAT.model_copy(update={"frozen": 2})
    chunk = await read(await pending(PendingActivityState.PENDING_ACTIVITY_STATE_STARTED, beat))

    assert (chunk.frozen, chunk.waiting, chunk.frames_done, chunk.memory_bytes) == (True, False, 4, 2**20)


async def test_a_chunk_in_a_queue_shows_nothing_of_its_last_try_but_the_error() -> None:
    activity = await pending(
        PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED, BEAT.model_copy(update={"frozen": 2})
    )
    activity.last_failure.CopyFrom(Failure(message="chunk 7: exit code 1"))
    chunk = await read(activity)

    assert chunk == RunningChunk(chunk=7, frames=10, attempt=2, host="node", waiting=True, error="chunk 7: exit code 1")


async def test_a_lost_worker_is_told_in_words_of_ours() -> None:
    activity = await pending(PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED)
    lost = TimeoutFailureInfo(timeout_type=TimeoutType.TIMEOUT_TYPE_HEARTBEAT)
    activity.last_failure.CopyFrom(Failure(message="activity Heartbeat timeout", timeout_failure_info=lost))

    assert (await read(activity)).error == "its worker was lost, and another one takes it"


async def test_an_error_too_long_for_the_server_is_told_all_the_same() -> None:
    activity = await pending(PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED)
    # As servers of 1.29 and 1.32 answer.
    shown = Failure(message="Failure exceeds size limit.", server_failure_info=ServerFailureInfo())
    shown.cause.message = "chunk 7: ended by SIGKILL"
    activity.last_failure.CopyFrom(shown)

    assert (await read(activity)).error == "chunk 7: ended by SIGKILL"


@pytest.mark.parametrize(
    "state",
    [
        PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED,
        PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED,
    ],
    ids=["paused", "to be paused"],
)
async def test_an_activity_paused_in_temporal_waits_and_says_how_to_unpause_it(
    state: PendingActivityState.ValueType,
) -> None:
    activity = await pending(state)
    activity.last_failure.CopyFrom(Failure(message="exit code 1"))
    chunk = await read(activity)

    assert (chunk.waiting, chunk.frames_done, chunk.memory_bytes) == (True, 0, 0)
    assert chunk.error == (
        "paused in Temporal; unpause it in the Temporal UI, or with "
        "`temporal activity unpause --workflow-id film-1 --activity-id chunks-7-9.3`"
    )


async def test_whoever_paused_an_activity_in_temporal_is_named_with_the_reason() -> None:
    activity = await pending(PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED)
    activity.pause_info.manual.identity = "ann@desk"
    activity.pause_info.manual.reason = "disk full"

    assert (await read(activity)).error.startswith("paused in Temporal by ann@desk (disk full); unpause it")


async def test_a_chunk_without_a_heartbeat_is_known_by_its_activity() -> None:
    chunk = await read(await pending(PendingActivityState.PENDING_ACTIVITY_STATE_STARTED, beat=None))

    assert chunk == RunningChunk(chunk=7)


async def test_activities_that_render_nothing_are_left_out() -> None:
    activity = PendingActivityInfo(activity_id="1", state=PendingActivityState.PENDING_ACTIVITY_STATE_STARTED)
    activity.activity_type.name = "stitch_job"

    assert await read_running_chunks([activity], pydantic_data_converter, job_id="film-1") == ()
