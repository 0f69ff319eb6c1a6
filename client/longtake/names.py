"""Define the names that clients, workflows and workers share: queues, ids, signals, search attributes."""

import hashlib
import re
import secrets
from datetime import UTC, datetime
from enum import StrEnum

from temporalio.common import SearchAttributeKey

from longtake.errors import BadJobError
from longtake.models.backends import BackendKind
from longtake.models.inputs import INPUTS
from longtake.text import escape_text

RENDER_JOB_WORKFLOW = "RenderJob"
CHUNK_BATCH_WORKFLOW = "ChunkBatch"
FARM_CONTROL_WORKFLOW = "FarmControl"
NOTIFY_WORKFLOW = "NotifyJob"

# Signal to that workflow.
FARM_ORDER = "order"

# Signals of a job to its batches, and of these to it.
BATCH_CONTROL = "control"
BATCH_REST = "batch_rest"

# Activities. Clients and drains look for those that render among the pending ones.
PLAN_JOB = "plan_job"
HAS_SEARCH_ATTRIBUTES = "has_search_attributes"
RENDER_SPAN = "render_span"
FIND_WAITING = "find_waiting"
STOP_AGENTS = "stop_agents"
STITCH_JOB = "stitch_job"
TRY_FILM = "try_film"
FIND_RECEIVERS = "find_receivers"
DELIVER = "deliver"
WRITE_REPORT = "write_report"

DEFAULT_TASK_QUEUE = "longtake"

STATE = SearchAttributeKey.for_keyword("LongtakeState")
NAME = SearchAttributeKey.for_keyword("LongtakeName")
PROGRESS = SearchAttributeKey.for_float("LongtakeProgress")

# Temporal's own: the time for which a schedule starts a workflow, which is long past in a backfill.
SCHEDULED_START = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")

# Registered by each worker as it starts, and by the development server.
SEARCH_ATTRIBUTES = (STATE, NAME, PROGRESS)

# Memo keys: small values that `describe` and `list` return without a worker. Whoever starts a workflow may give it a
# memo too: without a prefix, one `status="urgent"` was taken for ours. Before 0.2 ours had none; see `read_memo`.
MEMO_PREFIX = "longtake_"
MEMO_CONTROL = f"{MEMO_PREFIX}control"
MEMO_FREEZE = f"{MEMO_PREFIX}freeze"
MEMO_SPLIT = f"{MEMO_PREFIX}split"
MEMO_STATUS = f"{MEMO_PREFIX}status"
MEMO_DIGEST = f"{MEMO_PREFIX}digest"
MEMO_SUBMITTED_BY = f"{MEMO_PREFIX}submitted_by"
MEMO_TELLS = f"{MEMO_PREFIX}tells_farm"
MEMO_DONE = f"{MEMO_PREFIX}done"

# Ids that are folder names in stores as they are: no character in them needs quoting anywhere.
_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
# Folder names of other ids. No plain id holds a ~, so that no two ids share a folder.
_DERIVED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}~[0-9a-f]{16}", re.ASCII)
# Temporal's own limit.
_LONGEST_ID = 1000


# What a cancel by Longtake gives as its reason, before the name of the person or program that asked for it.
CANCELLED_BY = "asked by "


class Control(StrEnum):
    """Orders of a job to its running attempts, which workers read from the memo of the job."""

    RUN = "run"
    DRAIN = "drain"
    FREEZE = "freeze"
    STOP = "stop"


def render_queue(task_queue: str, backend: BackendKind) -> str:
    """Return the task queue of the workers that render with a backend."""
    return f"{task_queue}-{backend.replace('_', '-')}"


def farm_control_id(task_queue: str) -> str:
    """Return the id of the workflow in whose history the workers of a task queue read the orders of its jobs."""
    return f"longtake-farm {task_queue}"


def batch_id(job_id: str, run_id: str, number: int) -> str:
    """Return the id of a batch of a job: a name that no other run of the job has, of any length that its own id has."""
    return f"{job_folder_name(job_id)} batch {number} {run_id[-12:]}"


def make_message_id(job_id: str, run_id: str, number: int) -> str:
    """Return the id of the message about an event of a run of a job: the same at each try to deliver it."""
    named = "\n".join((job_id, run_id, str(number)))
    return f"msg_{hashlib.sha256(named.encode(errors='surrogatepass')).hexdigest()[:32]}"


def notify_id(job_id: str, message_id: str) -> str:
    """Return the id of the workflow that delivers the message about an event of a job."""
    return f"longtake-notify {job_id[: _LONGEST_ID - 100]} {message_id}"


def check_job_id(job_id: str) -> str:
    """Return a job id unchanged, or raise `BadJobError` with the rule that it breaks.

    Any id of a workflow is one, because schedules and other programs choose them: see `job_folder_name`.
    """
    shown = escape_text(job_id, 40)
    if not job_id.strip() or not job_id.isprintable() or len(job_id) > _LONGEST_ID:
        raise BadJobError(f"id: '{shown}' is not a job id; use 1 to {_LONGEST_ID} characters that can be printed")
    if _DERIVED_NAME.fullmatch(job_id):
        raise BadJobError(f"id: '{shown}' is the folder of a job and not its id; write the id that it was started with")
    return job_id


def job_folder_name(job_id: str) -> str:
    """Return the name of the folder of a job in its store: the id, or a name made of it where the id is none.

    The name of such a folder is its own: a job is found by its folder too.
    """
    # `inputs` is where stores keep the inputs of all jobs.
    if (_PLAIN_ID.fullmatch(job_id) and job_id.lower() != INPUTS) or _DERIVED_NAME.fullmatch(job_id):
        return job_id
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", job_id).strip("-._")[:80] or "job"
    digest = hashlib.sha256(job_id.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{slug}~{digest}"


def find_job_values(job_id: str, started_at: datetime | None) -> dict[str, str]:
    """Return what the placeholders `{job}`, `{date}` and `{time}` of a job stand for; each is safe in file names.

    Args:
        job_id: Id of the job.
        started_at: When the job was started first; None leaves `{date}` and `{time}` out.
    """
    values = {"job": job_folder_name(job_id)}
    if started_at is not None:
        at = started_at.astimezone(UTC)
        values |= {"date": f"{at:%Y-%m-%d}", "time": f"{at:%H-%M-%S}"}
    return values


def name_earlier_start(job_id: str, started_at: datetime) -> str:
    """Return the id under which the records of an earlier start of a job are kept, whose folder is needed anew."""
    return f"{job_id} {started_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def make_job_id(name: str) -> str:
    """Make a new id from the name of a job and a random suffix."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "job"
    return f"{slug}-{secrets.token_hex(4)}"
