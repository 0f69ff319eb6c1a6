"""Jobs behind a codec: nobody without the key reads them, and everybody who lacks it is told so in a sentence."""

import asyncio
import base64
import json
import os
import secrets
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from support.command_line import command_line
from support.farm import Farm, serving, until, until_state, worker_settings
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer

from longtake import JobFailedError, JobState, PauseMode, RenderClient, Retry, UndecodedPayloadError
from longtake.connection import connect
from longtake.data_converter import data_converter
from workflows.render_job import RenderJob

pytestmark = pytest.mark.integration

SECRET = "hunter2-is-in-env"
ROOT = Path(__file__).parents[2]


def make_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


OLD, NEW = f"old={make_key()}", f"new={make_key()}"


def settings(*keys: str) -> dict[str, str]:
    return {"LONGTAKE_CODEC": "longtake.encryption:aes_gcm", "LONGTAKE_CODEC_KEYS": ",".join(keys)} if keys else {}


async def connect_with(address: str, *keys: str) -> Client:
    """Connect with these keys, as a process with such an environment does; without keys, with no codec."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings(*keys).items():
            patch.setenv(name, value)
        return await connect(address=address)


def render_with(client: Client, farm: Farm) -> RenderClient:
    return RenderClient(client, task_queue=farm.task_queue)


async def farm_with(server: str, store: Path, *keys: str) -> Farm:
    """A farm whose clients and workers have these keys."""
    client, task_queue = await connect_with(server, *keys), f"test-{uuid.uuid4().hex[:12]}"
    return Farm(server, task_queue, client, RenderClient(client, task_queue=task_queue), store)


@asynccontextmanager
async def workers(farm: Farm, client: Client | None = None) -> AsyncIterator[None]:
    async with serving(client or farm.client, worker_settings(farm.task_queue, farm.store, slots=2)):
        yield


@pytest_asyncio.fixture
async def sealed(server: str, store: Path) -> AsyncIterator[Farm]:
    """A farm with a codec."""
    farm = await farm_with(server, store, NEW)
    async with workers(farm):
        yield farm


async def kept_by_temporal(farm: Farm, job_id: str) -> bytes:
    """Return all that Temporal keeps of a job and hands out to anybody."""
    handle = farm.client.get_workflow_handle(job_id)
    events = (await handle.fetch_history()).events
    description = (await handle.describe()).raw_description
    return b"".join(message.SerializeToString() for message in (*events, description))


async def test_nothing_of_a_job_can_be_read_while_it_runs_and_when_it_has_failed(sealed: Farm) -> None:
    failing = ("sh", "-c", 'echo "token $TOKEN" && [ $0 != a0 ]', "a{chunk}", "{output}")
    other = await sealed.started(chunks=1, running=1, env={"TOKEN": SECRET})
    await other.pause(mode=PauseMode.FREEZE, wait=True)
    retry = Retry(attempts=2, initial_seconds=0)
    job = await sealed.submit(sealed.job(chunks=1, command=failing, env={"TOKEN": SECRET}, retry=retry))
    with pytest.raises(JobFailedError, match=f"exited with code 1: token {SECRET}"):
        await job.result()

    # A frozen chunk has a heartbeat, a failed one its reason, and both are read by the client as ever.
    (running, *_) = (await other.status()).running
    assert running.frozen
    assert running.host
    assert SECRET in ((await job.status()).error or "")
    assert (await job.document())["env"] == {"TOKEN": SECRET}
    for job_id in (other.id, job.id):
        kept = await kept_by_temporal(sealed, job_id)
        for plain in (SECRET.encode(), b"TOKEN", str(sealed.store).encode(), b"base_dir", b"completed_chunks"):
            assert plain not in kept, plain
    await other.resume()
    sealed.open_gate()
    await until_state(other, JobState.COMPLETED)
    assert SECRET.encode() not in await kept_by_temporal(sealed, other.id)


async def test_a_failed_try_tells_its_reason_to_whoever_has_the_key(sealed: Farm) -> None:
    failing = ("sh", "-c", 'echo "token $TOKEN" && exit 1', "{output}")
    retry = Retry(attempts=2, initial_seconds=60)
    job = await sealed.submit(sealed.job(chunks=1, command=failing, env={"TOKEN": SECRET}, retry=retry))

    status = await until(job, lambda status: any(chunk.waiting and chunk.error for chunk in status.running))
    assert f"token {SECRET}" in status.running[0].error
    assert SECRET.encode() not in await kept_by_temporal(sealed, job.id)
    await job.cancel(wait=True)


async def test_the_history_of_a_job_replays_with_the_key_alone(sealed: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await sealed.submit(sealed.job(chunks=2))
    await job.result()
    history: WorkflowHistory = await sealed.client.get_workflow_handle(job.id).fetch_history()

    with pytest.raises(Exception, match=r"."):
        await Replayer(workflows=[RenderJob], data_converter=data_converter()).replay_workflow(history)
    for name, value in settings(NEW).items():
        monkeypatch.setenv(name, value)
    await Replayer(workflows=[RenderJob], data_converter=data_converter()).replay_workflow(history)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (
            (),
            "is encrypted with the key 'new', and no codec is set here; set LONGTAKE_CODEC=",
        ),
        ((OLD,), "is encrypted with the key 'new', and LONGTAKE_CODEC_KEYS here has old; add that key"),
        ((f"new={make_key()}",), "is not decrypted by the key new of LONGTAKE_CODEC_KEYS"),
    ],
    ids=["no codec", "another key", "another key of the same id"],
)
async def test_a_client_without_the_key_is_told_which_and_a_list_shows_all_rows(
    sealed: Farm, keys: tuple[str, ...], why: str
) -> None:
    job = await sealed.started(chunks=2)
    client = await connect_with(sealed.address, *keys)
    stranger = render_with(client, sealed).job(job.id)

    for ask in (stranger.status, stranger.document):
        with pytest.raises(UndecodedPayloadError, match=why):
            await ask()
    async with asyncio.timeout(30):
        while True:
            listed = {row.id: row for row in await render_with(client, sealed).list()}
            if job.id in listed and listed[job.id].state is JobState.RUNNING:
                break
    assert why in (listed[job.id].error or "")
    sealed.open_gate()
    await until_state(job, JobState.COMPLETED)
    with pytest.raises(UndecodedPayloadError, match=f"a value of this job {why[:20]}"):
        await stranger.result()


@pytest.mark.parametrize("keys", [(), (OLD,)], ids=["no codec", "another key"])
async def test_a_job_for_workers_without_the_key_ends_with_a_sentence(
    server: str, store: Path, keys: tuple[str, ...]
) -> None:
    farm = await farm_with(server, store, *keys)
    client = await connect_with(server, NEW)
    async with workers(farm), asyncio.timeout(30):
        job = await render_with(client, farm).submit(farm.job(chunks=1), id=f"job-{uuid.uuid4().hex[:12]}")
        with pytest.raises(JobFailedError) as failed:
            await farm.render.job(job.id).result()

    said = str(failed.value)
    assert said.startswith("job: the input cannot be read by its worker: it is encrypted with the key 'new', and ")
    assert ("LONGTAKE_CODEC_KEYS here has old; add that key" if keys else "set LONGTAKE_CODEC=") in said
    assert "\n" not in said


async def test_a_job_of_a_client_without_a_codec_renders_and_its_answers_name_the_key(sealed: Farm) -> None:
    stranger = render_with(await connect_with(sealed.address), sealed)

    job = await stranger.submit(sealed.job(chunks=1), id=f"job-{uuid.uuid4().hex[:12]}")
    with pytest.raises(UndecodedPayloadError, match="is encrypted with the key 'new', and no codec is set here"):
        await job.result()
    assert (await sealed.render.job(job.id).status()).completed_chunks == 1


async def test_a_job_from_before_the_codec_and_one_from_before_the_rotation_go_on(server: str, store: Path) -> None:
    plain = await farm_with(server, store)
    old, new = await connect_with(server, OLD), await connect_with(server, NEW, OLD)
    async with workers(plain):
        job = await plain.started(chunks=3, running=1)
    async with workers(plain, old):
        await plain.ledger.until_started(2)
        assert (await render_with(old, plain).job(job.id).status()).state is JobState.RUNNING
    plain.open_gate()
    async with workers(plain, new):
        status = await until_state(render_with(new, plain).job(job.id), JobState.COMPLETED)
    assert status.completed_chunks == 3

    kept = await kept_by_temporal(plain, job.id)
    assert b'"base_dir"' in kept, "the input was written before the codec"
    assert b"encryption-key-id\x12\x03new" in kept


@asynccontextmanager
async def codec_server(environ: Mapping[str, str]) -> AsyncIterator[str]:
    """Run `longtake codec-server`; yield its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "longtake", "codec-server", "--port", "0"),
        env={**os.environ, **environ, "PYTHONPATH": str(ROOT / "client")},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
        assert line.startswith("codec server at http://127.0.0.1:"), line
        yield line.split()[3]
    finally:
        process.kill()
        await process.wait()


async def test_the_temporal_command_shows_jobs_through_the_codec_server(sealed: Farm, temporal_program: Path) -> None:
    job = await sealed.submit(sealed.job(chunks=1, env={"TOKEN": SECRET}))
    await job.result()

    async def temporal(*words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(str(temporal_program), "workflow", *words, "--workflow-id", job.id, "--output", "json"),
            *("--address", sealed.address),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    async with codec_server(settings(NEW)) as url:
        endpoint = ("--codec-endpoint", url)
        shown, described = await temporal("show", *endpoint), await temporal("describe", *endpoint)
    hidden = await temporal("show") + await temporal("describe")

    (started, *_) = json.loads(shown)["events"]
    (payload,) = started["workflowExecutionStartedEventAttributes"]["input"]["payloads"]
    document = json.loads(base64.b64decode(payload["data"]))
    assert document["env"] == {"TOKEN": SECRET}
    assert document["base_dir"] == str(sealed.store)
    assert "completed_chunks" in described
    for plain in (SECRET, base64.b64encode(SECRET.encode()).decode()[:16], str(sealed.store), "completed_chunks"):
        assert plain not in hidden


async def test_top_shows_the_farm_where_a_running_job_needs_a_key_that_is_not_here(sealed: Farm) -> None:
    hidden = await sealed.started(chunks=1, running=1)
    async with command_line(sealed) as cli:
        await cli.until_listed(hidden.id, "--state", "running")
        ran = await cli("top")
    sealed.open_gate()
    await until_state(hidden, JobState.COMPLETED)

    assert ran.code == 0, ran.err
    assert hidden.id[:12] in ran.out
    assert "HOST" in ran.out
