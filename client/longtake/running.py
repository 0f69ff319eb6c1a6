"""The chunks that run now, as Temporal's list of a job's pending activities tells of them."""

from collections.abc import Iterable

from temporalio.api.enums.v1 import PendingActivityState, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.converter import DataConverter

from longtake.names import RENDER_SPAN
from longtake.status import RunningChunk
from longtake.work import Heartbeat

# Somebody paused the activity itself, in Temporal's UI or CLI; its attempt ends as soon as its worker hears of it.
_PAUSED = (
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED,
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED,
)


async def running_chunks(
    activities: Iterable[PendingActivityInfo], converter: DataConverter, *, job_id: str
) -> tuple[RunningChunk, ...]:
    """Return the chunks that are rendered, stand frozen, or wait for their next try."""
    renders = [activity for activity in activities if activity.activity_type.name == RENDER_SPAN]
    chunks = [_chunk(activity, await last_beat(activity, converter), job_id) for activity in renders]
    # Temporal lists activities in no order that would stay.
    return tuple(sorted(chunks, key=lambda chunk: chunk.chunk))


async def last_beat(activity: PendingActivityInfo, converter: DataConverter) -> Heartbeat | None:
    """Return the last word of a render, if it has said one."""
    if not activity.HasField("heartbeat_details"):
        return None
    beat: Heartbeat
    (beat,) = await converter.decode(list(activity.heartbeat_details.payloads), [Heartbeat])
    return beat


def _chunk(activity: PendingActivityInfo, beat: Heartbeat | None, job_id: str) -> RunningChunk:
    beat = beat or Heartbeat(chunk=_first_chunk(activity.activity_id))
    error = _why(activity.last_failure) if activity.HasField("last_failure") else ""
    told = RunningChunk(
        chunk=beat.chunk, frames=beat.frames, attempt=beat.failures + 1, host=beat.host, waiting=True, error=error
    )
    if activity.state in _PAUSED:
        return told.model_copy(update={"error": _how_to_unpause(activity, job_id)})
    if activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
        # What the heartbeat says else is of the try before.
        return told
    return told.model_copy(
        update={
            "waiting": False,
            "frames_done": beat.frames_done,
            "frozen": beat.frozen != 0,
            "message": beat.message,
            "cpu_seconds": beat.cpu_seconds,
            "memory_bytes": beat.memory_bytes,
            "io_bytes": beat.io_bytes,
        }
    )


def _how_to_unpause(activity: PendingActivityInfo, job_id: str) -> str:
    who = activity.pause_info.manual
    by = f" by {who.identity}" if who.identity else ""
    reason = f" ({who.reason})" if who.reason else ""
    return (
        f"paused in Temporal{by}{reason}; unpause it in the Temporal UI, or with "
        f"`temporal activity unpause --workflow-id {job_id} --activity-id {activity.activity_id}`"
    )


def _why(failure: Failure) -> str:
    # In place of a failure of more than 4,096 bytes, stack trace and all, the server shows one of its own.
    if failure.HasField("server_failure_info") and failure.HasField("cause"):
        failure = failure.cause
    # Temporal's own words, "activity Heartbeat timeout", tell nobody that a worker died.
    if failure.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_HEARTBEAT:
        return "its worker was lost, and another one takes it"
    return failure.message


def _first_chunk(activity_id: str) -> int:
    """Return the first chunk in an activity's id, such as `chunks-8-15.3`."""
    digits = activity_id.split(".")[0].split("-")[1:2]
    return int(digits[0]) if digits and digits[0].isdigit() else 0
