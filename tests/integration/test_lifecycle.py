"""Pause, resume and cancel: every edge of the state table, through RenderClient."""

import asyncio
import time
from pathlib import Path

import pytest
from support.farm import Farm, alive, eventually, until, until_state
from temporalio.client import WorkflowExecutionDescription

from longtake import FrameRange, JobCancelledError, JobEndedError, JobHandle, JobPhase, JobState, Retry

pytestmark = pytest.mark.integration


async def test_pause_lets_running_chunks_finish_and_a_resume_renders_only_what_is_missing(farm: Farm) -> None:
    job = await farm.started()

    status = await job.pause()
    assert status.state is JobState.RUNNING
    await until(job, lambda status: status.phase is JobPhase.PAUSING)
    farm.open_gate()
    status = await until_state(job, JobState.PAUSED)

    assert status.completed_chunks == 2
    assert status.running == ()
    assert sorted(farm.ledger.ended) == sorted(farm.ledger.started)
    assert len(farm.ledger.started) == 2, "no other has started"
    before = farm.sidecars(job.id)

    await job.resume()
    status = await until_state(job, JobState.COMPLETED)

    assert status.completed_chunks == 6
    assert sorted(farm.ledger.started) == [0, 1, 2, 3, 4, 5]
    assert farm.sidecars(job.id).items() >= before.items()


class DescribedTooEarly(JobHandle):
    """A handle whose job ends between the two questions of a look at it."""

    farm: Farm

    async def _describe(self) -> WorkflowExecutionDescription:
        description = await super()._describe()
        self.farm.open_gate()
        await self.farm.client.get_workflow_handle(self.id).result()
        return description


async def test_a_job_that_ends_while_it_is_looked_at_shows_no_running_chunks(farm: Farm) -> None:
    job = await farm.started(chunks=2)
    await until(job, lambda status: status.running_chunks == 2)
    late = DescribedTooEarly(farm.client, job.id)
    late.farm = farm

    status = await late.status()

    assert status.state is JobState.COMPLETED
    assert (status.running_chunks, status.running) == (0, ())


async def test_resume_takes_back_a_pause_that_is_still_draining(farm: Farm) -> None:
    job = await farm.started()
    await job.pause()
    await until(job, lambda status: status.phase is JobPhase.PAUSING)

    await job.resume()
    status = await until(job, lambda status: status.phase is JobPhase.RENDERING)

    assert status.state is JobState.RUNNING
    farm.open_gate()
    await until_state(job, JobState.COMPLETED)
    assert sorted(farm.ledger.started) == [0, 1, 2, 3, 4, 5]


async def test_pause_does_not_wait_for_chunks_that_stand_in_a_queue(farm: Farm) -> None:
    # Four slots, eight chunks handed out: four of them cannot begin before the gate opens.
    job = await farm.started(chunks=12, running=4)
    await job.set_max_parallel(8)
    await until(job, lambda status: len(status.running) == 8)

    await job.pause()
    await until(job, lambda status: len(status.running) == 4)
    farm.open_gate()
    await until_state(job, JobState.PAUSED)
    assert len(farm.ledger.started) == 4

    await job.resume()
    status = await until_state(job, JobState.COMPLETED)
    assert sorted(farm.ledger.started) == list(range(12))
    assert status.failed_chunks == 0


async def test_pause_takes_back_chunks_that_wait_for_their_next_try(farm: Farm) -> None:
    retry = Retry(attempts=3, initial_seconds=3600, max_seconds=3600)
    job = await farm.submit(farm.job(chunks=1, options=("--fail-times", "1"), retry=retry))
    await until(job, lambda status: any(chunk.waiting and chunk.error for chunk in status.running))

    status = await job.pause(wait=True)
    assert status.state is JobState.PAUSED

    # A resume does not wait the hour out: an operator who resumes wants it tried now.
    await job.resume()
    await until_state(job, JobState.COMPLETED)
    assert farm.ledger.started == [0, 0]


async def test_failed_tries_are_counted_across_a_pause(farm: Farm) -> None:
    retry = Retry(attempts=2, initial_seconds=3600, max_seconds=3600)
    job = await farm.submit(farm.job(chunks=1, options=("--exit", "3"), retry=retry))
    await until(job, lambda status: any(chunk.waiting and chunk.error for chunk in status.running))
    await job.pause(wait=True)

    await job.resume()
    status = await until_state(job, JobState.FAILED)

    assert "failed after 2 tries" in (status.error or "")
    assert farm.ledger.started == [0, 0]


async def test_failed_tries_inside_a_span_are_counted_across_a_pause(farm: Farm) -> None:
    retry = Retry(attempts=2, initial_seconds=3600, max_seconds=3600)
    options = ("--exit", "3", "--only", "3")
    job = await farm.submit(farm.job(chunks=8, options=options, retry=retry, max_parallel=1))
    await until(job, lambda status: any(chunk.waiting and chunk.error for chunk in status.running))
    await job.pause(wait=True)

    await job.resume()
    status = await until_state(job, JobState.FAILED)

    assert "chunk 3 failed after 2 tries" in (status.error or "")
    assert sorted(farm.ledger.started) == sorted([*range(4), 3])


async def test_pause_and_resume_are_idempotent(farm: Farm) -> None:
    job = await farm.started()
    await job.resume()
    for _ in range(3):
        await job.pause()
    farm.open_gate()
    await until_state(job, JobState.PAUSED)
    await job.pause()
    assert (await job.status()).state is JobState.PAUSED
    farm.close_gate()
    for _ in range(3):
        await job.resume()
    farm.open_gate()
    await until_state(job, JobState.COMPLETED)
    assert sorted(farm.ledger.started) == [0, 1, 2, 3, 4, 5]


async def test_a_job_paused_before_it_was_planned_renders_nothing(farm: Farm) -> None:
    job = await farm.submit(farm.job(chunks=3))
    await job.pause(wait=True)

    assert len(farm.ledger.ended) == len(farm.ledger.started)
    await job.resume()
    status = await until_state(job, JobState.COMPLETED)
    assert status.completed_chunks == 3
    assert sorted(farm.ledger.started) == [0, 1, 2]


@pytest.mark.timed
async def test_cancel_leaves_no_process_within_a_second(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    job = await farm.started(chunks=8, running=4)
    pids = farm.ledger.pids
    assert len(pids) == 4

    began = time.monotonic()
    await job.cancel()
    await eventually(lambda: not any(map(alive, pids)), "the renders end")
    gone = time.monotonic() - began
    status = await until(job, lambda status: status.state.has_ended)
    done = time.monotonic() - began

    with capsys.disabled():
        print(f"\ncancel of 4 running chunks: processes gone after {gone:.3f} s, job cancelled after {done:.3f} s")
    assert status.state is JobState.CANCELLED
    assert done < 1
    with pytest.raises(JobCancelledError):
        await job.result()


async def test_cancelled_means_dead_for_a_renderer_that_ignores_term(farm: Farm) -> None:
    options = ("--gate", str(farm.gate), "--ignore-term", "--child")
    job = await farm.submit(farm.job(chunks=1, options=options))
    await eventually(lambda: bool(farm.ledger.lines("child")), "the renderer starts its child")
    pids = [*farm.ledger.pids, *(int(line[2]) for line in farm.ledger.lines("child"))]

    status = await job.cancel(wait=True)

    assert status.state is JobState.CANCELLED
    assert not any(map(alive, pids))


async def test_a_paused_job_is_cancelled_at_once(farm: Farm) -> None:
    job = await farm.started()
    await job.pause()
    farm.open_gate()
    await until_state(job, JobState.PAUSED)

    status = await job.cancel(wait=True)

    assert status.state is JobState.CANCELLED
    assert len(farm.ledger.started) == 2


async def test_a_draining_job_can_be_cancelled(farm: Farm) -> None:
    job = await farm.started()
    await job.pause()
    await until(job, lambda status: status.phase is JobPhase.PAUSING)

    status = await job.cancel(wait=True)

    assert status.state is JobState.CANCELLED
    assert not any(map(alive, farm.ledger.pids))


async def test_a_cancelled_job_leaves_nothing_half_made(farm: Farm) -> None:
    job = await farm.started()
    await job.cancel(wait=True)

    folder = farm.store / ".longtake" / job.id
    assert not list((folder / "attempts").rglob("*.txt"))
    assert not list((farm.store / "out").glob("*")) if (farm.store / "out").exists() else True


async def ended(farm: Farm, state: JobState) -> JobHandle:
    """Return a job that ended so."""
    farm.ledger.path.unlink(missing_ok=True)
    output = f"{state}/{{chunk}}.txt"
    if state is JobState.CANCELLED:
        job = await farm.started(chunks=1, running=1, chunk_output=output)
        await job.cancel()
    else:
        options = ("--exit", "3") if state is JobState.FAILED else ()
        job = await farm.submit(farm.job(chunks=1, options=options, chunk_output=output))
    await until_state(job, state)
    return job


async def test_ended_jobs_tell_that_they_have_ended(farm: Farm) -> None:
    for state in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED):
        job = await ended(farm, state)

        for request in ("pause", "resume", "cancel"):
            with pytest.raises(JobEndedError, match=f"is {state} and cannot {request} any more"):
                await getattr(job, request)()

        assert (await job.status()).state is state


async def test_a_job_takes_requests_before_it_was_planned(farm: Farm) -> None:
    for request in ("cancel", "resume"):
        gate, output = ("--gate", str(farm.gate)), f"{request}/{{chunk}}.txt"
        job = await farm.submit(farm.job(chunks=2, options=gate, chunk_output=output))
        status = await getattr(job, request)()
        if request == "resume":
            farm.open_gate()

        assert not status.state.has_ended or request == "cancel"
        status = await until(job, lambda status: status.state.has_ended)
        assert status.state is (JobState.CANCELLED if request == "cancel" else JobState.COMPLETED)
        assert not any(map(alive, farm.ledger.pids)), request


async def test_cancel_as_the_last_chunk_ends_gives_one_consistent_end(farm: Farm) -> None:
    ends = set()
    for delay in (0.0, 0.05, 0.1, 0.3):
        farm.close_gate()
        farm.ledger.path.unlink(missing_ok=True)
        job = await farm.started(chunks=1, running=1, chunk_output=f"race{delay}/{{chunk}}.txt")
        farm.open_gate()
        await asyncio.sleep(delay)
        try:
            status = await job.cancel(wait=True)
        except JobEndedError:
            status = await job.status()
        ends.add(status.state)
        published = (farm.store / f"race{delay}/0.txt").exists()
        assert status.state in (JobState.COMPLETED, JobState.CANCELLED)
        assert published == farm.is_finished(job.id, 0)
        assert published or status.state is JobState.CANCELLED
        assert not any(map(alive, farm.ledger.pids))
    assert ends


async def test_a_pause_while_stitching_lets_the_film_be_finished_and_then_rests(farm: Farm) -> None:
    source = farm.store / "merge.py"
    source.write_text(
        f"import os, sys, time\nopen({str(farm.store.parent / 'merging')!r}, 'w')\n"
        f"while not os.path.exists({str(farm.gate)!r}): time.sleep(0.01)\nopen(sys.argv[1], 'w').write('joined')\n"
    )
    job = await farm.submit(farm.job(chunks=2, merge_command=("python3", str(source), "{output}"), output="all.txt"))
    await eventually((farm.store.parent / "merging").exists, "the merge begins")

    await job.resume()
    assert (await job.status()).phase is JobPhase.STITCHING
    await job.pause()
    await until(job, lambda status: status.phase is JobPhase.PAUSING)
    farm.open_gate()
    await until_state(job, JobState.PAUSED)
    assert (farm.store / "all.txt").read_text() == "joined"

    await job.resume()
    status = await until_state(job, JobState.COMPLETED)
    assert status.result is not None
    assert status.result.output == str(farm.store / "all.txt")


async def test_a_cancel_aborts_the_stitch(farm: Farm) -> None:
    merging = farm.store.parent / "merging"
    source = farm.store / "merge.py"
    source.write_text(f"import os, time\nopen({str(merging)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
    job = await farm.submit(farm.job(chunks=1, merge_command=("python3", str(source), "{output}"), output="all.txt"))
    await eventually(lambda: merging.exists() and bool(merging.read_text()), "the merge begins")

    status = await job.cancel(wait=True)

    assert status.state is JobState.CANCELLED
    assert not alive(int(merging.read_text()))
    assert not (farm.store / "all.txt").exists()


async def test_a_job_fits_more_chunks_at_once_when_told_so(farm: Farm) -> None:
    job = await farm.started(chunks=6, running=1)
    assert await job.set_max_parallel(3) == 3
    await farm.ledger.until_started(3)
    farm.open_gate()
    await until_state(job, JobState.COMPLETED)


async def test_retry_renders_only_what_is_missing(farm: Farm) -> None:
    farm.open_gate()
    options = ("--fail-times", "1", "--only", "2")
    job = await farm.submit(farm.job(chunks=4, options=options, max_parallel=1))
    await until_state(job, JobState.FAILED)
    assert farm.ledger.started == [0, 1, 2]
    before = farm.sidecars(job.id)

    again = await farm.render.retry(job.id)
    status = await until_state(again, JobState.COMPLETED)

    assert farm.ledger.started == [0, 1, 2, 2, 3]
    assert status.skipped_chunks == 2
    assert farm.sidecars(job.id).items() >= before.items()
    listed = [status for status in await farm.render.list() if status.id == job.id]
    assert len(listed) == 1
    assert job.id not in [status.id for status in await farm.render.list(state=JobState.FAILED)]


async def test_only_ended_jobs_are_retried(farm: Farm) -> None:
    job = await farm.submit(farm.job(chunks=1))
    await until_state(job, JobState.COMPLETED)
    with pytest.raises(JobEndedError, match="nothing to retry"):
        await farm.render.retry(job.id)


async def test_the_status_tells_what_runs(farm: Farm) -> None:
    job = await farm.started(frames=FrameRange(first=10, count=20, per_chunk=5))
    status = await until(job, lambda status: [chunk.frames for chunk in status.running] == [5, 5])

    assert {chunk.chunk for chunk in status.running} == {0, 1}
    assert status.running_chunks == 2
    assert all(chunk.attempt == 1 and chunk.host for chunk in status.running)
    assert status.total_frames == 20
    assert Path(status.base_dir or "") == farm.store
    farm.open_gate()
    await until_state(job, JobState.COMPLETED)
