"""Killed two hundred times loses nothing: workers of one job of many short chunks die at random moments."""

import os
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from random import Random

import pytest
from support.farm import Farm, eventually, until_ended_despite_outages
from support.processes.workers import WorkerProcess, worker_process

from longtake import JobState, RenderJobSpec

pytestmark = [pytest.mark.integration, pytest.mark.slow]

WORKERS, SLOTS = 2, 4
# Each tells that it has begun, in one write that no other one cuts in two. A worker that is quicker than its successor
# starts would end the job before the last kill.
COMMAND = 'echo {chunk} >> "$1"; : > "$0"; sleep 0.05; echo {chunk} > "$0"'


class Ledger:
    """What was begun, and what was published at the moments of the kills."""

    def __init__(self, path: Path, outputs: Path) -> None:
        self._path = path
        self._outputs = outputs
        # Chunks that were published by then, and how many lines were written.
        self._moments: list[tuple[set[int], int]] = []

    def note_kill(self) -> None:
        """Remember what is published now: nothing of it may be begun again."""
        published = {int(name.partition(".")[0]) for name in os.listdir(self._outputs)}
        # Behind the look: what is begun in between was not published.
        self._moments.append((published, len(self.lines())))

    def has_published(self, count: int) -> bool:
        """Tell whether so many chunks are published now."""
        return len(os.listdir(self._outputs)) >= count

    @property
    def most_published(self) -> int:
        """How many chunks were published at the last kill."""
        return max(len(published) for published, _ in self._moments)

    def lines(self) -> list[int]:
        """Return the chunks that were begun, in order."""
        return [int(line) for line in self._path.read_text().split()]

    def find_rendered_again(self) -> set[int]:
        """Return the chunks that were begun behind a kill at which they were published."""
        begun = self.lines()
        return {chunk for published, count in self._moments for chunk in begun[count:] if chunk in published}


@pytest.mark.parametrize(
    ("chunks", "kills"),
    [
        pytest.param(1_000, 8, marks=pytest.mark.timeout(300)),
        pytest.param(20_000, 200, marks=[pytest.mark.chaos, pytest.mark.timeout(1800)]),
    ],
)
async def test_no_chunk_is_lost_or_rendered_again(
    bare: Farm, random: Random, chunks: int, kills: int, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = bare.store / "out"
    outputs.mkdir()
    ledger = Ledger(bare.store / "ledger.txt", outputs)
    (bare.store / "ledger.txt").touch()
    spec = RenderJobSpec(
        name="kills",
        frames={"count": chunks, "per_chunk": 1},
        command=("sh", "-c", COMMAND, "{output}", str(bare.store / "ledger.txt")),
        chunk_output="out/{chunk:06}.txt",
        base_dir=str(bare.store),
        max_parallel=32,
        # A worker that is killed is no fault of the chunks that it had.
        retry={"lost_workers": 100},
    )
    async with AsyncExitStack() as stack:

        async def hire() -> WorkerProcess:
            return await stack.enter_async_context(
                worker_process(bare.address, bare.task_queue, bare.store, slots=SLOTS)
            )

        workers = [await hire() for _ in range(WORKERS)]
        job = await bare.render.submit(spec)
        # Spread over the whole run, however quick that is.
        for moment in sorted(random.sample(range(int(0.9 * chunks)), kills)):
            await eventually(partial(ledger.has_published, moment), f"{moment} chunks are published")
            place = random.randrange(WORKERS)
            ledger.note_kill()
            workers[place].kill()
            await workers[place].wait()
            workers[place] = await hire()
        status = await until_ended_despite_outages(job)

    assert (status.state, status.completed_chunks) == (JobState.COMPLETED, chunks), status.error
    assert sorted(os.listdir(outputs)) == [f"{chunk:06}.txt" for chunk in range(chunks)]
    assert ledger.most_published < chunks, "the job had ended before the last kill"
    assert not ledger.find_rendered_again()
    again = len(ledger.lines()) - chunks
    with capsys.disabled():
        print(f"\n{kills} kills, {chunks} chunks: {again} unfinished ones begun again, 0 finished ones")
    # In each slot one renders, and what has ended in the last 50 ms is not published yet.
    assert again <= kills * SLOTS * 50
