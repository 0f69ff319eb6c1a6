"""Whole jobs of renderers that hang: those that had finished count, the others fail with the evidence."""

from typing import Any

import pytest
from support.farm import Farm
from support.jobs.films import PICTURE

from longtake import FrameRange, JobState, RenderJobSpec
from longtake.models.policies import FailureRule, Retry, Timeouts, Verdict

pytestmark = pytest.mark.integration

FFMPEG = f"ffmpeg -nostdin -v error -f lavfi -i {PICTURE}"
LINGERS = Timeouts(linger_seconds=2, grace_seconds=1)


def hanging(farm: Farm, command: str, chunk_output: str, timeouts: Timeouts = LINGERS, **fields: Any) -> RenderJobSpec:
    """A job of one chunk of five frames whose renderer does not exit."""
    return farm.job(
        frames=FrameRange(count=5, per_chunk=5),
        fps="30000/1001",
        command=("sh", "-c", f"{command}; sleep 600", "sh", "{output}"),
        chunk_output=chunk_output,
        timeouts=timeouts,
        **fields,
    )


@pytest.mark.parametrize(
    ("command", "chunk_output"),
    [
        (f'{FFMPEG} -frames:v 5 -c:v libx264 "$1"', "chunks/{chunk:06}.mp4"),
        (f'{FFMPEG} -frames:v 5 -c:v libx264 "$1"', "chunks/{chunk:06}.mkv"),
        (f'{FFMPEG} -frames:v 5 -start_number 0 "$1"', "frames/f_{frame:06}.png"),
        (f'{FFMPEG} -frames:v 5 -start_number 0 "$1"', "frames/f_{frame:06}.jpg"),
    ],
    ids=["mp4", "mkv", "png", "jpg"],
)
async def test_a_renderer_that_never_exits_holds_no_job_up(farm: Farm, command: str, chunk_output: str) -> None:
    status = await farm.run(hanging(farm, command, chunk_output))

    assert status.state is JobState.COMPLETED, status.error
    assert status.completed_chunks == 1


@pytest.mark.slow
async def test_a_file_counts_before_its_renderer_ends_only_where_a_check_can_tell(farm: Farm) -> None:
    timeouts = Timeouts(linger_seconds=1, stall_seconds=4, grace_seconds=1)
    write, checked = 'echo half of it > "$1"', ("grep", "-q", "half", "{output}")
    judged = await farm.run(hanging(farm, write, "judged/{chunk:06}.txt", timeouts, check=checked))
    unjudged = await farm.run(hanging(farm, write, "unjudged/{chunk:06}.txt", timeouts))

    assert judged.state is JobState.COMPLETED, judged.error
    assert unjudged.state is JobState.FAILED
    assert "stood still for timeouts.stall_seconds, 4 s" in (unjudged.error or "")


async def test_a_film_that_is_not_whole_does_not_count_because_its_renderer_hangs(farm: Farm) -> None:
    timeouts = Timeouts(linger_seconds=1, stall_seconds=3, grace_seconds=1)
    command = f'{FFMPEG} -frames:v 4 -c:v libx264 "$1"; echo one frame is missing'
    status = await farm.run(hanging(farm, command, "chunks/{chunk:06}.mp4", timeouts))

    assert status.state is JobState.FAILED
    assert "stood still for timeouts.stall_seconds, 3 s: 0 of 5 frames done, no progress" in (status.error or "")
    assert "it said last: one frame is missing" in (status.error or "")


async def test_an_exit_code_that_a_rule_accepts_still_needs_whole_outputs(farm: Farm) -> None:
    retry = Retry(attempts=1, rules=(FailureRule(exit_codes=(3,), then=Verdict.ACCEPT),))
    whole = ("sh", "-c", 'echo all of it > "$1"; exit 3', "sh", "{output}")
    nothing = ("sh", "-c", "exit 3", "sh", "{output}")
    accepted = await farm.run(farm.job(chunks=2, command=whole, retry=retry))
    refused = await farm.run(farm.job(chunks=2, command=nothing, retry=retry, chunk_output="other/{chunk:06}.txt"))

    assert accepted.state is JobState.COMPLETED, accepted.error
    assert refused.state is JobState.FAILED
    assert "is missing" in (refused.error or "")
