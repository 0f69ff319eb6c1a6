"""Orders that agents carry out, over both edges and in both kinds of store."""

import hashlib
import os
import signal

import pytest
from support.farm import eventually
from support.processes.process_table import look
from support.remote.agent_jobs import AgentJobs, carriers, read_result
from support.remote.agents import Edge

from activities.remote.protocol import RemoteOutcome
from longtake import FailureRule, Retry, Verdict
from longtake.models.inputs import InputFile, InputManifest, content_path, manifest_path

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    # Each kind of store and each edge; the other pairs are made of the same.
    pytest.mark.parametrize(
        ("jobs", "edge"),
        [
            ("directory", "lambda"),
            ("bucket", "cloud run"),
            pytest.param("directory", "cloud run", marks=pytest.mark.slow),
            pytest.param("bucket", "lambda", marks=pytest.mark.slow),
        ],
        indirect=True,
    ),
]


async def test_an_order_is_rendered_checked_and_published_where_the_job_wants_it(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts("--say", "hello")
    order = job.order(2)

    result = await edge.render(order)

    assert (result.outcome, result.error, result.survivors) == (RemoteOutcome.PUBLISHED, "", 0)
    assert result.frames_done == 1
    assert 0 < result.billed_seconds < 60
    assert job.published(2) == b"chunk 2\n"
    sidecar = job.sidecar(2)
    assert sidecar is not None
    assert (sidecar.attempt, sidecar.host) == (order.attempt, f"{edge.name} render")
    assert b"hello" in job.log(order)
    assert job.calls(2).result(order.attempt) == result
    assert carriers(order) == []


async def test_a_published_chunk_is_not_rendered_again(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts()
    await edge.render(job.order())

    assert (await edge.render(job.order())).outcome is RemoteOutcome.PUBLISHED
    assert job.ledger.started == [0]


async def test_a_failed_try_is_told_with_what_the_job_makes_of_it(jobs: AgentJobs, edge: Edge) -> None:
    elsewhere = FailureRule(exit_codes=(7,), then=Verdict.ANOTHER_HOST, wait_seconds=3)
    job = jobs.texts("--exit", "7", "--say", "no such scene", retry=Retry(attempts=4, rules=(elsewhere,)))
    order = job.order()

    result = await edge.render(order)

    assert result.outcome is RemoteOutcome.FAILED
    assert "exited with code 7" in result.error
    assert "no such scene" in result.error
    assert (result.another_host, result.wait_seconds, result.fatal) == (True, 3, False)
    assert result.survivors == 0
    assert job.sidecar() is None
    assert b"no such scene" in job.log(order)


async def test_what_only_another_job_file_mends_is_told_to_the_worker(jobs: AgentJobs, edge: Edge) -> None:
    command = ("sh", "-c", 'echo x > "$1/picture.txt"', "sh", "{output_dir}")
    job = jobs.accept(command=command, retry=Retry(attempts=4))

    result = await edge.render(job.order())

    assert (result.outcome, result.needs_change, result.fatal) == (RemoteOutcome.FAILED, True, True)
    assert "the renderer wrote picture.txt" in result.error


async def test_a_program_that_the_agent_does_not_allow_fails_for_good(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.accept(command=("touch", "{output}"))

    result = await edge.render(job.order())

    assert (result.outcome, result.fatal) == (RemoteOutcome.FAILED, True)
    assert "LONGTAKE_ALLOWED_COMMANDS" in result.error
    assert job.sidecar() is None


async def test_renders_read_the_inputs_that_were_handed_in(jobs: AgentJobs, edge: Edge) -> None:
    command = ("sh", "-c", "cat assets/scene.txt > {output}")
    scene = b"a scene"
    if jobs.store.is_local:
        jobs.store.replace(jobs.store.locate("assets/scene.txt"), scene)
        job = jobs.accept(command=command)
    else:
        digest = hashlib.sha256(scene).hexdigest()
        file = InputFile(path="assets/scene.txt", sha256=digest, size_bytes=len(scene))
        manifest = InputManifest(files=(file,))
        jobs.store.replace(jobs.store.locate(content_path(digest)), scene)
        jobs.store.replace(jobs.store.locate(manifest_path(manifest.bundle().sha256)), manifest.to_bytes())
        job = jobs.accept(command=command, inputs=manifest.bundle())

    assert (await edge.render(job.order())).outcome is RemoteOutcome.PUBLISHED
    assert job.published() == scene


async def test_all_outputs_of_a_chunk_are_published(jobs: AgentJobs, edge: Edge) -> None:
    script = 'echo one > "$0"; echo two > "$1"; echo three > "$(dirname "$0")/x_$2.txt"'
    job = jobs.accept(
        command=("sh", "-c", script, "{output.one}", "{output_dir.two}/{chunk}.txt", "{chunk}"),
        chunk_output=None,
        outputs={"one": "layers/one/{chunk}.txt", "two": "layers/two/{chunk}.txt"},
        also=["{output_dir}/x_*.txt"],
    )

    assert (await edge.render(job.order(2))).outcome is RemoteOutcome.PUBLISHED
    store = job.job.folder.store
    found = {path: store.read(store.locate(f"layers/{path}.txt")) for path in ("one/2", "two/2", "one/x_2")}
    assert found == {"one/2": b"one\n", "two/2": b"two\n", "one/x_2": b"three\n"}


async def test_progress_is_in_the_store_while_it_works(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.images("--gate", "NOTES/gate", "--gate-at", "5")
    order, calls = job.order(), job.calls()
    call = edge.call(order)

    def beats() -> int:
        progress = calls.progress(order.attempt)
        return progress.beat if progress is not None and progress.frames_done == 5 else 0

    await eventually(lambda: beats() > 0, "five frames are told")
    before = beats()
    await eventually(lambda: beats() > before + 1, "the beat goes on while nothing else changes")
    (job.notes / "gate").touch()

    result = edge.result(await call)
    assert (result.outcome, result.frames_done) == (RemoteOutcome.PUBLISHED, 10)


async def test_what_is_told_to_stop_before_it_begins_runs_nothing(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts()
    order = job.order()
    job.calls().order_stop(order.attempt, "changed my mind")

    result = await edge.render(order)

    assert (result.outcome, result.survivors) == (RemoteOutcome.STOPPED, 0)
    assert job.ledger.started == []
    assert job.calls().result(order.attempt) == result


async def test_a_stop_keeps_finished_frames_and_the_log_and_the_next_attempt_goes_on(
    jobs: AgentJobs, edge: Edge
) -> None:
    job = jobs.images("--gate", "NOTES/gate", "--gate-at", "5", "--say", "hello")
    order = job.order()
    call = edge.call(order)
    await eventually(lambda: bool(job.ledger.lines("waiting")), "five frames are rendered")

    job.calls().order_stop(order.attempt, "enough")
    result = edge.result(await call)

    assert (result.outcome, result.frames_done, result.survivors) == (RemoteOutcome.STOPPED, 5, 0)
    assert len(job.kept()) == 5
    assert job.log(order) is not None
    assert carriers(order) == []
    (job.notes / "gate").touch()
    assert (await edge.render(job.order())).outcome is RemoteOutcome.PUBLISHED
    assert [line[1] for line in job.ledger.lines("start")] == ["0", "5"]
    assert job.kept() == []


async def test_a_keeper_that_is_killed_loses_the_try_and_costs_none(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts("--gate", "NOTES/gate")
    call = edge.call(order := job.order())
    await job.ledger.until_started(1)
    renderer = look(job.ledger.pids[0])
    assert renderer is not None

    os.kill(renderer.parent, signal.SIGKILL)

    result = edge.result(await call)
    assert (result.outcome, result.survivors) == (RemoteOutcome.LOST, 0)
    assert carriers(order) == []


async def test_several_orders_are_carried_out_side_by_side(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts("--gate", "NOTES/gate")
    calls = [edge.call(job.order(chunk)) for chunk in range(2)]
    await job.ledger.until_started(2)
    (job.notes / "gate").touch()

    results = [edge.result(await call) for call in calls]

    assert {result.outcome for result in results} == {RemoteOutcome.PUBLISHED}
    assert [job.published(chunk) for chunk in range(2)] == [b"chunk %d\n" % chunk for chunk in range(2)]


async def test_what_an_agent_leaves_on_its_disk_does_not_add_up(jobs: AgentJobs, edge: Edge) -> None:
    """Lambda has 512 MB of it and uses an instance again and again; on Cloud Run it is memory."""
    scratch = jobs.notes / "scratch"
    job = jobs.images("--fail-at", "3")
    failed = await edge.render(job.order())
    await edge.render(job.order())

    assert failed.outcome is RemoteOutcome.FAILED
    left = [path for path in scratch.rglob("*") if path.is_file() and job.job.ref.id in str(path)]
    assert left == []
    assert await read_result(job, job.order(attempt=failed.attempt)) == failed
