"""A disk that is full in the middle of publishing: proven outputs wait, and nothing is rendered twice."""

import time
from pathlib import Path
from random import Random

import pytest
from support.farm import Farm, Ledger, eventually, serving, until, worker_settings
from support.measurements import Distribution
from support.small_disk import fill_disk, small_disk

from longtake import JobState, Retry

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DISK_BYTES = 4 << 20
CHUNKS = 4

# Writes its output, and ends when the gate of its round is open: the disk is filled between the two.
WRITES_AND_WAITS = """
head -c "$4" /dev/zero > "$0"
echo "start $1 $$" >> "$2"
until [ -e "$3" ]; do sleep 0.02; done
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("runs", [2, pytest.param(20, marks=pytest.mark.chaos)])
async def test_chunks_that_are_published_onto_a_full_disk_wait_for_room(
    bare: Farm, runs: int, random: Random, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ballast takes the last byte when all outputs are written, and goes at a random moment of their waiting."""
    waited: list[float] = []
    with small_disk(bare.store, DISK_BYTES):
        async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=CHUNKS)):
            for number in range(runs):
                ledger, gate = Ledger(tmp_path / f"ledger-{number}"), tmp_path / f"gate-{number}"
                size_bytes = random.choice([1, 5_000, 50_000])
                written = ("{output}", "{chunk}", str(ledger.path), str(gate), str(size_bytes))
                job = await bare.submit(
                    bare.job(
                        chunks=CHUNKS,
                        command=("sh", "-c", WRITES_AND_WAITS, *written),
                        chunk_output=f"out-{number}/{{chunk}}.bin",
                        max_parallel=CHUNKS,
                        retry=Retry(attempts=1),
                    )
                )
                await ledger.until_started(CHUNKS)
                ballast = fill_disk(bare.store)
                gate.touch()
                status = await until(job, lambda status: "make room" in str(status.running) or status.state.has_ended)
                assert status.state is JobState.RUNNING, status.error
                until_room = time.monotonic() + random.uniform(0, 3)
                await eventually(lambda until_room=until_room: time.monotonic() > until_room, "time")  # type: ignore[misc]
                ballast.unlink()
                room_at = time.monotonic()
                status = await until(job, lambda status: status.state.has_ended)

                assert status.state is JobState.COMPLETED, status.error
                waited.append(time.monotonic() - room_at)
                assert sorted(ledger.started) == list(range(CHUNKS)), "each was rendered once"
                outputs = sorted((bare.store / f"out-{number}").iterdir())
                assert [path.stat().st_size for path in outputs] == [size_bytes] * CHUNKS
                assert not list((bare.store / ".longtake" / job.id / "attempts").rglob("*.bin"))
    with capsys.disabled():
        print(f"\npublished after there was room again: {Distribution.of(waited)}", end="")
