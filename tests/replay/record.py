"""Records the histories that replay tests run against: real jobs on a real server, by `make record-histories`.

Record anew only after a change that is meant to break old jobs, and say so in the changelog: what stands here is what
is running in the field. Names of histories as arguments record only those.
"""

import asyncio
import base64
import json
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Collection
from contextlib import AsyncExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from pydantic import SecretStr  # noqa: E402
from support.farm import Farm, serving, until, until_state  # noqa: E402
from support.remote.agent_farm import services  # noqa: E402

import devserver  # noqa: E402  # the checkout's root is not on the path of a script that lies elsewhere
from longtake import FrameRange, JobHandle, JobState, RenderClient, RenderJobSpec, Retry  # noqa: E402
from longtake.connection import connect  # noqa: E402
from longtake.models.backends import BackendKind  # noqa: E402
from longtake.models.notify import JobEvent  # noqa: E402
from longtake.models.policies import FailurePolicy  # noqa: E402
from longtake.models.status import JobPhase, PauseMode  # noqa: E402
from longtake.names import RENDER_JOB_WORKFLOW  # noqa: E402
from ports import find_free_port  # noqa: E402

HISTORIES = Path(__file__).with_name("histories")


def job(farm: Farm, script: str, **fields: object) -> RenderJobSpec:
    """Return a job of six chunks; the script sees its chunk as $1 and its output as $2."""
    return RenderJobSpec.model_validate(
        {
            "name": "recorded",
            "frames": FrameRange(count=60, per_chunk=10),
            "command": ("sh", "-c", script, "sh", "{chunk}", "{output}"),
            "chunk_output": "{chunk:06}.txt",
            "base_dir": str(farm.store),
            "max_parallel": 2,
            "retry": Retry(attempts=2, initial_seconds=0.05),
            **fields,
        }
    )


def waiting(farm: Farm) -> str:
    return f'until [ -e {farm.gate} ]; do sleep 0.02; done; echo "$1" > "$2"'


async def completed(farm: Farm) -> JobHandle:
    handle = await farm.submit(job(farm, 'echo "$1" > "$2"'))
    await until_state(handle, JobState.COMPLETED)
    return handle


async def paused_until_idle(farm: Farm, handle: JobHandle) -> JobHandle:
    await handle.pause()
    farm.open_gate()
    await until_state(handle, JobState.PAUSED)
    await handle.resume()
    await until_state(handle, JobState.COMPLETED)
    return handle


async def paused_and_resumed(farm: Farm) -> JobHandle:
    handle = await farm.submit(job(farm, waiting(farm)))
    await until(handle, lambda status: status.running_chunks == 2)
    await handle.pause()
    await handle.resume()
    await handle.set_max_parallel(4)
    return await paused_until_idle(farm, handle)


async def cancelled(farm: Farm) -> JobHandle:
    handle = await farm.submit(job(farm, waiting(farm)))
    await until(handle, lambda status: status.running_chunks == 2)
    await handle.cancel(wait=True)
    return handle


async def told(farm: Farm) -> JobHandle:
    """Its receiver is away, and the job goes on all the same."""
    fields = {"on_chunk_failure": FailurePolicy.CONTINUE, "retry": Retry(attempts=1)}
    everything = [{"webhook": "https://hooks.invalid/job", "on": [event.value for event in JobEvent]}]
    script = '[ "$1" -lt 3 ] || exit 7; echo "$1" > "$2"'
    handle = await farm.submit(job(farm, script, notify=everything, start_paused=True, **fields))
    await until_state(handle, JobState.PAUSED)
    await handle.resume()
    await until_state(handle, JobState.FAILED)
    return handle


async def reported(farm: Farm) -> JobHandle:
    handle = await farm.submit(job(farm, 'echo "$1" > "$2"', report=True))
    await until_state(handle, JobState.COMPLETED)
    return handle


async def report_lost(farm: Farm) -> JobHandle:
    """What stands in the place of its report is no file."""
    handle = await farm.submit(job(farm, '[ "$1" != 3 ] || exit 7; echo "$1" > "$2"', report=True, start_paused=True))
    await until_state(handle, JobState.PAUSED)
    (farm.store / ".longtake" / handle.id / "report.html").mkdir()
    await handle.resume()
    await until_state(handle, JobState.FAILED)
    return handle


async def failed(farm: Farm) -> JobHandle:
    handle = await farm.submit(job(farm, '[ "$1" != 3 ] || exit 7; echo "$1" > "$2"'))
    await until_state(handle, JobState.FAILED)
    return handle


async def retried_alone(farm: Farm) -> JobHandle:
    script = f'[ "$1" -lt 2 ] || [ -e {farm.gate} ] || exit 7; echo "$1" > "$2"'
    fields = {"on_chunk_failure": FailurePolicy.CONTINUE, "max_failed_chunks": 4}
    handle = await farm.submit(job(farm, script, **fields))
    await until_state(handle, JobState.FAILED)
    farm.open_gate()
    await farm.render.retry(handle.id, chunks=[(2, 3)])
    await until(handle, lambda status: status.state.has_ended and status.completed_chunks == 3)
    return handle


async def failed_after_two_passes(farm: Farm) -> JobHandle:
    fields = {"on_chunk_failure": FailurePolicy.CONTINUE, "retry": Retry(attempts=1, job_attempts=2)}
    handle = await farm.submit(job(farm, '[ "$1" != 3 ] || exit 7; echo "$1" > "$2"', **fields))
    await until_state(handle, JobState.FAILED)
    return handle


async def paused_by(mode: PauseMode, farm: Farm) -> JobHandle:
    handle = await farm.submit(job(farm, waiting(farm)))
    await until(handle, lambda status: status.running_chunks == 2)
    await handle.pause(mode=mode, wait=True)
    farm.open_gate()
    await handle.resume()
    await until_state(handle, JobState.COMPLETED)
    return handle


async def stopped_and_resumed(farm: Farm) -> JobHandle:
    return await paused_by(PauseMode.NOW, farm)


async def frozen_and_thawed(farm: Farm) -> JobHandle:
    return await paused_by(PauseMode.FREEZE, farm)


async def frozen_and_cancelled(farm: Farm) -> JobHandle:
    """The farm is told of both: of a freeze, and of the stop."""
    handle = await farm.submit(job(farm, waiting(farm)))
    await until(handle, lambda status: status.running_chunks == 2)
    await handle.pause(mode=PauseMode.FREEZE, wait=True)
    await handle.cancel(wait=True)
    return handle


async def frozen_and_stopped(farm: Farm) -> JobHandle:
    handle = await farm.submit(job(farm, waiting(farm)))
    await until(handle, lambda status: status.running_chunks == 2)
    await handle.pause(mode=PauseMode.FREEZE, wait=True)
    await handle.pause(mode=PauseMode.NOW)
    await until(handle, lambda status: status.state is JobState.PAUSED and not status.frozen_chunks)
    farm.open_gate()
    await handle.resume()
    await until_state(handle, JobState.COMPLETED)
    return handle


async def held_and_skipped(farm: Farm) -> JobHandle:
    fields = {"on_chunk_failure": FailurePolicy.HOLD, "retry": Retry(attempts=1)}
    handle = await farm.submit(job(farm, '[ "$1" != 3 ] || exit 7; echo "$1" > "$2"', **fields))
    await until_state(handle, JobState.PAUSED)
    await handle.retry_failed()
    await until(handle, lambda status: status.phase is JobPhase.HOLDING)
    await handle.skip_chunks([(3, 4)])
    await until_state(handle, JobState.COMPLETED)
    return handle


async def stopped_and_resumed_on_lambda(farm: Farm) -> JobHandle:
    handle = await farm.submit(job(farm, waiting(farm), backend="lambda"))
    await until(handle, lambda status: [chunk.memory_bytes > 0 for chunk in status.running] == [True, True])
    await handle.pause(mode=PauseMode.NOW, wait=True)
    farm.open_gate()
    await handle.resume()
    await until_state(handle, JobState.COMPLETED)
    return handle


async def limit_lowered(farm: Farm) -> JobHandle:
    """The farm has four slots: two chunks stand in its queue, and are taken back."""
    handle = await farm.submit(job(farm, waiting(farm), max_parallel=6))
    await until(handle, lambda status: sum(chunk.waiting for chunk in status.running) == 2)
    await handle.set_max_parallel(1)
    await until(handle, lambda status: len(status.running) == 4)
    farm.open_gate()
    await until_state(handle, JobState.COMPLETED)
    return handle


async def taken_back_with_its_wait(farm: Farm) -> JobHandle:
    """The first chunk waits for its second try when there is no slot for it any more, and goes on to wait later."""
    fails_once = f'if [ "$1" = 0 ] && mkdir {farm.gate}.0; then exit 7; fi; [ "$1" = 0 ] || {waiting(farm)}'
    handle = await farm.submit(job(farm, fails_once, retry=Retry(attempts=2, initial_seconds=3)))
    await until(handle, lambda status: [chunk.waiting for chunk in status.running] == [True, False])
    await handle.set_max_parallel(1)
    await until(handle, lambda status: len(status.running) == 1)
    farm.open_gate()
    await until_state(handle, JobState.COMPLETED)
    return handle


async def split(farm: Farm) -> JobHandle:
    """Chunks 2 to 4 are one span, and wait; when all others are done, the last two are given back."""
    waits = f'[ "$1" -lt 2 ] || [ "$1" -gt 4 ] || until [ -e {farm.gate} ]; do sleep 0.02; done; echo "$1" > "$2"'
    handle = await farm.submit(job(farm, waits, frames=FrameRange(count=12, per_chunk=1)))
    await until(handle, lambda status: status.completed_chunks == 9)
    farm.open_gate()
    await until_state(handle, JobState.COMPLETED)
    return handle


async def continued(farm: Farm) -> JobHandle:
    """The second run of a job: the first one is left while it is paused, after a thousand events."""
    handle = await farm.submit(job(farm, waiting(farm)))
    await until(handle, lambda status: status.running_chunks == 2)
    await handle.pause(mode=PauseMode.NOW, wait=True)
    for _ in range(200):
        await handle.set_max_parallel(2)
    farm.open_gate()
    await handle.resume()
    await until_state(handle, JobState.COMPLETED)
    return handle


def film(farm: Farm, **fields: object) -> RenderJobSpec:
    """Return a job of six images and a film; the last one waits for the gate."""
    draw = '(printf \'P6 16 16 255 \'; head -c 768 /dev/zero) > "$(printf "$2" "$1")"'
    script = f'[ "$1" != 5 ] || until [ -e {farm.gate} ]; do sleep 0.02; done; {draw}'
    frames = FrameRange(count=6, per_chunk=1)
    return job(farm, script, frames=frames, fps="25", chunk_output="{frame:06}.ppm", output="film.mp4", **fields)


async def film_tried(farm: Farm) -> JobHandle:
    handle = await farm.submit(film(farm))
    # Begun with the first chunk that is done.
    await until(handle, lambda status: status.completed_chunks >= 1)
    return await paused_until_idle(farm, handle)


async def film_refused(farm: Farm) -> JobHandle:
    handle = await farm.submit(film(farm, encode=("-c:v", "libx264", "-profile:v", "nonsense")))
    await until_state(handle, JobState.FAILED)
    return handle


async def no_job(farm: Farm) -> JobHandle:
    name, id = RENDER_JOB_WORKFLOW, "no-job"
    await farm.client.start_workflow(name, {"frames": 7}, id=id, task_queue=farm.task_queue)
    await until_state(farm.render.job(id), JobState.FAILED)
    return farm.render.job(id)


async def refused(farm: Farm) -> JobHandle:
    handle = await farm.submit(job(farm, "exit 0", base_dir="/nowhere"))
    await until_state(handle, JobState.FAILED)
    return handle


RECORDED = (
    completed,
    paused_and_resumed,
    stopped_and_resumed,
    frozen_and_thawed,
    frozen_and_cancelled,
    frozen_and_stopped,
    stopped_and_resumed_on_lambda,
    held_and_skipped,
    cancelled,
    failed,
    retried_alone,
    failed_after_two_passes,
    refused,
    limit_lowered,
    taken_back_with_its_wait,
    film_tried,
    film_refused,
    split,
    continued,
    no_job,
    told,
    reported,
    report_lost,
)


async def record(names: Collection[str]) -> None:
    """Run each job, or those of these names, and write its history."""
    # A path of its own for each run would change every line of every history.
    base = Path(tempfile.gettempdir()) / "longtake-recording"
    shutil.rmtree(base, ignore_errors=True)
    program = await asyncio.to_thread(devserver.find_temporal, print)
    address = f"127.0.0.1:{find_free_port()}"
    base.mkdir()
    server = await devserver.start_dev_server(
        program, database=None, address=address, ui_port=None, log=base / "temporal.log", on_message=print
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop)
        client = await connect(address=address)
        running = await stack.enter_async_context(services(BackendKind.LAMBDA, (str(base),), base))
        everywhere = Farm(address, "longtake", client, RenderClient(client), base)
        allowed = {"webhooks": SecretStr("https://hooks.invalid=whsec_" + base64.b64encode(bytes(32)).decode())}
        settings = running.settings(everywhere).model_copy(update=allowed)
        await stack.enter_async_context(serving(client, settings))
        for story in RECORDED:
            if names and story.__name__ not in names:
                continue
            store = base / story.__name__ / "store"
            store.mkdir(parents=True)
            farm = Farm(address, "longtake", client, RenderClient(client), store)
            handle = await story(farm)
            history = await client.get_workflow_handle(handle.id).fetch_history()
            written = json.dumps(_without_traces(json.loads(history.to_json())), indent=1)
            (HISTORIES / f"{story.__name__}.json").write_text(_without_host(written) + "\n")
            print(f"{story.__name__}: {len(history.events)} events")
    shutil.rmtree(base)


def _without_traces(value: object) -> object:
    """Return a history without stack traces, which are full of paths and which no replay looks at."""
    if isinstance(value, dict):
        return {key: _without_traces(item) for key, item in value.items() if key != "stackTrace"}
    return [_without_traces(item) for item in value] if isinstance(value, list) else value


def _without_host(text: str) -> str:
    """Return a history that says nothing of the machine it was recorded on."""
    text = re.sub(r"\d+@" + re.escape(socket.gethostname()), "1@host", text)
    return text.replace(socket.gethostname(), "host")


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1:]))
