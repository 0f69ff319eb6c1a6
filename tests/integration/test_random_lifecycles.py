"""Random orders of pause, resume, retry and failures on the real server: promises P1 and P6 hold in each."""

import random

import pytest
from support.farm import Farm, alive, standing, until

from longtake import JobEndedError, JobState, PauseMode, Retry
from longtake.models.policies import FailurePolicy

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Some that complete and some that are cancelled; `make chaos` runs the rest.
SEEDS = range(8)
MORE_SEEDS = range(8, 30)
CHUNKS = 10


@pytest.mark.parametrize("seed", [*SEEDS, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in MORE_SEEDS)])
async def test_no_order_of_requests_loses_or_repeats_a_chunk(farm: Farm, seed: int) -> None:
    chance = random.Random(seed)
    flaky = tuple(word for chunk in chance.sample(range(CHUNKS), 2) for word in ("--only", str(chunk)))
    job = await farm.submit(
        farm.job(
            chunks=CHUNKS,
            options=("--fail-times", "1", "--seconds", str(chance.choice([0, 0.05, 0.1])), *flaky),
            max_parallel=chance.randint(1, 4),
            retry=Retry(attempts=3, initial_seconds=0.05),
            on_chunk_failure=FailurePolicy.CONTINUE,
        )
    )
    published: dict[str, bytes] = {}
    hurries = 0
    cancels = chance.random() < 0.3
    try:
        for _ in range(chance.randint(2, 6)):
            request = chance.choice(["pause", "pause and wait", "resume", "look"])
            mode = chance.choice(list(PauseMode))
            hurries += mode is PauseMode.NOW
            if request == "pause and wait":
                status = await job.pause(mode=mode, wait=True)
                if status.state is JobState.PAUSED:
                    # P6: paused means idle.
                    assert len(status.running) == status.frozen_chunks
                    assert all(map(standing, filter(alive, farm.ledger.pids))), "a paused job renders"
            elif request == "pause":
                await job.pause(mode=mode)
            elif request == "resume":
                await job.resume()
            else:
                await job.status()
            # P1: what is published stays as it is.
            present = farm.sidecars(job.id)
            assert present.items() >= published.items()
            published = present
        if cancels:
            await job.cancel()
        await job.resume()
    except JobEndedError:
        pass

    status = await until(job, lambda status: status.state.has_ended)

    assert status.state is JobState.COMPLETED or (cancels and status.state is JobState.CANCELLED), status.error
    assert not any(map(alive, farm.ledger.pids))
    assert farm.sidecars(job.id).items() >= published.items()
    if status.state is JobState.COMPLETED:
        assert sorted(set(farm.ledger.ended)) == list(range(CHUNKS))
    # A pause `now` may come between the end of a renderer and the proof of what it made, once a running chunk.
    assert len(farm.ledger.ended) <= CHUNKS + 4 * hurries
