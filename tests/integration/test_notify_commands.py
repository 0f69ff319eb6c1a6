"""Commands are run with an event as renders are run: supervised, without secrets, again until they end well."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from support.farm import Farm, alive, eventually, serving, until_state, worker_settings
from support.servers.receiver import make_secret, reports

from activities.notify import command
from longtake import JobFailedError, JobState
from longtake.models.notify import Receiver
from longtake.models.policies import Timeouts

pytestmark = pytest.mark.integration


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A program that keeps what it was given, and fails the first time."""
    path = tmp_path / "tell.sh"
    path.write_text(
        '#!/bin/sh\ncat >> "$1.stdin"; env > "$1.env"; pwd > "$1.folder"\n'
        '[ -e "$1.tried" ] || { touch "$1.tried"; echo no luck; exit 3; }\n: > "$1.done"\n'
    )
    path.chmod(0o755)
    return path


def notify(*command: str) -> dict[str, Any]:
    return {"notify": (Receiver(command=command, on=("finished", "failed")),)}


async def test_a_command_gets_the_event_and_is_run_until_it_ends_well(bare: Farm, script: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    secret = make_secret()
    settings = worker_settings(bare.task_queue, bare.store, slots=1).model_copy(
        update={
            "notify_commands": (str(script),),
            "webhooks": SecretStr(f"https://example.com={secret}"),
            "scratch": tmp_path / "scratch",
        }
    )
    async with serving(bare.client, settings):
        job = await bare.submit(bare.job(chunks=1, **notify(str(script), str(told))))
        await until_state(job, JobState.COMPLETED)
        (report,) = await reports(bare.client, job.id)

    assert report.deliveries[0].tries == 2
    texts = told.with_suffix(".stdin").read_text()
    first, second = texts[: len(texts) // 2], texts[len(texts) // 2 :]
    assert first == second, "it is the same at each try"
    message = json.loads(first)
    assert message["type"] == "job.finished"
    assert message["data"]["job"]["id"] == job.id
    environ = told.with_suffix(".env").read_text()
    assert "LONGTAKE_EVENT=finished\n" in environ
    assert f"LONGTAKE_MESSAGE={first}\n" in environ
    assert "LONGTAKE_MESSAGE_ID=msg_" in environ
    assert f"LONGTAKE_SEQUENCE={message['sequence']}\n" in environ
    assert secret not in environ
    assert told.with_suffix(".folder").read_text().startswith(str(tmp_path / "scratch" / "notify-"))
    assert not list((tmp_path / "scratch").glob("notify-*"))


async def test_a_command_that_hangs_is_ended_with_all_that_it_has_started(
    bare: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_TIMEOUTS", Timeouts(chunk_seconds=1, stall_seconds=60, grace_seconds=0.2))
    pids = tmp_path / "pids"
    script = f"sleep 300 & echo $! $$ > {pids}; wait"
    settings = worker_settings(bare.task_queue, bare.store, slots=1).model_copy(update={"notify_commands": ("sh",)})
    async with serving(bare.client, settings):
        job = await bare.submit(bare.job(chunks=1, **notify("sh", "-c", script)))
        await until_state(job, JobState.COMPLETED)
        await eventually(lambda: pids.exists() and bool(pids.read_text().strip()), "the command runs")
        started = [int(pid) for pid in pids.read_text().split()]
        await eventually(lambda: not any(map(alive, started)), "it was ended, and what it has started")


@pytest.mark.parametrize("program", [sys.executable, "curl"])
async def test_no_command_runs_that_the_farm_does_not_name(bare: Farm, program: str) -> None:
    """Although its jobs may run any: what may render is another question."""
    settings = worker_settings(bare.task_queue, bare.store, slots=1).model_copy(update={"notify_commands": ("sh",)})
    async with serving(bare.client, settings):
        job = await bare.submit(bare.job(chunks=1, **notify(program, "-c", "1")))
        with pytest.raises(JobFailedError, match=r"notify\[0\].command: .* may not run for notifications"):
            await job.result()
