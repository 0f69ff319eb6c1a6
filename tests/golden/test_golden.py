"""Golden files: what the command line, the wire and the store said before, they say now.

A difference is a broken promise to scripts, to running jobs or to stored ones, unless it is meant; then
`LONGTAKE_RECORD_GOLDEN=1 .venv/bin/python -m pytest tests/golden` writes the files anew, the difference is read in the
diff, and the changelog speaks of it.

    help.json       the help of every command
    offline.json    calls that need no server, or do not find one: answers, messages and exit codes
    jobs.json       calls about jobs of every state
    pending.json    calls about a job that no worker takes
    messages.json   what clients, the workflow and activities have told each other, as Temporal kept it
    contract.json   names and schemas of workflows, activities, signals, queries and updates
    store.json      the records of these jobs in their store
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from difflib import unified_diff
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from support.farm import Farm, serving, until, workers_of
from support.golden import ROOT, Calls, Normal, messages, names_and_messages, records, schema
from support.remote.agent_farm import Services, services
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest

import devserver
from longtake import FrameRange, JobState, JobStatus, PauseMode, RenderClient, RenderJobSpec, Retry
from longtake.connection import connect
from longtake.handle import user_identity
from longtake.models.backends import BackendKind
from ports import LOOPBACK, find_free_port

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parent
FILES = ("help", "offline", "jobs", "pending", "messages", "contract", "store")
ABOUT_A_JOB = ("watch", "pause", "resume", "cancel", "retry", "status", "logs", "fetch")
COMMANDS = ("plan", "submit", "film", "list", "doctor", "skip", "delete", *ABOUT_A_JOB)

# Their messages do not depend on how fast anything is.
STEADY = ("film", "frames", "failing", "holding", "refused", "service")

FFMPEG = "ffmpeg -nostdin -v error -f lavfi -i testsrc2=s=32x32:r=25 -frames:v {count} -c:v libx264 {output}"


class Scene:
    """A farm of its own, and the calls that are made about its jobs."""

    def __init__(self, farm: Farm, running: Services, base: Path) -> None:
        self.farm = farm
        self.running = running
        self.base = base
        self.normal = Normal(
            {
                str(base): "<base>",
                str(ROOT): "<root>",
                sys.executable: "<python>",
                f"longtake {version('longtake')}": "longtake <version>",
                farm.address: "<address>",
                user_identity(): "<user>",
                running.service.url if running.service else "": "<lambda>",
            }
        )
        (base / "bin").mkdir()
        self.offline = Calls(base, "127.0.0.1:9", self.normal)
        self.jobs = Calls(base, farm.address, self.normal)
        self.pending = Calls(base, farm.address, self.normal)
        self.found: dict[str, Any] = {}

    def write(self, file: str, **fields: Any) -> str:
        """Write a job file as a person would, with outputs in a folder of its own."""
        fields = {"chunk_output": f"{Path(file).stem}/{{chunk:06}}.txt", **fields}
        document = self.farm.job(**fields).to_wire()
        del document["contract"]
        (self.base / file).write_text(json.dumps(document))
        return file

    def film(self) -> dict[str, Any]:
        return {
            "frames": FrameRange(count=4, per_chunk=2),
            "fps": 25,
            "command": tuple(FFMPEG.split()),
            "chunk_output": "film/{chunk:06}.mp4",
            "output": "film.mp4",
            "max_parallel": 1,
        }

    def frames(self) -> dict[str, Any]:
        shutil.copy(ROOT / "tests" / "old_stores" / "scripts" / "frames.sh", self.farm.store)
        return {
            "frames": FrameRange(count=4, per_chunk=2),
            "fps": 25,
            "command": ("sh", "frames.sh", "{output}", "{start}", "{count}", "0", "/"),
            "chunk_output": "frames/f_{frame:04}.bmp",
            "output": "frames.mp4",
            "inputs": ("frames.sh",),
            # They are there a moment later on a loaded machine.
            "pictures": "none",
            "max_parallel": 1,
        }

    async def status(self, id: str, reached: Callable[[JobStatus], bool]) -> JobStatus:
        return await until(self.farm.render.job(id), reached)

    async def take_offline(self) -> None:
        """Call what needs no server; and what needs one and does not find it."""
        self.write("good.json", **self.film())
        (self.base / "typo.yaml").write_text("frames: {count: 4}\ncomand: [render]\n")
        (self.base / "no.yaml").write_text("frames: [\n")
        shutil.copy(ROOT / "examples" / "helios" / "job.json", self.base / "helios.json")
        await self.offline(
            "--version",
            "plan good.json --json",
            "plan good.json",
            "plan good.json --json --set backend=lambda --chunk-seconds 90",
            "plan good.json --set backend=lambda --chunk-seconds 90",
            "plan good.json --json --set backend=cloud_run --chunk-seconds 9000",
            "plan good.json --json --set store=s3://bucket/shows",
            "plan helios.json --json",
            "plan good.json --chunk-seconds 90",
            "plan absent.yaml --json",
            "plan typo.yaml --json",
            "plan no.yaml",
            "plan good.json --set fps=nonsense",
            "plan good.json --set nonsense",
            "plan",
            "nonsense",
            "status",
            "status --nonsense",
            "pause film --mode nonsense",
            "status .nonsense",
            "logs film --attempt 2",
            "retry film --chunk nonsense",
            "delete",
            "submit good.json --id .nonsense",
            "submit typo.yaml",
            "submit good.json",
            "skip film --chunk 1",
            "delete film --yes",
            "list --json",
            "doctor --json",
            *(f"{command} film" for command in ABOUT_A_JOB),
        )
        self.found["help"] = await self.offline.texts("--help", *(f"{command} --help" for command in COMMANDS))

    async def take_first(self) -> None:
        """Call about jobs that are not there, while none is; and submit the first."""
        await self.jobs(
            "list --json; nothing is there",
            "list; nothing is there",
            "skip unknown --chunk 1",
            "delete unknown --yes",
            *(f"{command} unknown" for command in ABOUT_A_JOB),
            "status unknown --json",
        )
        self.write("pending.json", name="pending")
        await self.pending("submit pending.json --id pending --task-queue nobody")

    async def take_jobs(self) -> None:
        """Call every command about jobs of every state."""
        await self._of_a_film()
        await self._of_failing_jobs()
        await self._of_a_job_under_way()
        await self._of_a_service()

    async def take_pending(self) -> None:
        """Call about a job without workers; each call waits for a while whether there is one."""
        await self.pending(
            "status pending --json",
            "status pending",
            "logs pending",
            "delete pending --yes",
            "cancel pending --json",
        )

    async def _of_a_film(self) -> None:
        self.write("film.json", **self.film(), name="film")
        self.write("other.json", **self.film(), name="film", env={"A": "1"})
        self.write("frames.json", **self.frames(), name="frames")
        await self.jobs("submit film.json --id film --watch", "watch film --json", "watch film", last_line_only=True)
        await self.jobs(
            "submit frames.json --id frames",
            "status film --json",
            "status film",
            "submit film.json --id film; again",
            "submit other.json --id film",
            "logs film",
            "logs film --chunk 9",
            "pause film --json; too late",
            "pause film; too late",
            "resume film --json; too late",
            "cancel film --wait --json; too late",
            "retry film --json; too late",
            "retry film; too late",
            "skip film --chunk 1 --json; too late",
            "fetch film home",
            "fetch film home; again",
            "fetch film home-film --film-only",
        )
        await self.status("frames", lambda status: status.state is JobState.COMPLETED)
        self.found["store"] = records(self.farm.store, self.normal)
        await self.jobs(
            "logs frames --chunk 1",
            "delete film; nobody to be asked",
            "delete film --yes",
            "delete film --yes; again",
            "fetch film home; deleted",
        )

    async def _of_failing_jobs(self) -> None:
        bad = {"options": ("--exit", "7", "--say", "no ink", "--only", "1"), "chunks": 3, "max_parallel": 1}
        again = {"retry": Retry(attempts=2, initial_seconds=0.01)}
        self.write("failing.json", **bad, **again, name="failing")
        self.write("holding.json", **bad, name="holding", on_chunk_failure="hold")
        self.write("refused.json", name="refused", base_dir="/nowhere")
        await self.jobs("submit failing.json --id failing --watch", "submit refused.json --id refused --watch",
                        "watch failing --json", "watch failing", last_line_only=True)  # fmt: skip
        await self.jobs(
            "submit holding.json --id holding",
            "status failing --json",
            "status failing",
            "status refused --json",
            "logs failing --chunk 1",
            "logs failing --chunk 1 --attempt 2",
            "logs failing --chunk 1 --attempt 9",
            "logs refused",
            "delete refused --yes",
        )
        await self.jobs("retry failing --watch --json", last_line_only=True)
        await self.status("holding", lambda status: status.phase == "holding")
        self.found["store"] |= records(self.farm.store, self.normal)
        await self.jobs(
            "status holding --json",
            "status holding",
            "pause holding --json",
            "retry holding --chunk 2",
            "skip holding --chunk 99",
            "skip holding --chunk 1 --json",
            "resume holding",
        )
        await self.status("holding", lambda status: status.state is JobState.COMPLETED)
        await self.jobs("status holding --json; completed", "skip holding --chunk 1; too late")

    async def _of_a_job_under_way(self) -> None:
        self.write("waiting.json", name="waiting", chunks=3, max_parallel=2, options=("--gate", str(self.farm.gate)))
        await self.jobs("submit waiting.json --id waiting")
        job = self.farm.render.job("waiting")
        await self._until_running()
        self.found["heartbeat"] = await self._heartbeat()
        await self.jobs("status waiting --json", "status waiting", "delete waiting --yes; running", "pause waiting")
        await self.jobs("pause waiting --json; again", "resume waiting")
        assert (await job.pause(mode=PauseMode.DRAIN)).pause_mode is PauseMode.DRAIN
        await self.jobs("resume waiting --json")
        await self._until_running()
        await self.jobs("pause waiting --mode freeze --wait --json", "status waiting; frozen")
        # What it answers depends on whether the processes have told yet that they go on.
        assert (await job.resume()).pause_mode is None
        await self._until_running()
        await self.jobs("pause waiting --mode now --wait", "status waiting --json; paused")
        assert await job.set_max_parallel(1) == 1
        assert (await job.pause(mode=PauseMode.DRAIN)).state is JobState.PAUSED
        await self.jobs("retry waiting --chunk 0", "skip waiting --chunk 2 --json", "cancel waiting --wait --json")
        await self.jobs("watch waiting", "watch waiting --json", last_line_only=True)
        await self.jobs("cancel waiting --wait; again", "resume waiting; too late")

    async def _of_a_service(self) -> None:
        fields = {"chunk_output": "service/f_{frame:04}.bmp", "output": "service.mp4"}
        self.write("service.json", **self.frames() | fields, name="service", backend="lambda")
        await self.jobs("submit service.json --id service")
        await self.status("service", lambda status: status.state is JobState.COMPLETED)
        await self.jobs("status service --json", "status service")
        self.found["store"] |= records(self.farm.store, self.normal)

    async def take_all_jobs(self) -> None:
        """Call about all jobs, which have ended."""
        # The list is in the order of their ends.
        await self.farm.client.get_workflow_handle("pending").terminate()
        names = {"film", "frames", "failing", "refused", "holding", "waiting", "pending", "service"}
        ended: set[str] = set()
        async with asyncio.timeout(60):
            while ended != names:
                ended = {job.id for job in await self.farm.render.list() if job.state.has_ended}
        await self.jobs(
            "list --json",
            "list",
            "list --state failed --json",
            "list --limit 1 --json",
            "list --state paused",
            "doctor --json",
        )

    async def _until_running(self) -> None:
        """Return when both renderers run and have been measured."""
        await self.status(
            "waiting",
            lambda status: (
                status.phase == "rendering"
                and len(status.running) == 2
                and all(one.cpu_seconds and one.memory_bytes and not one.frozen for one in status.running)
            ),
        )

    async def _heartbeat(self) -> Any:
        """Return the heartbeat of a render, as Temporal keeps it."""
        request = DescribeWorkflowExecutionRequest(namespace="default")
        request.execution.workflow_id = "waiting"
        answer = await self.farm.client.workflow_service.describe_workflow_execution(request)
        beats = [json.loads(one.data) for task in answer.pending_activities for one in task.heartbeat_details.payloads]
        return self.normal.message(min(beats, key=lambda beat: int(beat["chunk"])))

    async def take_messages(self) -> None:
        """Look at what Temporal has kept of the jobs, and at what workers offer."""
        found: dict[str, Any] = {"heartbeat": self.found.pop("heartbeat")}
        for id in STEADY:
            handle = self.farm.client.get_workflow_handle(id)
            found[id] = messages(await handle.fetch_history(), self.normal)
        steered = messages(await self.farm.client.get_workflow_handle("waiting").fetch_history(), self.normal)
        found["waiting"] = [one for one in steered if "Signaled" in one["event"] or "Update" in one["event"]]
        described = await self.farm.client.get_workflow_handle("failing").describe()
        found["memo of failing"] = self.normal.message(dict(sorted((await described.memo()).items())))
        attributes = described.typed_search_attributes
        found["search attributes of failing"] = {pair.key.name: str(pair.value) for pair in sorted(
            attributes, key=lambda pair: pair.key.name) if pair.key.name.startswith("Longtake")}  # fmt: skip
        assert self.running.service is not None
        call = self.running.service.invocations[0]
        order = json.loads(call.payload["order"])
        found["call of a service"] = self.normal.message(
            {"payload": call.payload | {"order": order, "signature": "<signature>"}, "answer": json.loads(call.answer)}
        )
        self.found["messages"] = found
        # Of another queue: this process serves that of the jobs already.
        offered = self.running.settings(self.farm).model_copy(update={"task_queue": "queue"})
        self.found["contract"] = {
            **names_and_messages(workers_of(self.farm.client, offered)),
            "job": schema(RenderJobSpec),
            "status": schema(JobStatus),
        }

    def result(self) -> dict[str, Any]:
        calls = {"offline": self.offline, "jobs": self.jobs, "pending": self.pending}
        return self.found | {name: made.answers for name, made in calls.items()}


async def look(temporal_program: Path, base: Path) -> dict[str, Any]:
    """Return what this version says: by the names of golden files, then of their entries."""
    store = base / "store"
    store.mkdir()
    async with AsyncExitStack() as stack:
        # Of its own, because a list tells of all jobs of a namespace.
        server = await devserver.start_dev_server(
            temporal_program,
            database=None,
            address=f"{LOOPBACK}:{find_free_port()}",
            ui_port=None,
            log=base / "temporal.log",
            on_message=lambda _: None,
        )
        stack.push_async_callback(server.stop)
        client = await connect(address=server.address)
        farm = Farm(server.address, "longtake", client, RenderClient(client), store)
        running = await stack.enter_async_context(services(BackendKind.LAMBDA, (str(store),), base))
        await stack.enter_async_context(serving(client, running.settings(farm, host="render-host")))
        scene = Scene(farm, running, base)
        for calls in (scene.offline, scene.jobs, scene.pending):
            await stack.enter_async_context(calls)
        await scene.take_first()
        await asyncio.gather(scene.take_offline(), scene.take_jobs(), scene.take_pending())
        await scene.take_all_jobs()
        await scene.take_messages()
        return scene.result()


# One test, because one look takes as long as a hundred.
async def test_what_was_said_before_is_said_now(temporal_program: Path, tmp_path: Path) -> None:
    found = await look(temporal_program, tmp_path)

    # As text, because the order of keys is part of what is promised.
    now = {name: json.dumps(found[name], indent=1) + "\n" for name in FILES}
    if os.environ.get("LONGTAKE_RECORD_GOLDEN"):
        for name in FILES:
            (FOLDER / f"{name}.json").write_text(now[name])

    differences: list[str] = []
    for name in FILES:
        before = (FOLDER / f"{name}.json").read_text()
        differences += unified_diff(
            before.splitlines(), now[name].splitlines(), f"{name}.json", "now", n=12, lineterm=""
        )

    assert not differences, "\n".join(["something is said in another way:", *differences])
