"""What a worker knows and renders must not: nowhere in a render, its logs, the job's errors or its history."""

import base64

import pytest
from support.farm import Farm
from support.processes.workers import worker_program

from longtake import JobFailedError, JobState, RenderClient
from longtake.connection import connect

pytestmark = pytest.mark.integration

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIA-the-first-secret",
    "AWS_SECRET_ACCESS_KEY": "the-second-secret",
    "AWS_SESSION_TOKEN": "the-third-secret",
    "TEMPORAL_GRPC_META_AUTHORIZATION": "the-fourth-secret",
    "DATABASE_URL": "postgres://user:the-fifth-secret@host",
}

# All that a render can see of those above it: its own environment, and that of its parents up to its worker.
LOOK_AROUND = """
env
worker=$(echo "$LONGTAKE_WORKER" | cut -d/ -f3)
pid=$PPID
while [ "$pid" -gt 1 ]; do
  tr '\\0' '\\n' < /proc/$pid/environ
  echo "looked at $pid"
  if [ "$pid" = "$worker" ]; then echo "reached the worker"; break; fi
  pid=$(cut -d' ' -f4 /proc/$pid/stat)
done
exit 3
"""


async def test_no_secret_of_the_worker_leaves_it(bare: Farm) -> None:
    async with worker_program(bare.address, bare.task_queue, bare.store, slots=2, **SECRETS) as worker:
        job = await bare.submit(bare.job(chunks=1, command=("sh", "-c", LOOK_AROUND, "sh", "{output}")))
        with pytest.raises(Exception, match="exited with code 3") as failure:
            await job.result()

    status = await job.status()
    assert status.state is JobState.FAILED
    history = (await bare.client.get_workflow_handle(job.id).fetch_history()).to_json()
    logs = "".join(path.read_text() for path in (bare.store / ".longtake" / job.id / "logs").iterdir())
    assert "LONGTAKE_ATTEMPT=" in logs
    assert logs.count("looked at") >= 3, "keeper, supervisor and worker"
    assert "reached the worker" in logs
    for name, secret in SECRETS.items():
        for place in (logs, history, worker.log, f"{failure.value}", status.model_dump_json()):
            assert secret not in place, name
            assert name not in place
    kept = [path for path in (bare.store / ".longtake").rglob("*") if path.is_file()]
    assert not [path for path in kept for secret in SECRETS.values() if secret in path.read_text(errors="replace")]


async def test_the_keys_of_the_codec_stay_with_the_worker(bare: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    codec = {"LONGTAKE_CODEC": "longtake.encryption:aes_gcm", "LONGTAKE_CODEC_KEYS": f"first={key}"}
    for name, value in codec.items():
        monkeypatch.setenv(name, value)
    client = await connect(address=bare.address)
    farm = Farm(bare.address, bare.task_queue, client, RenderClient(client, task_queue=bare.task_queue), bare.store)
    async with worker_program(farm.address, farm.task_queue, farm.store, slots=2, **codec) as worker:
        job = await farm.submit(farm.job(chunks=1, command=("sh", "-c", LOOK_AROUND, "sh", "{output}")))
        with pytest.raises(JobFailedError, match="exited with code 3"):
            await job.result()

    logs = "".join(path.read_text() for path in (farm.store / ".longtake" / job.id / "logs").iterdir())
    assert "reached the worker" in logs
    for place in (logs, worker.log, (await job.status()).model_dump_json()):
        assert key not in place
        assert "LONGTAKE_CODEC_KEYS" not in place
