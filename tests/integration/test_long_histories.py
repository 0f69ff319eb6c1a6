"""What bounds the history of a job, and what a job loses by it: nothing."""

from pathlib import Path
from typing import Any

import pytest
from support.farm import Farm, until, until_state

from longtake import JobState, RenderJobSpec

pytestmark = pytest.mark.integration


def gated(farm: Farm, first: int, stop: int, **fields: Any) -> RenderJobSpec:
    """Return a job in which each chunk of `[first, stop)` waits for a gate of its own; the others are quick."""
    waits = f'[ "$1" -lt {first} ] || [ "$1" -ge {stop} ] || until [ -e "{farm.gate}.$1" ]; do sleep 0.02; done'
    script = f'echo "start $1 $$" >> {farm.ledger.path}; {waits}; echo "$1" > "$2"'
    return farm.job(command=("sh", "-c", script, "sh", "{chunk}", "{output}"), **fields)


def open_gates(farm: Farm, *chunks: int) -> None:
    for chunk in chunks:
        Path(f"{farm.gate}.{chunk}").touch()


async def test_a_span_that_runs_long_gives_its_rest_to_slots_that_idle(farm: Farm) -> None:
    """Chunks 2 to 4 are one span, by what 0 and 1 took; all others are done before the first of them."""
    job = await farm.submit(gated(farm, 2, 5, chunks=12, max_parallel=2))
    await until(job, lambda status: status.completed_chunks == 9)

    open_gates(farm, 2)
    await until(job, lambda status: {chunk.chunk for chunk in status.running} == {3, 4})
    await farm.ledger.until_started(12)

    open_gates(farm, 3, 4)
    await until_state(job, JobState.COMPLETED)
    assert sorted(farm.ledger.started) == list(range(12)), "each was rendered once"
