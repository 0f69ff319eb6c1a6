"""Pausing at once and freezing, with every way on from there."""

from datetime import timedelta

import pytest
from support.farm import Farm, alive, eventually, serving, standing, until, until_state, worker_settings

from longtake import JobHandle, JobPhase, JobState, Retry, Timeouts
from longtake.models.status import PauseMode

pytestmark = pytest.mark.integration


async def test_now_stops_what_runs_and_a_resume_renders_it_again(farm: Farm) -> None:
    job = await farm.started()

    status = await job.pause(mode=PauseMode.NOW, wait=True)

    assert status.state is JobState.PAUSED
    assert not any(map(alive, farm.ledger.pids))
    assert status.failed_chunks == status.completed_chunks == 0
    farm.open_gate()
    await job.resume()
    status = await until_state(job, JobState.COMPLETED)
    assert sorted(farm.ledger.started) == [0, 0, 1, 1, 2, 3, 4, 5]
    assert status.completed_chunks == 6


async def test_now_hardens_a_drain(farm: Farm) -> None:
    job = await farm.started()
    await job.pause()
    await until(job, lambda status: status.phase is JobPhase.PAUSING)

    await job.pause(mode=PauseMode.NOW, wait=True)

    assert not any(map(alive, farm.ledger.pids))
    assert farm.ledger.ended == []


async def test_now_loses_no_chunk_that_a_span_has_published(farm: Farm) -> None:
    """Short chunks share an activity: those before the one that is stopped count, in the status and for ever."""
    job = await farm.started(chunks=12, running=1, options=("--only", "4"))
    await eventually(lambda: 4 in farm.ledger.started, "chunk 4 runs")
    await until(job, lambda status: any(chunk.chunk == 4 for chunk in status.running))

    status = await job.pause(mode=PauseMode.NOW, wait=True)

    assert status.completed_chunks == 4 == len(farm.sidecars(job.id))
    before = farm.sidecars(job.id)
    farm.open_gate()
    await job.resume()
    await until_state(job, JobState.COMPLETED)
    assert sorted(farm.ledger.started) == sorted([*range(12), 4])
    assert farm.sidecars(job.id).items() >= before.items()


async def test_a_try_that_fails_before_it_hears_of_the_stop_is_one_failed_try_and_no_failed_chunk(
    bare_without_push: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporal retries nothing of what it was told to cancel: the failure is all that the job hears."""
    bare = bare_without_push
    monkeypatch.setattr("worker._HEARTBEAT_THROTTLE", timedelta(seconds=6))
    options = ("--fail-times", "1", "--gate", str(bare.gate))
    retry = Retry(attempts=2, initial_seconds=60)
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=2)):
        job = await bare.submit(bare.job(chunks=2, options=options, max_parallel=2, retry=retry))
        await bare.ledger.until_started(2)
        # The first answer to a heartbeat is through.
        await until(job, lambda status: len(status.running) == 2)
        await job.pause(mode=PauseMode.NOW)
        await until(job, lambda status: status.phase is JobPhase.PAUSING)
        bare.open_gate()
        status = await until_state(job, JobState.PAUSED)
        assert status.failed_chunks == 0

        await job.resume()
        status = await until_state(job, JobState.COMPLETED)
        assert bare.ledger.started.count(0) == bare.ledger.started.count(1) == 2


async def test_now_aborts_the_stitch_and_a_resume_makes_the_film(farm: Farm) -> None:
    merging = farm.store.parent / "merging"
    source = farm.store / "merge.py"
    source.write_text(
        f"import os, sys, time\nopen({str(merging)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        f"while not os.path.exists({str(farm.gate)!r}): time.sleep(0.01)\nopen(sys.argv[1], 'w').write('joined')\n"
    )
    job = await farm.submit(farm.job(chunks=2, merge_command=("python3", str(source), "{output}"), output="all.txt"))
    await eventually(lambda: merging.exists() and merging.read_text().endswith("\n"), "the merge begins")

    await job.pause(mode=PauseMode.NOW, wait=True)
    assert not any(alive(int(pid)) for pid in merging.read_text().split())
    farm.open_gate()
    await job.resume()

    await until_state(job, JobState.COMPLETED)
    assert (farm.store / "all.txt").read_text() == "joined"
    assert len(merging.read_text().split()) == 2
    assert len(farm.ledger.started) == 2


async def frozen(farm: Farm) -> JobHandle:
    """Return a job whose two running renders are frozen."""
    job = await farm.started(options=("--child",))
    await job.pause(mode=PauseMode.FREEZE, wait=True)
    return job


async def test_freeze_stops_processes_where_they_stand_and_a_resume_lets_them_go_on(farm: Farm) -> None:
    job = await frozen(farm)
    status = await job.status()

    children = [int(line[2]) for line in farm.ledger.lines("child")]
    assert status.state is JobState.PAUSED
    assert status.frozen_chunks == 2
    assert all(chunk.frozen for chunk in status.running)
    assert len(status.running) == 2
    assert all(standing(pid) for pid in (*farm.ledger.pids, *children))
    farm.open_gate()
    await job.resume()
    status = await until_state(job, JobState.COMPLETED)
    assert sorted(farm.ledger.started) == [0, 1, 2, 3, 4, 5], "the same processes went on"
    assert status.frozen_chunks == 0


async def test_a_frozen_job_can_be_cancelled(farm: Farm) -> None:
    job = await frozen(farm)

    status = await job.cancel(wait=True)

    assert status.state is JobState.CANCELLED
    assert not any(map(alive, farm.ledger.pids))


async def test_a_drain_does_not_thaw_what_is_frozen_and_now_ends_it(farm: Farm) -> None:
    job = await frozen(farm)

    await job.pause()

    status = await job.status()
    assert status.frozen_chunks == 2
    assert all(standing(pid) for pid in farm.ledger.pids)

    await job.pause(mode=PauseMode.NOW, wait=True)

    assert not any(map(alive, farm.ledger.pids))


async def test_now_shows_a_pause_when_what_was_frozen_has_cleaned_up(farm: Farm) -> None:
    """A frozen process goes on with its SIGTERM, and has its grace."""
    listening, cleaning = farm.store.parent / "listening", farm.store.parent / "cleaning"
    script = (
        f"trap 'echo > {cleaning}; until [ -e {farm.gate} ]; do sleep 0.02; done; exit 1' TERM; echo > {listening}; "
        f'until [ -e {farm.gate} ]; do sleep 0.02; done; echo > "$1"'
    )
    job = await farm.submit(
        farm.job(chunks=1, command=("sh", "-c", script, "sh", "{output}"), timeouts=Timeouts(grace_seconds=60))
    )
    # A chunk runs before its shell has read the first line, and would end with a SIGTERM then.
    await eventually(listening.exists, "the renderer heeds SIGTERM")
    await job.pause(mode=PauseMode.FREEZE, wait=True)

    await job.pause(mode=PauseMode.NOW)
    await eventually(cleaning.exists, "the renderer cleans up")

    status = await job.status()
    assert (status.state, status.phase) == (JobState.RUNNING, JobPhase.PAUSING)
    farm.open_gate()
    await until_state(job, JobState.PAUSED)
    await job.resume()
    await until_state(job, JobState.COMPLETED)


@pytest.mark.slow
async def test_frozen_renders_stay_frozen_through_a_resume_that_is_taken_back_at_once(farm: Farm) -> None:
    job = await frozen(farm)
    for _ in range(2):
        await job.resume()
        await job.pause(mode=PauseMode.FREEZE, wait=True)
        assert all(standing(pid) for pid in farm.ledger.pids)

    farm.open_gate()
    await job.resume()
    await until_state(job, JobState.COMPLETED)
    assert sorted(farm.ledger.started) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("mode", [PauseMode.NOW, PauseMode.FREEZE])
async def test_a_job_that_waits_for_a_worker_pauses_at_once_in_every_mode(farm: Farm, mode: PauseMode) -> None:
    job = await farm.submit(farm.job(chunks=6, options=("--gate", str(farm.gate)), max_parallel=6))
    # Four slots render, two spans wait in the queue.
    await farm.ledger.until_started(4)

    status = await job.pause(mode=mode, wait=True)

    assert status.state is JobState.PAUSED
    assert status.frozen_chunks == (4 if mode is PauseMode.FREEZE else 0)
    farm.open_gate()
    await job.resume()
    status = await until_state(job, JobState.COMPLETED)
    assert status.completed_chunks == 6
