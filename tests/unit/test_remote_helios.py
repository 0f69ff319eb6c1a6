"""Chunks that Helios' own workers render: requests, answers, and calls that are stopped, frozen, too long or lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from support.remote.cloud_run_service import CloudRunFront, Deed, cloud_run_front
from support.remote.helios_tasks import JOB_URL, SETTINGS, Watcher, helios_task

from activities.backends.backend import RenderTask
from activities.errors import AttemptError, AttemptLostError, ThrottledError
from activities.processes.render_process import Usage
from activities.remote.cloud_run import CloudRunService
from activities.remote.helios import HeliosBackend
from activities.remote.service import HeliosResult, ServiceAnswer
from longtake.attempt_log import AttemptLog
from longtake.models.backends import CloudRunBackend, RemoteProtocol
from longtake.models.policies import FailureRule, ProgressSpec, Retry, Timeouts, Verdict
from ports import find_free_port


@pytest_asyncio.fixture
async def front() -> AsyncIterator[CloudRunFront]:
    async with cloud_run_front() as service:
        yield service


@pytest.fixture
def workers(front: CloudRunFront) -> HeliosBackend:
    return HeliosBackend(CloudRunService(front.url, concurrency=4), SETTINGS)


@pytest.fixture
def task(tmp_path: Path) -> RenderTask:
    return helios_task(tmp_path)


async def test_a_chunk_is_asked_for_by_its_id_with_two_keys(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    front.reply(200, {"exitCode": 0, "stdout": "Fra:39\n", "stderr": "a warning"})

    assert await workers.render(task, Watcher()) == Usage()

    assert [call.payload for call in front.calls] == [{"jobPath": JOB_URL, "chunkIndex": 3}]
    assert type(front.calls[0].payload["chunkIndex"]) is int
    assert task.log.read_text() == "Fra:39\na warning\n"


async def test_a_failed_command_is_told_as_a_local_one(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    task.log.write_text("Error: of an earlier command\n")
    front.reply(500, {"exitCode": 3, "stdout": "Fra:31\n", "stderr": "Error: no codec\n"})

    with pytest.raises(AttemptError) as failed:
        await workers.render(task, Watcher())

    host = front.url.removeprefix("http://")
    assert str(failed.value) == f"blender by cloud run {host} exited with code 3: Error: no codec"
    assert not failed.value.fatal
    assert task.log.read_text() == "Error: of an earlier command\nFra:31\nError: no codec\n"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"message": "spawn blender ENOENT"}, "exited with code 1: spawn blender ENOENT"),
        ({"message": "Chunk with ID 3 not found in job spec"}, "exited with code 1: Chunk with ID 3 not found in job"),
        ({"exitCode": -1, "stdout": "", "stderr": ""}, "was ended by a signal; the system may have run out of memory"),
        ({"exitCode": 7, "stdout": "", "stderr": ""}, "exited with code 7, and printed nothing"),
    ],
)
async def test_why_a_worker_failed_is_never_lost(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask, body: object, sentence: str
) -> None:
    front.reply(500, body)

    with pytest.raises(AttemptError) as failed:
        await workers.render(task, Watcher())
    assert sentence in str(failed.value)


@pytest.mark.parametrize(
    ("retry", "fatal", "another_host", "why"),
    [
        (Retry(fatal_exit_codes=(3,)), True, False, "(fatal_exit_codes)"),
        (Retry(fatal_patterns=("no codec",)), True, False, "(fatal_patterns: no codec)"),
        (Retry(rules=(FailureRule(exit_codes=(3,), then=Verdict.ANOTHER_HOST),)), False, True, "retry.rules[0]"),
    ],
)
async def test_the_rules_of_the_job_hold_for_remote_commands(
    front: CloudRunFront,
    workers: HeliosBackend,
    task: RenderTask,
    retry: Retry,
    fatal: bool,
    another_host: bool,
    why: str,
) -> None:
    front.reply(500, {"exitCode": 3, "stdout": "", "stderr": "no codec"})

    with pytest.raises(AttemptError) as failed:
        await workers.render(replace(task, retry=retry), Watcher())

    assert (failed.value.fatal, failed.value.another_host) == (fatal, another_host)
    assert why in str(failed.value)


async def test_an_exit_code_that_the_job_forgives_is_no_failure(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    front.reply(500, {"exitCode": 3, "stdout": "", "stderr": ""})
    forgiving = Retry(rules=(FailureRule(exit_codes=(3,), then=Verdict.ACCEPT),))

    assert await workers.render(replace(task, retry=forgiving), Watcher()) == Usage()


async def test_a_line_that_makes_a_try_fail_does_so_whatever_the_exit_code(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    front.reply(200, {"exitCode": 0, "stdout": "missing texture wood.png\n", "stderr": ""})
    spec = ProgressSpec(fatal_patterns=("missing texture",))

    with pytest.raises(AttemptError, match=r"said that it had failed: missing texture wood\.png") as failed:
        await workers.render(replace(task, progress=spec), Watcher())
    assert failed.value.suspect


async def test_what_the_workers_cannot_be_asked_is_never_sent(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    without_url = HeliosBackend(
        CloudRunService(front.url, concurrency=1), CloudRunBackend(protocol=RemoteProtocol.HELIOS)
    )

    with pytest.raises(AttemptError, match=r"^backend\.job_url is missing; give the http\(s\) URL") as no_url:
        await without_url.render(task, Watcher())
    with pytest.raises(AttemptError, match=r"^blender is no chunk of the job\.json") as no_chunk:
        await workers.render(replace(task, chunk_id=None), Watcher())

    assert no_url.value.fatal
    assert no_chunk.value.fatal
    assert not front.calls


class LostAnswer(CloudRunService):
    """Stands for AWS Lambda, where an answer over 6 MiB is an error after the work was done."""

    def parse_helios_answer(self, answer: ServiceAnswer, *, lenient: bool) -> HeliosResult:
        return HeliosResult(0, answer_was_lost=True)


async def test_an_answer_that_was_lost_on_the_way_fails_no_finished_work(
    front: CloudRunFront, task: RenderTask
) -> None:
    workers = HeliosBackend(LostAnswer(front.url, concurrency=1), SETTINGS)

    assert await workers.render(task, Watcher()) == Usage()
    assert "its output was too large to come back" in task.log.read_text()


async def test_half_characters_and_much_output_find_room_in_the_log(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    printed = "x" * 99 + "\n"
    front.reply(200, {"exitCode": 0, "stdout": printed * 300_000, "stderr": "half \ud83d of one"})

    await workers.render(task, Watcher())

    log = AttemptLog(task.log)
    assert log.tail(100).endswith(b"half ? of one\n")
    assert sum(segment.size for segment in log.segments()) < 13 * 1024 * 1024


async def test_files_that_appear_in_the_shared_folder_are_progress(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask, tmp_path: Path
) -> None:
    front.otherwise = Deed.HOLD
    folder = tmp_path / "frames"
    folder.mkdir()
    watcher = Watcher()
    render = asyncio.create_task(workers.render(replace(task, counted_dir=folder), watcher))
    await front.next_call()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(b"x")

    await watcher.until_heard(3)
    assert watcher.heard[-1].message == f"called cloud run {front.url.removeprefix('http://')}"
    render.cancel()
    await asyncio.wait([render])


async def test_a_cancel_closes_the_connection_and_says_what_goes_on(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    front.otherwise = Deed.HOLD
    render = asyncio.create_task(workers.render(task, Watcher()))
    call = await front.next_call()

    render.cancel()
    await asyncio.wait_for(call.hung_up, 60)
    with pytest.raises(asyncio.CancelledError):
        await render

    assert "is closed, and its Helios worker does not hear of that and may work on" in task.log.read_text()
    assert len(front.calls) == 1


async def test_the_chunk_timeout_bounds_a_call(front: CloudRunFront, workers: HeliosBackend, task: RenderTask) -> None:
    front.otherwise = Deed.HOLD

    with pytest.raises(AttemptError, match=r"took longer than timeouts\.chunk_seconds, 0\.3 s; .* may work on") as late:
        await workers.render(replace(task, timeouts=Timeouts(chunk_seconds=0.3)), Watcher())

    assert not late.value.fatal
    await asyncio.wait_for(front.calls[0].hung_up, 60)


async def test_nothing_is_called_while_the_job_stands_frozen(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    watcher = Watcher()
    watcher.freeze_order = 5
    front.reply(200, {"exitCode": 0})
    render = asyncio.create_task(workers.render(task, watcher))
    await asyncio.wait_for(watcher.news.wait(), 60)
    assert not front.calls

    watcher.freeze_order = 0
    await render

    assert watcher.told[0] == 5
    assert watcher.told[-1] == 0
    assert len(front.calls) == 1


async def test_a_call_that_is_under_way_never_claims_to_be_frozen(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    front.otherwise = Deed.HOLD
    watcher = Watcher()
    render = asyncio.create_task(workers.render(task, watcher))
    await front.next_call()

    watcher.freeze_order = 5
    before = len(watcher.heard)
    async with asyncio.timeout(60):
        while len(watcher.heard) < before + 3:
            watcher.news.clear()
            await watcher.news.wait()

    assert watcher.told == [0]
    render.cancel()
    await asyncio.wait([render])


async def test_a_service_without_room_costs_no_try(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    front.reply(429, b"Rate exceeded.", {"retry-after": "3"})

    with pytest.raises(ThrottledError) as full:
        await workers.render(task, Watcher())
    assert full.value.wait_seconds == 3


async def test_a_lost_call_is_a_failed_try(front: CloudRunFront, workers: HeliosBackend, task: RenderTask) -> None:
    front.script.append(Deed.BREAK)

    with pytest.raises(
        AttemptError, match=r"blender: the connection to cloud run .* broke: .*; its Helios worker .* may work on"
    ) as no:
        await workers.render(task, Watcher())
    assert (no.value.fatal, no.value.another_host) == (False, False)


async def test_a_service_out_of_reach_costs_no_try(task: RenderTask) -> None:
    away = CloudRunService(f"http://127.0.0.1:{find_free_port()}", concurrency=1)

    with pytest.raises(AttemptLostError, match=r"cannot be reached at http:.*: Connection refused$"):
        await HeliosBackend(away, SETTINGS).render(task, Watcher())
