"""Killed loses nothing: worker, supervisor, both and the Temporal server are killed at random moments."""

import asyncio
import os
import secrets
from pathlib import Path
from random import Random

import pytest
from support.farm import until_ended_despite_outages
from support.kills.killed_farm import GONE_SECONDS, GONE_SECONDS_UNDER_LOAD, KilledFarm
from support.kills.slow_jobs import CHUNKS, FRAMES_PER_CHUNK, Finished, SlowJob
from support.measurements import Distribution
from support.processes.process_table import carrying
from support.servers.temporal import RestartableServer

from longtake import JobState, RenderClient
from longtake.connection import connect

pytestmark = [pytest.mark.integration, pytest.mark.slow]

VICTIMS = ("worker", "supervisor", "both", "server")


@pytest.mark.timeout(400)
async def test_nothing_is_lost_whatever_is_killed(
    temporal_program: Path, tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = Crash(temporal_program, tmp_path, store, jobs=4, rounds=1, gone_seconds=GONE_SECONDS_UNDER_LOAD)
    with capsys.disabled():
        print(f"\nLONGTAKE_CHAOS_SEED={crash.seed}", end="")
    await crash.run()
    with capsys.disabled():
        print(f"\n{crash.report()}", end="")


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(5))
async def test_fifty_jobs_are_completed_whatever_is_killed(
    part: int, temporal_program: Path, tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = Crash(temporal_program, tmp_path, store, jobs=10, rounds=2, gone_seconds=GONE_SECONDS)
    with capsys.disabled():
        print(f"\npart {part}, LONGTAKE_CHAOS_SEED={crash.seed}")
    await crash.run()
    with capsys.disabled():
        print(crash.report())


class Crash:
    """Jobs on a farm, half of them films and half image sequences, and one kill of each kind a round."""

    def __init__(
        self, program: Path, folder: Path, store: Path, *, jobs: int, rounds: int, gone_seconds: float
    ) -> None:
        self._gone_seconds = gone_seconds
        self.seed = int(os.environ.get("LONGTAKE_CHAOS_SEED") or secrets.randbits(32))
        self._random = Random(self.seed)
        self._server = RestartableServer(program, folder)
        self._store = store
        self._kills = [victim for _ in range(rounds) for victim in self._random.sample(VICTIMS, len(VICTIMS))]
        self._jobs = {
            f"job-{number}": SlowJob(self._folder(f"job-{number}"), number % 2 == 0) for number in range(jobs)
        }
        self._seen: dict[str, list[Finished]] = {id: [] for id in self._jobs}

    async def run(self) -> None:
        """Run all jobs through all kills and look at what came of it."""
        async with KilledFarm(self._server, "crash", self._store, self._random, self._gone_seconds) as crew:
            self._crew = crew
            self._render = RenderClient(await connect(address=self._server.address), task_queue="crash")
            film, sequence = await asyncio.gather(self._undisturbed(video=True), self._undisturbed(video=False))
            handles = [await self._render.submit(job.spec(), id=id) for id, job in self._jobs.items()]
            for victim in self._kills:
                await asyncio.sleep(self._random.uniform(0.3, 2.0))
                for id, job in self._jobs.items():
                    self._seen[id].append(Finished.of(job, id))
                await crew.kill(victim)
            for handle in handles:
                status = await until_ended_despite_outages(handle)
                assert (handle.id, status.state, status.error) == (handle.id, JobState.COMPLETED, None)
                assert status.completed_chunks == CHUNKS
        assert not carrying(str(self._store)), "something outlived the last worker"
        for id, job in self._jobs.items():
            self._check(id, job, film if job.video else sequence)

    def report(self) -> str:
        """Return what was done to whom."""
        finished = sum(len(seen.frames) for moments in self._seen.values() for seen in moments[-1:])
        frames = len(self._jobs) * CHUNKS * FRAMES_PER_CHUNK
        kept = sum(seen.kept for moments in self._seen.values() for seen in moments)
        started = sum(int(line[3]) for job in self._jobs.values() for line in job.ledger.lines("start"))
        return (
            f"{len(self._jobs)} jobs completed, killed: {', '.join(self._kills)}; {finished} of {frames} frames done "
            f"at the last kill, {kept} seen kept in unfinished chunks: 0 of them rendered again; "
            f"{started - frames} unfinished ones begun again; "
            f"processes outlived a killed worker by {Distribution.of(self._crew.outlived_seconds)}"
        )

    def _check(self, id: str, job: SlowJob, model: dict[str, str]) -> None:
        last = Finished.of(job, id)
        for seen in self._seen[id]:
            assert not seen.rendered_again(job), f"{id}: finished frames were rendered again"
            assert last.sidecars.items() >= seen.sidecars.items(), f"{id}: a sidecar has changed"
        assert len(last.sidecars) == CHUNKS
        assert job.outputs() == model, f"{id} differs from the undisturbed run"
        assert not self._crew.late, f"left {self._gone_seconds:g} s after their worker: {self._crew.late}"

    async def _undisturbed(self, *, video: bool) -> dict[str, str]:
        job = SlowJob(self._folder(f"model-{'film' if video else 'sequence'}"), video)
        status = await until_ended_despite_outages(await self._render.submit(job.spec(), id=job.store.name))
        assert status.state is JobState.COMPLETED, status.error
        return job.outputs()

    def _folder(self, name: str) -> Path:
        folder = self._store / name
        folder.mkdir()
        return folder
