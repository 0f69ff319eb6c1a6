"""Receivers of webhooks are told of each event once, signed, however they fail; and no job waits for them."""

import asyncio
import json
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr
from support.farm import Farm, eventually, serving, until, until_state, worker_settings
from support.processes.workers import worker_process
from support.servers.certificates import known_certificate
from support.servers.http_server import Connection
from support.servers.receiver import WebhookReceiver, answer, delivery_ids, hang, last_error, receiving, reports
from temporalio.client import Client

from activities.notify import webhook
from longtake import JobFailedError, JobPhase, JobState, PauseMode, Retry
from longtake.models.notify import DeliveryReport, Receiver
from longtake.models.policies import FailurePolicy
from workflows import history, notifications, options, scheduling

pytestmark = pytest.mark.integration

ALL = ("started", "paused", "held", "chunk_failed", "finished", "failed", "cancelled")


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with receiving() as receiver:
        yield receiver


@pytest_asyncio.fixture
async def telling(bare: Farm, receiver: WebhookReceiver) -> AsyncIterator[Farm]:
    """A farm whose jobs may tell the receiver."""
    async with serving(bare.client, settings_for(bare, receiver)):
        yield bare


def settings_for(farm: Farm, receiver: WebhookReceiver, **others: Any) -> Any:
    allowed = {"webhooks": SecretStr(receiver.webhooks), "notify_networks": ("127.0.0.0/8",)}
    settings = worker_settings(farm.task_queue, farm.store, slots=4)
    return type(settings).model_validate({**settings.model_dump(), **allowed, **others})


def told(receiver: WebhookReceiver, *events: str) -> dict[str, Any]:
    """Return the key `notify` of a job that tells the receiver of some events; of all where none is named."""
    return {"notify": (Receiver(webhook=receiver.url, on=events or ALL),)}


async def until_told(receiver: WebhookReceiver, count: int) -> None:
    await eventually(lambda: len(receiver.calls) >= count, f"{count} messages; there are {len(receiver.calls)}")


async def until_beating(client: Client, delivery: str, after: timedelta) -> None:
    """Return when the worker of a delivery was heard of so long after it has begun it."""
    async with asyncio.timeout(60):
        while True:
            description = await client.get_workflow_handle(delivery).describe()
            for pending in description.raw_description.pending_activities:
                beat, began = pending.last_heartbeat_time.ToDatetime(), pending.last_started_time.ToDatetime()
                if beat - began > after:
                    return
            await asyncio.sleep(0.1)


async def test_a_job_tells_of_its_start_and_its_end_with_what_a_person_asks(
    telling: Farm, receiver: WebhookReceiver
) -> None:
    job = await telling.submit(telling.job(chunks=2, **told(receiver)))
    await until_state(job, JobState.COMPLETED)
    await until_told(receiver, 2)

    started, finished = sorted(receiver.messages, key=lambda message: str(message["timestamp"]))
    assert (started["type"], finished["type"]) == ("job.started", "job.finished")
    assert finished["data"]["job"]["id"] == job.id
    assert finished["data"]["job"]["state"] == "completed"
    assert finished["data"]["job"]["completed_chunks"] == 2
    assert len(set(receiver.ids)) == 2
    assert all(call.target == "/hook?token=hush" for call in receiver.calls)


async def test_pauses_and_a_cancel_are_told_with_who_asked(telling: Farm, receiver: WebhookReceiver) -> None:
    job = await telling.started(chunks=3, running=1, **told(receiver))
    await job.pause(mode=PauseMode.FREEZE, by="ada")
    await until_state(job, JobState.PAUSED)
    await job.pause(mode=PauseMode.NOW)
    await until(job, lambda status: not status.frozen_chunks)
    await job.cancel(wait=True, by="grace")
    await until_told(receiver, 3)

    assert sorted(receiver.types) == ["job.cancelled", "job.paused", "job.started"], "one pause is one event"
    paused = next(message for message in receiver.messages if message["type"] == "job.paused")
    assert paused["data"]["job"]["requests"][0]["by"] == "ada"


async def test_a_receiver_that_fails_hangs_and_redirects_gets_each_event_once_it_takes_it(
    telling: Farm, receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_ANSWER_SECONDS", 0.5)
    receiver.answers.extend(
        [answer(500), hang, answer(302, location=f"{receiver.origin}/elsewhere"), answer(429, **{"retry-after": "1"})]
    )
    job = await telling.submit(telling.job(chunks=1, **told(receiver, "finished")))
    await until_state(job, JobState.COMPLETED)
    (report,) = await reports(telling.client, job.id)

    assert len(set(receiver.ids)) == 1, "receivers know by the id what they have had"
    assert len(receiver.calls) == 5
    assert all(call.target == "/hook?token=hush" for call in receiver.calls), "no redirect was followed"
    assert receiver.types == 5 * ["job.finished"]
    assert report.deliveries == (DeliveryReport(receiver=f"webhook {receiver.origin}", tries=5),)


async def test_a_receiver_knows_by_its_number_that_a_message_comes_late(
    telling: Farm, receiver: WebhookReceiver
) -> None:
    async def refuse_the_start_until_the_end(connection: Connection) -> None:
        is_early = receiver.types[-1] == "job.started" and "job.finished" not in receiver.types
        receiver.answers.append(refuse_the_start_until_the_end)
        await connection.respond(503 if is_early else 204, b"")

    receiver.answers.append(refuse_the_start_until_the_end)
    job = await telling.submit(telling.job(chunks=1, **told(receiver, "started", "finished")))
    await reports(telling.client, job.id)

    taken = receiver.messages[receiver.types.index("job.finished") :]
    assert [message["type"] for message in taken] == ["job.finished", "job.started"]
    assert taken[0]["sequence"] > taken[1]["sequence"]
    # As the documents say: what is not above the largest number is old.
    assert all(call.headers["longtake-sequence"] == f"{json.loads(call.body)['sequence']}" for call in receiver.calls)


@pytest.mark.slow
async def test_a_receiver_that_answers_late_but_in_time_is_told_once(telling: Farm, receiver: WebhookReceiver) -> None:
    """Later than the workflow waits for a sign of a worker: the delivery has to say meanwhile that it goes on."""
    is_late = asyncio.Event()

    async def answer_late(connection: Connection) -> None:
        await asyncio.wait_for(is_late.wait(), webhook._ANSWER_SECONDS)
        await connection.respond(204, b"")

    receiver.answers.append(answer_late)
    job = await telling.submit(telling.job(chunks=1, **told(receiver, "finished")))
    await until_told(receiver, 1)
    (id,) = await delivery_ids(telling.client, job.id)
    await until_beating(telling.client, id, options.HEARTBEAT_TIMEOUT + timedelta(seconds=1))
    is_late.set()
    (report,) = await reports(telling.client, job.id)

    assert len(receiver.calls) == 1
    assert report.deliveries[0].tries == 1


async def test_a_redirect_is_not_followed_wherever_it_leads(telling: Farm, receiver: WebhookReceiver) -> None:
    """Also not to a receiver that may be told itself: it would get what is signed for another."""
    async with receiving() as other:
        # At each try: once one is taken, the error of the one before cannot be read any more.
        receiver.answers.extend(100 * [answer(307, location=other.url)])
        job = await telling.submit(telling.job(chunks=1, **told(receiver, "finished")))
        await until_state(job, JobState.COMPLETED)
        error = await last_error(telling.client, job.id)

    assert error == "the receiver 127.0.0.1 has answered with status 307; redirects are not followed"
    assert other.calls == []


async def test_a_name_that_leads_to_a_private_address_is_not_connected_to(
    bare: Farm, receiver: WebhookReceiver
) -> None:
    """The allowed list names hosts, and whoever holds the name of one decides where it leads."""
    url = f"http://localhost:{receiver.port}"
    named = {"webhooks": SecretStr(f"{url}={receiver.secret}")}
    async with serving(bare.client, settings_for(bare, receiver, notify_networks=("10.0.0.0/8",), **named)):
        job = await bare.submit(bare.job(chunks=1, notify=(Receiver(webhook=url, on=("finished",)),)))
        await until_state(job, JobState.COMPLETED)
        error = await last_error(bare.client, job.id)
        assert re.search(r"the receiver localhost is at (127\.0\.0\.1|::1), which is no public address", error)
        assert receiver.calls == []
    async with serving(bare.client, settings_for(bare, receiver, **named)):
        await reports(bare.client, job.id)
    assert receiver.types == ["job.finished"], "of its addresses the one that is allowed"


async def test_a_job_ends_although_its_receiver_is_away_and_tells_it_when_that_is_back(bare: Farm) -> None:
    async with receiving() as receiver:
        pass
    async with serving(bare.client, settings_for(bare, receiver)):
        job = await bare.submit(bare.job(chunks=1, **told(receiver, "started", "finished")))
        await until_state(job, JobState.COMPLETED)
        assert receiver.calls == []
        async with receiving(receiver):
            assert len(await reports(bare.client, job.id)) == 2
    assert sorted(receiver.types) == ["job.finished", "job.started"]
    assert len(set(receiver.ids)) == 2


async def test_failing_chunks_are_told_together(telling: Farm, receiver: WebhookReceiver) -> None:
    fields: dict[str, Any] = {"on_chunk_failure": FailurePolicy.CONTINUE, "retry": Retry(attempts=1), "max_parallel": 2}
    status = await telling.run(telling.job(chunks=30, options=("--exit", "7"), **fields, **told(receiver)))
    await reports(telling.client, status.id)

    assert sorted(receiver.types) == ["job.chunk_failed", "job.chunk_failed", "job.failed", "job.started"]
    failed = [message["data"]["job"] for message in receiver.messages if message["type"] == "job.chunk_failed"]
    assert min(each["failed_chunks"] for each in failed) <= 2, "the first at once"
    assert max(each["failed_chunks"] for each in failed) == 30, "the others together"
    sequences = {message["type"]: message["sequence"] for message in receiver.messages}
    assert sequences["job.failed"] == max(sequences.values())
    assert len({message["sequence"] for message in receiver.messages}) == 4, "also of those of one moment"
    assert failed[0]["failures"][0]["error"]
    assert all(len(each["failures"]) <= 5 for each in failed)


async def test_a_job_that_holds_is_told_once_for_each_hold(telling: Farm, receiver: WebhookReceiver) -> None:
    fields: dict[str, Any] = {"on_chunk_failure": FailurePolicy.HOLD, "retry": Retry(attempts=1)}
    job = await telling.submit(telling.job(chunks=1, options=("--exit", "7"), **fields, **told(receiver)))
    await until(job, lambda status: status.phase is JobPhase.HOLDING)
    await job.pause()
    await job.pause(mode=PauseMode.NOW)
    await job.resume()
    await telling.ledger.until_started(2)
    await until(job, lambda status: status.phase is JobPhase.HOLDING)
    await job.cancel(wait=True)
    await reports(telling.client, job.id)

    counts = Counter(receiver.types)
    assert counts["job.held"] == 2
    assert counts["job.paused"] == 1
    assert (counts["job.started"], counts["job.cancelled"]) == (1, 1)


async def test_a_job_that_names_a_receiver_that_is_not_allowed_is_refused_before_it_renders(
    bare: Farm, receiver: WebhookReceiver
) -> None:
    sentence = r"notify\[0\].webhook: http://127.0.0.1:\d+ may not be told by this farm; add it with its secret to LONG"
    async with serving(bare.client, settings_for(bare, receiver, webhooks=SecretStr(""))):
        job = await bare.submit(bare.job(chunks=1, **told(receiver, "failed")))
        with pytest.raises(JobFailedError, match=sentence):
            await job.result()
        (report,) = await reports(bare.client, job.id)
    assert "may not be told" in report.deliveries[0].error
    assert receiver.calls == []
    assert bare.ledger.started == []


async def test_an_address_that_is_not_public_is_not_connected_to(bare: Farm, receiver: WebhookReceiver) -> None:
    """It may become one later, as for a name: the delivery is tried again."""
    async with serving(bare.client, settings_for(bare, receiver, notify_networks=("10.0.0.0/8",))):
        job = await bare.submit(bare.job(chunks=1, **told(receiver, "finished")))
        await until_state(job, JobState.COMPLETED)
        error = await last_error(bare.client, job.id)
    assert "is at 127.0.0.1, which is no public address" in error
    assert "hush" not in error
    assert receiver.calls == []


async def test_no_secret_and_no_url_of_the_farm_is_in_a_history(bare: Farm, receiver: WebhookReceiver) -> None:
    farm_wide = json.dumps([{"webhook": receiver.url, "on": ["started", "failed"]}])
    async with serving(bare.client, settings_for(bare, receiver, notify=SecretStr(farm_wide))):
        job = await bare.submit(bare.job(chunks=1))
        other = await bare.submit(bare.job(chunks=1, chunk_output="other.txt", options=("--exit", "7")))
        refused = await bare.submit(bare.job(chunks=1, base_dir="/nowhere"))
        for each in (job, other, refused):
            await until(each, lambda status: status.state.has_ended)
            await reports(bare.client, each.id)
        ids = [each for one in (job, other, refused) for each in await delivery_ids(bare.client, one.id)]
        texts = [(await bare.client.get_workflow_handle(id).fetch_history()).to_json() for id in (*ids, job.id)]

    assert sorted(receiver.types) == ["job.failed", "job.failed", "job.started", "job.started"]
    for text in texts:
        assert receiver.secret not in text
        assert "hush" not in text


@pytest.mark.slow
async def test_a_worker_that_is_killed_between_a_delivery_and_its_answer_repeats_it_under_the_same_id(
    bare: Farm,
) -> None:
    async with receiving() as receiver:
        environ: dict[str, Any] = {"LONGTAKE_WEBHOOKS": receiver.webhooks, "LONGTAKE_NOTIFY_NETWORKS": "127.0.0.1/32"}
        async with worker_process(bare.address, bare.task_queue, bare.store, **environ) as worker:

            async def kill(connection: Connection) -> None:
                worker.kill()
                await connection.respond(204, b"")

            receiver.answers.append(kill)
            job = await bare.submit(bare.job(chunks=1, **told(receiver, "finished")))
            await until_told(receiver, 1)
            await worker.wait()
        async with worker_process(bare.address, bare.task_queue, bare.store, **environ):
            (report,) = await reports(bare.client, job.id)
    assert report.deliveries[0].tries == 2
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1
    assert receiver.messages[0] == receiver.messages[1]


async def test_events_of_a_job_that_goes_on_in_new_runs_are_told_once(
    telling: Farm, receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_FULL", "_DRAIN", "_REFUSE", "_STOP", "_WORTHWHILE"):
        monkeypatch.setattr(history, name, getattr(history, name) // 20)
    monkeypatch.setattr(scheduling, "SPAN_SECONDS", 0.01)
    job = await telling.submit(telling.job(chunks=60, max_parallel=2, start_paused=True, **told(receiver)))
    await until_state(job, JobState.PAUSED)
    first = (await telling.client.get_workflow_handle(job.id).describe()).run_id
    await job.resume()
    await until_state(job, JobState.COMPLETED)
    await eventually(lambda: len(receiver.calls) >= 3, "all events are told")
    await reports(telling.client, job.id)

    assert (await telling.client.get_workflow_handle(job.id).describe()).run_id != first
    assert sorted(receiver.types) == ["job.finished", "job.paused", "job.started"]


async def test_a_run_tells_of_so_many_events_and_of_its_end(
    telling: Farm, receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without pauses between them, each failed chunk would be an event."""
    monkeypatch.setattr(notifications, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(notifications, "_LONGEST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(notifications, "_MOST_EVENTS_OF_RUN", 4)
    fields: dict[str, Any] = {"on_chunk_failure": FailurePolicy.CONTINUE, "retry": Retry(attempts=1), "max_parallel": 1}
    status = await telling.run(telling.job(chunks=20, options=("--exit", "7"), **fields, **told(receiver)))
    await reports(telling.client, status.id)

    assert len(receiver.calls) == 5
    assert receiver.types.count("job.failed") == 1


async def test_a_receiver_with_tls_is_told_where_its_certificate_is_trusted(
    bare: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = known_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)
    async with receiving(tls=tls) as receiver:
        url = f"https://127.0.0.1:{receiver.port}"
        allowed = settings_for(bare, receiver, webhooks=SecretStr(f"{url}={receiver.secret}"))
        webhook._ssl_context.cache_clear()
        async with serving(bare.client, allowed):
            job = await bare.submit(bare.job(chunks=1, notify=(Receiver(webhook=url, on=("finished",)),)))
            await until_state(job, JobState.COMPLETED)
            error = await last_error(bare.client, job.id)
            assert "its certificate is not to be trusted" in error
            assert receiver.calls == []
            monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
            webhook._ssl_context.cache_clear()
            await reports(bare.client, job.id)
        webhook._ssl_context.cache_clear()
    assert receiver.types == ["job.finished"]
