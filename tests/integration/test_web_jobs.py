"""The HTTP API on real jobs: submit, list, look, steer, and watch."""

import asyncio
import json
import uuid
from contextlib import aclosing, suppress
from typing import Any

import httpx
import pytest
import yaml
from support.farm import Farm, until, until_state
from support.web import API, Told, events, job_path, stream, web_of
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.service import RPCError

from longtake import JobHandle, JobState, JobStatus
from longtake.web import job_index
from longtake.web.statuses import SharedStatuses

pytestmark = pytest.mark.integration


def body_of(farm: Farm, **fields: Any) -> str:
    """Return a job file as a person would write it."""
    document = farm.job(**fields).to_wire()
    del document["contract"]
    return yaml.safe_dump(json.loads(json.dumps(document)))


async def listed(client: httpx.AsyncClient, query: str, until_ids: set[str]) -> dict[str, Any]:
    """Return a list once Temporal's own list, which lags behind, has these jobs."""
    async with asyncio.timeout(60):
        while True:
            answer = (await client.get(f"{API}/jobs?{query}")).json()
            if until_ids <= {job["id"] for job in answer["jobs"]}:
                return dict(answer)
            await asyncio.sleep(0.2)


async def test_a_job_file_that_is_sent_becomes_a_job_that_completes(farm: Farm) -> None:
    job_id = f"web {uuid.uuid4().hex}/a"
    async with web_of(farm) as client:
        answer = await client.post(f"{API}/jobs", params={"id": job_id}, content=body_of(farm))

        assert answer.status_code == 201
        assert answer.headers["location"] == job_path(job_id)
        # A status may be half a second old: the end of the events is that of the job.
        await events(client, job_path(job_id, "events"))
        status = (await client.get(answer.headers["location"])).json()
        assert (status["id"], status["state"], status["completed_chunks"]) == (job_id, "completed", 4)
        assert JobStatus.model_validate(status).progress == 100
        document = (await client.get(job_path(job_id, "document"))).json()
        assert document["chunk_output"] == "out/{chunk:06}.txt"


async def test_json_is_a_job_file_too_and_the_folder_may_be_named_beside_it(farm: Farm) -> None:
    document = yaml.safe_load(body_of(farm))
    del document["base_dir"]
    async with web_of(farm) as client:
        answer = await client.post(f"{API}/jobs", params={"base_dir": str(farm.store)}, json=document)

        assert answer.status_code == 201
        assert (await farm.render.job(answer.json()["id"]).document())["base_dir"] == str(farm.store)


async def test_the_same_job_under_the_same_id_is_started_once(farm: Farm) -> None:
    job_id = f"once-{uuid.uuid4().hex}"
    async with web_of(farm) as client:
        first = await client.post(f"{API}/jobs", params={"id": job_id}, content=body_of(farm))
        again = await client.post(f"{API}/jobs", params={"id": job_id}, content=body_of(farm))
        other = await client.post(f"{API}/jobs", params={"id": job_id}, content=body_of(farm, chunks=7))

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert other.headers["content-type"] == "application/problem+json"
    assert other.json()["type"] == "job-exists"


async def test_each_mistake_of_a_job_file_is_told_by_its_field(farm: Farm) -> None:
    text = "frames: {count: 0}\ncommand: [x]\nfps: fast\nchunk_output: out/{chunk}.txt\n"
    async with web_of(farm) as client:
        for path in ("plan", "jobs"):
            answer = await client.post(f"{API}/{path}", content=text)

            assert answer.status_code == 422
            problem = answer.json()
            assert problem["type"] == "bad-job"
            assert problem["detail"] == "frames.count: is 0; make it at least 1"
            assert [error["field"] for error in problem["errors"]] == ["frames.count", "fps"]


async def test_a_plan_shows_the_first_command_and_starts_nothing(farm: Farm) -> None:
    name = uuid.uuid4().hex
    async with web_of(farm) as client:
        plan = (await client.post(f"{API}/plan", content=body_of(farm, chunks=12, name=name))).json()

        assert (plan["total_chunks"], plan["total_frames"], plan["films"]) == (12, 12, [])
        # Temporal learns of the worker some time after its start.
        assert all(warning.startswith("no worker serves") for warning in plan["warnings"])
        assert f"{farm.store}/out/000000.txt" in plan["command"]
        assert (await client.get(f"{API}/jobs?search={name}")).json()["counts"] == {}


async def test_a_plan_warns_of_a_farm_without_workers(bare: Farm) -> None:
    async with web_of(bare) as client:
        plan = (await client.post(f"{API}/plan", content=body_of(bare))).json()

    assert any(f"no worker serves the queue {bare.task_queue}" in warning for warning in plan["warnings"])


async def test_a_job_is_paused_resumed_limited_and_cancelled(farm: Farm) -> None:
    job = await farm.started(chunks=6, running=2)
    async with web_of(farm) as client:
        paused = await client.post(job_path(job.id, "pause"), json={"mode": "freeze"})
        assert paused.status_code == 200
        assert paused.json()["pause_mode"] == "freeze"
        await until(job, lambda status: status.frozen_chunks == 2)

        assert (await client.post(job_path(job.id, "resume"))).status_code == 200
        limit = await client.put(job_path(job.id, "max-parallel"), json={"max_parallel": 3})
        assert limit.json() == {"changed": 3}
        skipped = await client.post(job_path(job.id, "skip"), json={"chunks": [[5, 6]]})
        assert skipped.json() == {"changed": 1}
        again = await client.post(job_path(job.id, "skip"), json={"chunks": [[5, 6]]})
        assert again.json() == {"changed": 0}
        await client.post(job_path(job.id, "cancel"))
        await until_state(job, JobState.CANCELLED)

        late = await client.post(job_path(job.id, "pause"))
        assert (late.status_code, late.json()["type"]) == (409, "job-ended")
        farm.open_gate()
        again = await client.post(job_path(job.id, "retry"))
        assert again.status_code == 200
        await until_state(job, JobState.COMPLETED)


async def test_a_failed_chunk_is_retried_alone(farm: Farm) -> None:
    job = await farm.held(0, 1, 2, chunks=3)
    async with web_of(farm) as client:
        refused = await client.post(job_path(job.id, "retry"), json={"chunks": [[7, 9]]})
        assert refused.status_code == 422
        assert (await client.post(job_path(job.id, "retry"), json={"chunks": [[1, 2]]})).status_code == 200
        await until(job, lambda status: status.completed_chunks == 1)
        assert (await client.post(job_path(job.id, "resume"))).status_code == 200
    await until_state(job, JobState.COMPLETED)


async def test_lists_are_filtered_sorted_searched_and_paged(farm: Farm) -> None:
    word = uuid.uuid4().hex[:8]
    ids = [f"list-{number}-{word}" for number in range(5)]
    for number, job_id in enumerate(ids):
        name, output = f"show {chr(ord('e') - number)} {word}", f"{number}.txt"
        await farm.render.submit(farm.job(chunks=1, name=name, chunk_output=output), id=job_id)
    for job_id in ids:
        await until_state(farm.render.job(job_id), JobState.COMPLETED)
    async with web_of(farm) as client:
        found = await listed(client, f"search={word}&state=completed&sort=-id", set(ids))
        assert [job["id"] for job in found["jobs"]] == ids[::-1]
        assert found["counts"] == {"completed": 5}
        assert found["next"] is None

        seen, cursor = [], ""
        for _ in range(3):
            page = (await client.get(f"{API}/jobs?search=SHOW+{word}&sort=name&limit=2&after={cursor}")).json()
            seen += [job["id"] for job in page["jobs"]]
            cursor = page["next"]
        assert cursor is None
        assert seen == ids[::-1]
        nothing = (await client.get(f"{API}/jobs?search={word}&state=failed,running")).json()
        assert (nothing["jobs"], nothing["counts"]) == ([], {"completed": 5})
        for query in ("state=lost", "sort=colour", "after=xx", "limit=0", "limit=5000"):
            answer = await client.get(f"{API}/jobs?{query}")
            assert answer.status_code == 422, query
            assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


async def test_lists_know_who_has_submitted_a_job_and_a_session_knows_its_own(farm: Farm) -> None:
    word = uuid.uuid4().hex[:8]
    async with web_of(farm) as client:
        await client.post(f"{API}/jobs", params={"id": f"own-{word}"}, content=body_of(farm, chunks=1))
        await farm.render.submit(farm.job(chunks=1, chunk_output="b/{chunk}.txt"), id=f"other-{word}", by="Ada@tower")
        listing = await listed(client, f"search={word}", {f"own-{word}", f"other-{word}"})
        me = (await client.get(f"{API}/me")).json()
        assert {job["id"]: job["submitted_by"] for job in listing["jobs"]} == {
            f"own-{word}": me["by"],
            f"other-{word}": "Ada@tower",
        }
        of_ada = (await client.get(f"{API}/jobs?search={word}&by=ada")).json()
        assert [job["id"] for job in of_ada["jobs"]] == [f"other-{word}"]


async def test_a_job_that_is_retried_stands_once_in_lists_as_it_is_now(farm: Farm) -> None:
    flag = farm.store.parent / "mended"
    job = await farm.submit(farm.job(chunks=1, command=("sh", "-c", f'test -e {flag} && echo x > "$0"', "{output}")))
    await until_state(job, JobState.FAILED)
    async with web_of(farm) as client:
        assert (await listed(client, f"search={job.id}&state=failed", {job.id}))["counts"]["failed"] == 1
        flag.touch()
        await client.post(job_path(job.id, "retry"))
        await until_state(job, JobState.COMPLETED)

        found = await listed(client, f"search={job.id}&state=completed", {job.id})
        assert found["counts"] == {"completed": 1}


async def test_the_events_of_a_job_tell_each_change_and_its_end(farm: Farm) -> None:
    job = await farm.started(chunks=3, running=1)
    async with web_of(farm) as client:
        told = []
        async with aclosing(stream(client, job_path(job.id, "events"))) as following:
            async for event in following:
                told.append(event)
                farm.open_gate()

        states = [event.data["state"] for event in told if event.name == "status"]
        assert states[-1] == "completed"
        assert told[-1].name == "end"
        # One who comes back hears nothing twice, from whatever server.
        assert await events(client, job_path(job.id, "events"), since=told[0].id) == told[-2:]
        over = await client.get(job_path(job.id, "events"), headers={"Last-Event-ID": str(told[-1].id)})
        assert over.status_code == 204


async def test_the_events_of_all_jobs_tell_of_a_new_one(farm: Farm) -> None:
    async with web_of(farm) as client:
        job = await farm.started(chunks=2, running=1)
        states = []

        async def follow() -> None:
            # The server of the tests has other jobs too.
            async with aclosing(stream(client, f"{API}/jobs/events")) as events_of_all:
                async for told in events_of_all:
                    if told.name == "job" and told.data["id"] == job.id:
                        states.append(told.data["state"])
                        farm.open_gate()
                    if "completed" in states:
                        return

        await follow()
        assert states[0] in ("pending", "running")


async def delete(job: JobHandle, farm: Farm) -> None:
    """Delete the history of a job, as retention and `temporal workflow delete` do."""
    await farm.client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=farm.client.namespace, workflow_execution=WorkflowExecution(workflow_id=job.id)
        )
    )


async def test_the_events_of_a_job_whose_history_is_deleted_end_with_that(farm: Farm) -> None:
    job = await farm.started(chunks=2, running=1)
    async with web_of(farm) as client:
        told: list[Told] = []
        async with aclosing(stream(client, job_path(job.id, "events"))) as following:
            async for event in following:
                if not told:
                    await delete(job, farm)
                told.append(event)

        assert [event.name for event in told[:-1]] == ["status"] * (len(told) - 1)
        assert (told[-1].name, told[-1].id, told[-1].data) == ("gone", None, {"id": job.id})
        # What makes a browser ask no more.
        again = await client.get(job_path(job.id, "events"), headers={"Last-Event-ID": str(told[0].id)})
        assert (again.status_code, again.json()["type"]) == (404, "no-such-job")
    farm.open_gate()


async def test_the_events_of_all_jobs_tell_of_those_that_are_deleted(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A whole list is read once a minute, and jobs that had ended are missed by that.
    monkeypatch.setattr(job_index, "_ALL_SECONDS", 2.0)
    running, ended = await farm.started(chunks=2, running=1), await farm.submit(farm.job(chunks=1))
    await until_state(ended, JobState.COMPLETED)
    ids = {running.id, ended.id}
    async with web_of(farm) as client:
        await listed(client, "state=running,completed", ids)
        gone: dict[str, str | None] = {}
        async with aclosing(stream(client, f"{API}/jobs/events")) as following:
            async for told in following:
                if told.name == "job" and not gone and told.data["id"] in ids:
                    for job in (running, ended):
                        with suppress(RPCError):
                            await delete(job, farm)
                if told.name == "gone" and told.data["id"] in ids:
                    gone[told.data["id"]] = told.id
                if gone.keys() == ids:
                    break
        # One who was cut off before hears it, too.
        since = f"{float(min(map(str, gone.values()))) - 1:.3f}"
        async with aclosing(stream(client, f"{API}/jobs/events", since=since)) as following:
            heard = set()
            async for told in following:
                if told.name == "gone":
                    heard.add(told.data["id"])
                if ids <= heard:
                    break
        assert not ids & {job["id"] for job in (await client.get(f"{API}/jobs?limit=1000")).json()["jobs"]}
    farm.open_gate()


async def test_a_job_that_a_list_lacks_for_a_moment_is_not_gone(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_index, "_ALL_SECONDS", 0.0)
    job = await farm.submit(farm.job(chunks=1))
    await until_state(job, JobState.COMPLETED)
    index = job_index.JobIndex(farm.client, farm.task_queue)
    async with asyncio.timeout(60):
        while job.id not in await index.jobs():
            index.forget()
    monkeypatch.setattr(job_index, "build_query", lambda state: 'WorkflowType="NoneSuch"')
    index.forget()

    assert job.id in await index.jobs()
    assert job.id not in index.gone


async def test_two_hundred_watchers_of_a_job_cost_temporal_what_one_does(farm: Farm) -> None:
    job = await farm.started(chunks=2, running=1)
    reads = 0

    async def read(job_id: str) -> JobStatus:
        nonlocal reads
        reads += 1
        return await farm.render.job(job_id).status()

    statuses = SharedStatuses(read)

    async def watch() -> JobState:
        last = None
        async for news in statuses.watch(job.id):
            assert not isinstance(news, Exception)
            last = news.status.state
        assert last is not None
        return last

    watchers = [asyncio.create_task(watch()) for _ in range(200)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(0)
    farm.open_gate()
    ends = await asyncio.gather(*watchers)

    assert set(ends) == {JobState.COMPLETED}
    # What one watcher reads: one look each half second.
    assert reads <= (loop.time() - began) / 0.5 + 2
    assert statuses.watched == 0


async def test_two_hundred_clients_of_a_stream_hear_the_same_and_end_with_the_job(farm: Farm) -> None:
    job = await farm.started(chunks=2, running=1)
    limits = httpx.Limits(max_connections=300)
    async with web_of(farm) as client, httpx.AsyncClient(base_url=client.base_url, limits=limits, timeout=60) as many:
        watching = [asyncio.create_task(events(many, job_path(job.id, "events"))) for _ in range(200)]
        farm.open_gate()
        told = await asyncio.gather(*watching)

    assert {each[-1].name for each in told} == {"end"}
    assert len({each[-1].id for each in told}) == 1


async def test_what_is_no_job_is_a_problem(farm: Farm) -> None:
    async with web_of(farm) as client:
        for path in ("", "/events", "/document", "/outputs", "/logs", "/chunks/0/logs/1"):
            answer = await client.get(f"{job_path('none such')}{path}")
            assert answer.status_code == 404, path
            assert answer.json()["type"] == "no-such-job"
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.slow
async def test_a_farm_is_told_with_its_hosts_slots_queues_and_what_runs(farm: Farm) -> None:
    job = await farm.started(chunks=6, running=2)
    async with web_of(farm) as client, asyncio.timeout(90):
        while True:
            found = (await client.get(f"{API}/farm")).json()
            # Other farms of these tests have jobs on this host, too.
            host = next((host for host in found["hosts"] if job.id in {each["job"] for each in host["running"]}), None)
            if host is not None and host["last_heard"]:
                break
            await asyncio.sleep(0.3)
    farm.open_gate()

    assert f"{farm.task_queue}-local" in host["queues"]
    assert {queue["name"] for queue in found["queues"]} == {farm.task_queue, f"{farm.task_queue}-local"}
    assert all(queue["pollers"] == 1 for queue in found["queues"])
    await until_state(job, JobState.COMPLETED)
