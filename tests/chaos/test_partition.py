"""A worker that is cut off: its chunks are given away, and two attempts of one chunk run at once."""

import asyncio
import time
import uuid
from pathlib import Path

import pytest
from support.farm import Farm, Ledger, alive, eventually, until_ended_despite_outages
from support.processes.workers import worker_process
from support.servers.tcp_proxy import Proxy

from longtake import JobHandle, JobState, RenderJobSpec

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Longer than the heartbeat timeout of 10 s after which the server gives the chunks away, or the two never meet.
CONTACT_SECONDS = 14
# Promised: how long after that the renders of a cut worker may live.
KILLED_SECONDS = 5

# Writes its own name, piece by piece, when its chunk's gate is open: a mix of two attempts would show.
SIGNED = """
echo "start $1 $$ $LONGTAKE_ATTEMPT" >> "$2"
until [ -e "$3-$1" ]; do sleep 0.02; done
i=0
while [ $i -lt 3000 ]; do echo "$LONGTAKE_ATTEMPT"; i=$((i + 1)); done > "$0"
echo "end $1 $$ $LONGTAKE_ATTEMPT" >> "$2"
"""


class Signed:
    """A job whose outputs tell which attempt wrote them, and a gate for each chunk."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._token = uuid.uuid4().hex[:8]
        self._folder = farm.store.parent
        self.ledger = Ledger(self._folder / f"{self._token}.txt")

    def spec(self, chunks: int) -> RenderJobSpec:
        gate = str(self._folder / f"gate-{self._token}")
        return self._farm.job(
            chunks=chunks,
            command=("sh", "-c", SIGNED, "{output}", "{chunk}", str(self.ledger.path), gate),
            chunk_output=f"{self._token}/{{chunk:06}}.txt",
            max_parallel=2,
        )

    def open_gate(self, chunk: int) -> None:
        (self._folder / f"gate-{self._token}-{chunk}").touch()

    def pids(self, chunk: int) -> list[int]:
        return [int(line[2]) for line in self.ledger.lines("start") if int(line[1]) == chunk]

    def writers(self, chunk: int) -> list[str]:
        """Return who wrote the lines of the published output."""
        lines = (self._farm.store / self._token / f"{chunk:06}.txt").read_text().splitlines()
        assert len(lines) == 3000
        return sorted(set(lines))

    def winner(self, job: JobHandle, chunk: int) -> bytes:
        return self._farm.record(job.id, chunk)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("healed", [True, pytest.param(False, marks=pytest.mark.chaos)], ids=["healed", "cut_for_good"])
async def test_a_cut_worker_stops_its_renders_and_one_attempt_wins(
    healed: bool, bare: Farm, capsys: pytest.CaptureFixture[str]
) -> None:
    signed = Signed(bare)
    contact = str(CONTACT_SECONDS)
    async with (
        Proxy(bare.address) as proxy,
        worker_process(proxy.address, bare.task_queue, bare.store, LONGTAKE_CONTACT_SECONDS=contact),
    ):
        job = await bare.submit(signed.spec(2))
        await eventually(lambda: bool(signed.pids(0) and signed.pids(1)), "the worker behind the proxy has both chunks")
        async with worker_process(bare.address, bare.task_queue, bare.store):
            proxy.cut()
            cut = time.monotonic()
            await eventually(lambda: len(signed.pids(0) + signed.pids(1)) == 4, "the other worker gets both chunks")
            given = time.monotonic() - cut
            (first, other), (mine, theirs) = signed.pids(0), signed.pids(1)
            assert all(map(alive, (first, other, mine, theirs))), "the two attempts of each chunk never ran at once"

            # Chunk 0: both attempts end at once, and one wins.
            signed.open_gate(0)
            await eventually(lambda: bare.is_finished(job.id, 0), "an attempt of chunk 0 wins")
            won = signed.winner(job, 0)

            # Chunk 1: the cut worker must end its render by itself.
            await eventually(lambda: not alive(mine), "the cut worker ends its render")
            killed = time.monotonic() - cut
            assert alive(theirs)
            signed.open_gate(1)
            await eventually(lambda: bare.is_finished(job.id, 1), "the other worker's attempt of chunk 1 wins")
            if healed:
                await proxy.heal()
            status = await until_ended_despite_outages(job)
            completed = time.monotonic() - cut
            assert status.state is JobState.COMPLETED
        with capsys.disabled():
            print(
                f"\ncut worker: chunks given away after {given:.1f} s, its render ended after {killed:.1f} s "
                f"(promised: {CONTACT_SECONDS + KILLED_SECONDS} s), job completed after {completed:.1f} s",
                end="",
            )
        assert killed < CONTACT_SECONDS + KILLED_SECONDS
        check_winners(signed, bare, job)
        assert signed.winner(job, 0) == won
        assert str(theirs) in {line[2] for line in signed.ledger.lines("end")}

        await proxy.heal()
        again = Signed(bare)
        again.open_gate(0)
        assert (await until_ended_despite_outages(await bare.submit(again.spec(1)))).state is JobState.COMPLETED


# Of its own accord the SDK cancels after 15 s of silence, and never where the server refuses: the alarm is ours.
@pytest.mark.parametrize("how", ["silent", pytest.param("refused", marks=pytest.mark.chaos)])
async def test_a_cut_worker_does_not_wait_for_the_sdk(how: str, bare: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    signed = Signed(bare)
    async with (
        Proxy(bare.address) as proxy,
        worker_process(proxy.address, bare.task_queue, bare.store, LONGTAKE_CONTACT_SECONDS="5"),
    ):
        await bare.submit(signed.spec(2))
        await eventually(lambda: bool(signed.pids(0) and signed.pids(1)), "both chunks run")
        began = time.monotonic()
        if how == "silent":
            proxy.cut()
        else:
            await proxy.refuse()
        pids = signed.pids(0) + signed.pids(1)
        await eventually(lambda: not any(map(alive, pids)), "the cut worker ends its renders")
        seconds = time.monotonic() - began
    with capsys.disabled():
        print(f"\n{how} cut, contact 5 s: renders ended after {seconds:.1f} s (promised: 10 s)", end="")
    assert seconds < 5 + KILLED_SECONDS


def check_winners(signed: Signed, farm: Farm, job: JobHandle) -> None:
    """Each published output is wholly that of the attempt in its sidecar."""
    for chunk in (0, 1):
        (writer,) = signed.writers(chunk)
        assert f'"{writer}"'.encode() in signed.winner(job, chunk)


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["silent", "refused"])
async def test_short_cuts_cost_nothing(how: str, bare: Farm, tmp_path: Path) -> None:
    signed = Signed(bare)
    async with Proxy(bare.address) as proxy, worker_process(proxy.address, bare.task_queue, bare.store):
        job = await bare.submit(signed.spec(2))
        await eventually(lambda: bool(signed.pids(0) and signed.pids(1)), "both chunks run")
        for _ in range(5):
            if how == "silent":
                proxy.cut()
            else:
                await proxy.refuse()
            await asyncio.sleep(4)
            await proxy.heal()
            await asyncio.sleep(4)
        for chunk in (0, 1):
            signed.open_gate(chunk)
        assert (await until_ended_despite_outages(job)).state is JobState.COMPLETED
    assert len(signed.ledger.lines("start")) == 2
