"""Define the names that clients, workflows and workers share: queues, ids, signals, search attributes."""

import re
import secrets
from enum import StrEnum

from temporalio.common import SearchAttributeKey

from longtake.errors import BadJobError
from longtake.models.backends import BackendKind
from longtake.models.inputs import INPUTS

RENDER_JOB_WORKFLOW = "RenderJob"

# Activities. Clients and drains look for those that render among the pending ones.
PLAN_JOB = "plan_job"
HAS_SEARCH_ATTRIBUTES = "has_search_attributes"
RENDER_SPAN = "render_span"
FIND_WAITING = "find_waiting"
STOP_AGENTS = "stop_agents"
STITCH_JOB = "stitch_job"

DEFAULT_TASK_QUEUE = "longtake"

STATE = SearchAttributeKey.for_keyword("LongtakeState")
NAME = SearchAttributeKey.for_keyword("LongtakeName")
PROGRESS = SearchAttributeKey.for_float("LongtakeProgress")

# Registered by each worker as it starts, and by the development server.
SEARCH_ATTRIBUTES = (STATE, NAME, PROGRESS)

# Memo keys: small values that `describe` and `list` return without a worker. Whoever starts a workflow may give it a
# memo too: without a prefix, one `status="urgent"` was taken for ours. Before 0.2 ours had none; see `read_memo`.
MEMO_PREFIX = "longtake_"
MEMO_CONTROL = f"{MEMO_PREFIX}control"
MEMO_FREEZE = f"{MEMO_PREFIX}freeze"
MEMO_STATUS = f"{MEMO_PREFIX}status"
MEMO_DIGEST = f"{MEMO_PREFIX}digest"

# A job id is a folder name in the store and a part of attempt ids, so no character in it may need quoting.
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


class Control(StrEnum):
    """Orders of a job to its running attempts, which workers read from the memo of the job."""

    RUN = "run"
    DRAIN = "drain"
    FREEZE = "freeze"
    STOP = "stop"


def render_queue(task_queue: str, backend: BackendKind) -> str:
    """Return the task queue of the workers that render with a backend."""
    return f"{task_queue}-{backend.replace('_', '-')}"


def check_job_id(job_id: str) -> str:
    """Return a job id unchanged, or raise `BadJobError` with the rule that it breaks."""
    if not _JOB_ID.fullmatch(job_id):
        shown = job_id if len(job_id) <= 40 else f"{job_id[:40]}..."
        raise BadJobError(
            f"id: {shown!r} is not a job id; use 1 to 100 letters, digits, '.', '_' or '-', starting with a "
            "letter or digit"
        )
    if job_id.lower() == INPUTS:
        raise BadJobError(f"id: {job_id!r} is where stores keep the inputs of all jobs; choose another id")
    return job_id


def make_job_id(name: str) -> str:
    """Make a new id from the name of a job and a random suffix."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "job"
    return f"{slug}-{secrets.token_hex(4)}"
