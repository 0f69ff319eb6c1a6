"""Jobs that are too large to be rendered in a test: what the API would say of them."""

import base64
import json
from array import array
from collections.abc import Callable
from typing import Any

from support.browser.pages import answer_json

from longtake import JobState, JobStatus
from longtake.models.status import JobMetrics, JobPhase

_DONE, _FAILED, _TODO = 4, 5, 0


def huge_job(chunks: int, *, problem: dict[str, Any] | None = None) -> dict[str, Callable[..., Any]]:
    """Return answers for the job `huge`: two thirds are done on nine hosts, seven have failed.

    Args:
        chunks: How many chunks it has.
        problem: What its stream of events tells after the first status.
    """
    done = 2 * chunks // 3
    failed = range(407, 414)
    state = bytearray([_DONE]) * done + bytearray([_TODO]) * (chunks - done)
    host = array("H", (1 + (7 * chunk // 3) % 9 if chunk < done else 0 for chunk in range(chunks)))
    seconds = array("f", (60 + chunk * 7919 % 241 if chunk < done else 0 for chunk in range(chunks)))
    for chunk in failed:
        state[chunk] = _FAILED
        seconds[chunk] = 0
    status = JobStatus(
        id="huge",
        name="huge",
        state=JobState.RUNNING,
        phase=JobPhase.RENDERING,
        progress=66.6,
        total_chunks=chunks,
        completed_chunks=done - len(failed),
        failed_chunks=len(failed),
        total_frames=chunks,
        completed_frames=done - len(failed),
        max_parallel=24,
        metrics=JobMetrics(chunk_seconds=180),
    )
    columns = {
        "count": chunks,
        "first_frame": 1001,
        "total_frames": chunks,
        "frames_per_chunk": 1,
        "first_frames": "contiguous",
        "hosts": [f"rdr-{number:02}" for number in range(1, 10)],
        "state": _pack(state),
        "host": _pack(host),
        "seconds": _pack(seconds),
        "tries": _pack(bytearray([1]) * chunks),
    }
    base = "**/api/v1/jobs/huge"
    return {
        # The last one that fits is asked: the rest is not there.
        f"{base}/**": answer_json({"title": "not made up", "status": 404}, 404),
        base: answer_json(status.model_dump(mode="json")),
        f"{base}/document": answer_json({"frames": {"first": 1001, "count": chunks, "per_chunk": 1}}),
        f"{base}/chunks": answer_json(columns),
        f"{base}/pictures": answer_json([]),
        f"{base}/timeline*": answer_json([]),
        f"{base}/failures": answer_json([]),
        f"{base}/events": _answer_once(status.model_dump_json(), problem),
    }


def _pack(column: "bytearray | array[int] | array[float]") -> str:
    return base64.b64encode(column).decode("ascii")


def _answer_once(status: str, problem: dict[str, Any] | None) -> Callable[..., Any]:
    async def answer(route: Any) -> None:
        events = f"retry: 60000\n\nid: 1\nevent: status\ndata: {status}\n\n"
        if problem is not None:
            events += f"event: problem\ndata: {json.dumps(problem)}\n\n"
        await route.fulfill(content_type="text/event-stream", body=events)

    return answer
