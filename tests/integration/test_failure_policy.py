"""What a job makes of failures: hold, retry and skip of single chunks, limits, another host."""

from contextlib import AbstractAsyncContextManager

import pytest
from support.farm import Farm, alive, eventually, until, until_state
from support.processes.workers import worker_process

from longtake import BadJobError, JobPhase, JobState, Retry
from longtake.cli.formatting import describe_end
from longtake.models.policies import FailurePolicy, FailureRule, Verdict

pytestmark = pytest.mark.integration


async def test_a_failed_chunk_holds_the_job_until_somebody_resumes_it(farm: Farm) -> None:
    options = ("--fail-times", "1", "--only", "1")
    job = await farm.submit(farm.job(chunks=3, options=options, max_parallel=1, on_chunk_failure=FailurePolicy.HOLD))

    status = await until_state(job, JobState.PAUSED)
    assert status.phase is JobPhase.HOLDING
    assert "chunk 1 failed after 1 try" in (status.error or "")
    assert "exited with code 7" in (status.error or "")
    assert status.failed_chunks == 1
    assert farm.ledger.started == [0, 1], "nothing else was begun"
    await job.resume()

    status = await until_state(job, JobState.COMPLETED)
    assert farm.ledger.started == [0, 1, 1, 2]
    assert status.error is None
    assert status.failures == ()


@pytest.mark.slow
async def test_a_chunk_in_the_middle_of_a_span_has_its_tries_and_no_more(farm: Farm) -> None:
    """Short chunks share a span: each new attempt at it passes the finished ones and remembers the tries of its own."""
    options = ("--fail-times", "2", "--only", "4")
    tries = Retry(attempts=3, initial_seconds=0.01)
    enough = await farm.run(farm.job(chunks=12, options=options, max_parallel=1, retry=tries))
    assert enough.state is JobState.COMPLETED, enough.error
    assert farm.ledger.started.count(4) == 3

    farm.ledger.path.unlink()
    options = ("--exit", "7", "--only", "4")
    tries = Retry(attempts=2, initial_seconds=0.01)
    short = await farm.run(
        farm.job(chunks=12, options=options, max_parallel=1, retry=tries, chunk_output="short/{chunk:06}.txt")
    )
    assert short.state is JobState.FAILED
    assert farm.ledger.started.count(4) == 2
    assert farm.ledger.started.count(3) == 1


async def test_a_chunk_that_fails_again_holds_the_job_again(farm: Farm) -> None:
    options = ("--fail-times", "2", "--only", "0")
    job = await farm.submit(farm.job(chunks=2, options=options, on_chunk_failure=FailurePolicy.HOLD))
    for tries in (1, 2):
        await eventually(lambda tries=tries: farm.ledger.started.count(0) == tries, "chunk 0 is tried")  # type: ignore[misc]
        await until(job, lambda status: status.phase is JobPhase.HOLDING)
        await job.resume()
    status = await until_state(job, JobState.COMPLETED)
    assert status.failed_chunks == 0


async def test_one_of_two_failed_chunks_is_taken_up_alone_and_the_job_holds_for_the_other(farm: Farm) -> None:
    options = ("--fail-times", "1", "--only", "0", "--only", "1", "--gate", str(farm.gate))
    job = await farm.submit(farm.job(chunks=4, options=options, max_parallel=2, on_chunk_failure=FailurePolicy.HOLD))
    await farm.ledger.until_started(2)
    farm.open_gate()
    await until(job, lambda status: status.phase is JobPhase.HOLDING and status.failed_chunks == 2)

    assert await job.retry_failed([(1, 2)]) == 1
    status = await until(job, lambda status: status.phase is JobPhase.HOLDING and status.completed_chunks == 3)
    assert "chunk 0 failed" in (status.error or "")
    assert farm.ledger.started.count(0) == 1
    await job.resume()

    await until_state(job, JobState.COMPLETED)
    assert sorted(farm.ledger.started) == [0, 0, 1, 1, 2, 3]


async def test_a_holding_job_can_be_paused_and_cancelled(farm: Farm) -> None:
    job = await farm.submit(farm.job(chunks=2, options=("--exit", "3"), on_chunk_failure=FailurePolicy.HOLD))
    await until(job, lambda status: status.phase is JobPhase.HOLDING)

    await job.pause()
    status = await until(job, lambda status: status.phase is not JobPhase.HOLDING)
    assert status.state is JobState.PAUSED
    status = await job.cancel(wait=True)

    assert status.state is JobState.CANCELLED


async def test_a_job_that_goes_on_takes_single_chunks_up_again(farm: Farm) -> None:
    options = ("--fail-times", "1", "--only", "0", "--only", "5", "--gate", f"{farm.gate}.{{chunk}}")
    spec = farm.job(chunks=6, options=options, max_parallel=1, on_chunk_failure=FailurePolicy.CONTINUE)
    job = await farm.submit(spec)
    await farm.ledger.until_started(1)
    with pytest.raises(BadJobError, match="no chunk has failed; there is nothing to retry"):
        await job.retry_failed()
    farm.open_gate(0)
    await until(job, lambda status: status.failed_chunks == 1)
    with pytest.raises(BadJobError, match="chunk 1 is neither failed nor skipped"):
        await job.retry_failed([(1, 2)])
    assert await job.retry_failed([(0, 1)]) == 1

    farm.open_gate(5)
    status = await until(job, lambda status: status.state.has_ended)
    assert status.state is JobState.FAILED
    assert "chunk 5" in (status.error or "")
    assert farm.ledger.started.count(0) == 2


async def test_skipped_chunks_are_not_rendered_and_a_film_needs_consent(farm: Farm) -> None:
    film = {"merge_command": ("cp", "/dev/null", "{output}"), "output": "all.bin"}
    job = await farm.started(chunks=4, running=1, **film)
    with pytest.raises(BadJobError, match="the film would have gaps; say that it may"):
        await job.skip_chunks([(2, 3)])
    with pytest.raises(BadJobError, match="chunks 4-8 are not among the job's 4"):
        await job.skip_chunks([(2, 9)])
    assert await job.skip_chunks([(2, 4)], allow_gaps=True) == 2
    status = await until(job, lambda status: status.left_out_chunks == 2)
    assert status.completed_chunks == 0

    assert await job.retry_failed([(3, 4)]) == 1, "and one is wanted after all"
    farm.open_gate()
    await until(job, lambda status: status.completed_chunks == 3)
    assert farm.ledger.started == [0, 1, 3]


async def test_a_job_takes_no_requests_about_chunks_when_it_joins_them(farm: Farm) -> None:
    waits = f"until [ -e {farm.gate} ]; do sleep 0.05; done; echo joined > $1"
    job = await farm.submit(farm.job(chunks=2, merge_command=("sh", "-c", waits, "sh", "{output}"), output="all.bin"))
    await until(job, lambda status: status.phase is JobPhase.STITCHING)

    for request in (job.retry_failed(), job.skip_chunks([(0, 1)], allow_gaps=True), job.set_max_parallel(2)):
        with pytest.raises(BadJobError, match="come to the end of its rendering"):
            await request
    farm.open_gate()
    assert (await until_state(job, JobState.COMPLETED)).completed_chunks == 2


async def test_skipping_a_running_chunk_stops_it(farm: Farm) -> None:
    job = await farm.started(chunks=3, running=1)
    (pid,) = farm.ledger.pids

    assert await job.skip_chunks([(0, 1)]) == 1
    await eventually(lambda: not alive(pid), "the skipped chunk stops")
    farm.open_gate()

    status = await until_state(job, JobState.COMPLETED)
    assert status.completed_chunks == 2
    assert status.left_out_chunks == 1
    assert status.result is not None
    assert status.result.missing_chunks == ((0, 1),)


async def test_a_job_with_more_failures_than_it_may_have_fails(farm: Farm) -> None:
    limits: tuple[tuple[int | str, int], ...] = ((1, 2), ("25%", 3))
    for limit, tried in limits:
        farm.ledger.path.unlink(missing_ok=True)
        job = farm.job(
            chunks=8,
            options=("--exit", "3"),
            max_parallel=1,
            on_chunk_failure=FailurePolicy.CONTINUE,
            max_failed_chunks=limit,
            allow_gaps=True,
        )
        status = await farm.run(job)

        assert status.state is JobState.FAILED, limit
        assert len(farm.ledger.started) == tried, limit
        assert f"{tried} chunks failed" in (status.error or ""), limit


async def test_a_film_of_no_chunk_fails_with_what_failed_its_chunks(farm: Farm) -> None:
    job = farm.job(
        chunks=3,
        command=("sh", "-c", 'echo a > "$1.png"', "sh", "{output}"),
        chunk_output="f_{chunk:04}.png",
        on_chunk_failure=FailurePolicy.CONTINUE,
        allow_gaps=True,
    )
    status = await farm.run(job)

    assert status.state is JobState.FAILED
    assert "3 chunks failed (0-2); chunk 0 failed after 1 try: f_0000.png is missing" in (status.error or "")
    assert status.needs_change
    assert "longtake retry" not in describe_end(status)


async def test_a_chunk_that_failed_twice_on_a_host_goes_to_another(bare: Farm) -> None:
    tries = bare.store.parent / "tries"
    # Nothing works on the host `sick`.
    script = f'echo "$MARK $1" >> {tries}; [ "$MARK" = sound ] || exit 9; echo "$1" > "$2"'
    job = bare.job(
        chunks=6,
        command=("sh", "-c", script, "sh", "{chunk}", "{output}"),
        retry=Retry(attempts=4, initial_seconds=0, same_host=2),
    )

    def host(name: str) -> AbstractAsyncContextManager[object]:
        return worker_process(
            bare.address, bare.task_queue, bare.store, LONGTAKE_HOST=name, MARK=name, LONGTAKE_PASS_ENV="MARK"
        )

    async with host("sick"), host("sound"):
        status = await bare.run(job)

    assert status.state is JobState.COMPLETED, status.error
    lines = tries.read_text().split("\n")
    assert max(lines.count(f"sick {chunk}") for chunk in range(6)) <= 2


async def test_a_host_that_is_alone_tries_to_the_end(farm: Farm) -> None:
    retry = Retry(attempts=4, initial_seconds=0, same_host=1)
    status = await farm.run(farm.job(chunks=1, options=("--fail-times", "3"), retry=retry))

    assert status.state is JobState.COMPLETED
    assert len(farm.ledger.started) == 4


async def test_a_rule_decides_what_becomes_of_a_failure(farm: Farm) -> None:
    rules = (
        FailureRule(exit_codes=(3,), pattern="license", then=Verdict.RETRY, wait_seconds=0),
        FailureRule(exit_codes=(3,), then=Verdict.GIVE_UP),
    )
    # The first try says so, the second one does not.
    options = ("--exit", "3", "--say", "no license")
    job = farm.job(chunks=1, options=options, retry=Retry(attempts=3, initial_seconds=600, rules=rules))
    status = await farm.run(job)
    assert status.state is JobState.FAILED
    assert len(farm.ledger.started) == 3, "600 s would have passed between tries that no rule knows"

    farm.ledger.path.unlink()
    job = farm.job(chunks=1, options=("--exit", "3"), retry=Retry(attempts=3, rules=rules), chunk_output="b/{chunk}")
    assert (await farm.run(job)).state is JobState.FAILED
    assert len(farm.ledger.started) == 1


async def test_an_output_of_an_unknown_codec_is_rendered_as_often_as_the_job_allows(farm: Farm) -> None:
    """It met an unexpected error in the check, and each chunk was rendered again for ever."""
    script = (
        f'echo "start {{chunk}} $$" >> {farm.ledger.path}; '
        "ffmpeg -nostdin -v error -f lavfi -i testsrc2=s=64x64:r=30,format=rgba -c:v hap -frames:v {count} "
        '-f mov "$0" && sed -i s/Hap1/Hap7/ "$0"'
    )
    status = await farm.run(
        farm.job(
            frames={"count": 8, "per_chunk": 4},
            fps="30",
            command=("sh", "-c", script, "{output}"),
            chunk_output="c/{chunk:03}.mov",
            on_chunk_failure=FailurePolicy.CONTINUE,
            retry=Retry(attempts=1),
        )
    )

    assert status.state is JobState.FAILED
    assert sorted(farm.ledger.started) == [0, 1]
    assert "of a codec that nothing here can read" in (status.error or "")


async def test_an_error_that_nothing_expects_counts_as_a_try(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.attempts.chunk_attempt.ChunkAttempt.run", _fail_with_a_bug)
    status = await farm.run(farm.job(chunks=2, retry=Retry(attempts=1), on_chunk_failure=FailurePolicy.CONTINUE))

    assert (status.state, status.failed_chunks) == (JobState.FAILED, 2)
    assert "unexpected AttributeError: a bug" in (status.error or "")


async def _fail_with_a_bug(*_: object) -> None:
    raise AttributeError("a bug")
