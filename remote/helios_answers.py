"""What Helios clients ask and hear, on Lambda and on Cloud Run, in the words of Helios' own workers."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from agent.helios import Ended, HeliosWorker
from longtake.plaintext import short_line
from remote.call import Call
from remote.helios_jobs import HeliosError, HeliosForbiddenError, is_number

_log = logging.getLogger(__name__)

# Below the 6 MB of Lambda, which fails work that was done when its answer is larger.
_LARGEST_ANSWER_BYTES = 5_000_000

_LONGEST_REASON = 2000


@dataclass(frozen=True)
class HeliosRequest:
    """Render this chunk of the job at this URL."""

    job_path: str
    chunk_index: float


@dataclass(frozen=True)
class Reply:
    """A status and a JSON object."""

    status: int
    body: dict[str, Any]


def request_in(document: Any) -> HeliosRequest | None:
    """Return what a Helios client asks for; None where the keys are wrong."""
    if not isinstance(document, dict):
        return None
    path, index = document.get("jobPath"), document.get("chunkIndex")
    if not isinstance(path, str) or not is_number(index):
        return None
    return HeliosRequest(path, index)


async def lambda_answer(worker: HeliosWorker, event: Any, call: Call) -> dict[str, Any]:
    """Return what a Lambda handler answers to a Helios client; never raises."""
    if not isinstance(event, dict | list):
        reply = Reply(400, {"message": "Invalid payload: must be an object"})
    elif (request := request_in(event)) is None:
        reply = Reply(400, {"message": "Invalid payload: missing jobPath or chunkIndex"})
    else:
        reply = await _reply(worker, request, call, _as_lambda)
    return {"statusCode": reply.status, "body": json.dumps(reply.body)}


async def cloud_run_answer(worker: HeliosWorker, document: Any, call: Call) -> Reply:
    """Return what a Cloud Run service answers to a Helios client; never raises."""
    if (request := request_in(document)) is None:
        return Reply(400, {"message": "Missing jobPath or chunkIndex"})
    return await _reply(worker, request, call, _as_cloud_run)


async def _reply(
    worker: HeliosWorker, request: HeliosRequest, call: Call, answer: Callable[[Ended], dict[str, Any]]
) -> Reply:
    try:
        ended = await worker.render(request.job_path, request.chunk_index, call)
    except HeliosForbiddenError as error:
        return Reply(403, {"message": str(error)})
    except HeliosError as error:
        return Reply(500, {"message": str(error)})
    except Exception as error:
        # The boundary to clients, which wait for a word whatever broke.
        _log.exception("a Helios chunk broke the agent")
        return Reply(500, {"message": f"the agent failed at this chunk ({type(error).__name__})"})
    return Reply(200 if ended.code == 0 else 500, _bounded(ended, answer))


def _as_lambda(ended: Ended) -> dict[str, Any]:
    body: dict[str, Any] = {"exitCode": ended.code, "output": ended.stdout, "stderr": ended.stderr}
    if ended.code != 0:
        # The only field that Helios' own client shows.
        reason = short_line(ended.stderr[-_LONGEST_REASON:], _LONGEST_REASON)
        body["message"] = reason or f"the command ended with exit code {ended.code}"
    return body


def _as_cloud_run(ended: Ended) -> dict[str, Any]:
    return {"exitCode": ended.code, "stdout": ended.stdout, "stderr": ended.stderr}


def _bounded(ended: Ended, answer: Callable[[Ended], dict[str, Any]]) -> dict[str, Any]:
    """Return an answer that gets through: control characters take seven times their size in JSON within JSON."""
    while len(json.dumps(json.dumps(body := answer(ended)))) > _LARGEST_ANSWER_BYTES:
        ended = replace(ended, stdout=_half(ended.stdout), stderr=_half(ended.stderr))
    return body


def _half(text: str) -> str:
    return text[len(text) // 2 :]
