"""What a call of an agent answers: failures, and chunks that were too large."""

import inspect
from dataclasses import asdict

import pytest

from activities.errors import AttemptError, AttemptLostError
from activities.remote.attempt import make_result_error
from activities.remote.protocol import RemoteOutcome, RemoteResult
from agent.render_call import AgentResult, TimeUsed, describe_too_large_chunk
from longtake import BadJobError, ChunkSpec, FrameRange, RenderJobSpec
from longtake.chunks import Chunk, ChunkPlan


def job(**fields: object) -> tuple[RenderJobSpec, Chunk]:
    given = {
        "frames": FrameRange(count=400, per_chunk=100),
        "command": ("r", "{output}"),
        "chunk_output": "{frame}.png",
    }
    spec = RenderJobSpec.model_validate({**given, **fields})
    return spec, ChunkPlan(spec)[3 if spec.frames else 0]


def test_a_chunk_that_was_too_large_names_the_size_that_fits() -> None:
    used = TimeUsed(work_seconds=885, call_seconds=900, seconds=840, frames=41)

    assert describe_too_large_chunk(*job(), used, kept=False) == (
        "chunk 3 rendered 41 of 100 frames in 840 s; this function ends after 900 s: set frames.per_chunk to at most 38"
    )
    assert describe_too_large_chunk(*job(), used, kept=True).endswith("at most 38; the finished frames are kept")


def test_listed_chunks_and_such_that_finished_no_frame_are_told_what_they_can_do() -> None:
    listed = {"frames": None, "chunks": (ChunkSpec(start=0, count=100),)}
    used = TimeUsed(work_seconds=885, call_seconds=900, seconds=840, frames=41)
    nothing = TimeUsed(work_seconds=885, call_seconds=900, seconds=880, frames=0)

    assert describe_too_large_chunk(*job(**listed), used, kept=False).endswith("give each chunk at most 38 frames")
    assert describe_too_large_chunk(*job(), nothing, kept=False).endswith("set frames.per_chunk to at most 50")
    one = {"frames": FrameRange(count=4, per_chunk=1)}
    assert "longer timeout" in describe_too_large_chunk(*job(**one), nothing, kept=False)


def test_failures_come_with_what_a_worker_must_know() -> None:
    failed = AgentResult.of_failure(AttemptError("x", fatal=True, wait_seconds=3, another_host=True), 4)

    assert failed == AgentResult(
        RemoteOutcome.FAILED, "x", fatal=True, wait_seconds=3, another_host=True, frames_done=4
    )
    assert AgentResult.of_failure(AttemptLostError("x")).outcome is RemoteOutcome.LOST
    assert AgentResult.of_failure(BadJobError("x")) == AgentResult(RemoteOutcome.FAILED, "x", fatal=True)


def test_the_longest_failure_still_makes_a_result() -> None:
    word = AgentResult.of_failure(AttemptError("begin \x1b[31m" + "x\n" * 9000 + "end"))
    result = RemoteResult(attempt="a", outcome=word.outcome, error=word.error)

    assert result.error.startswith("begin x")
    assert result.error.endswith("end")


# The agent has dropped the frames that it kept itself.
_STAYS_WITH_THE_AGENT = {"suspect"}


@pytest.mark.parametrize(
    "told",
    [
        parameter.name
        for parameter in inspect.signature(AttemptError).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in _STAYS_WITH_THE_AGENT
    ],
)
def test_a_failure_means_the_same_to_a_worker_as_to_its_agent(told: str) -> None:
    value = 7 if told == "exit_code" else 7.0 if told.endswith("_seconds") else True
    failed = AttemptError("x", **{told: value})  # type: ignore[arg-type]
    wire = RemoteResult(attempt="a", **asdict(AgentResult.of_failure(failed))).model_dump_json()

    arrived = make_result_error(RemoteResult.model_validate_json(wire), "lambda render")

    assert isinstance(arrived, AttemptError)
    assert vars(arrived) == vars(failed)
