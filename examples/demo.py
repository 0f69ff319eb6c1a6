"""Render a film on this machine (`make demo`), kill a renderer and pause on the way, and prove the result."""

import asyncio
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import av
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import devserver  # noqa: E402
from activities.processes.programs import find_ffmpeg  # noqa: E402
from longtake import JobHandle, JobState, JobStatus, LongtakeError, RenderClient, RenderJobSpec, load_job  # noqa: E402
from longtake.cli.views import View, make_view  # noqa: E402
from ports import is_port_taken  # noqa: E402

OUTPUTS = ROOT / "demo"
LOG = devserver.cache_dir() / "dev" / "worker.log"
PAGE = f"http://127.0.0.1:{devserver.DEFAULT_PAGE_PORT}"
UI = f"http://127.0.0.1:{devserver.DEFAULT_UI_PORT}"

KILL_AFTER_CHUNKS = 2
PAUSE_AFTER_CHUNKS = 5
PAUSE_SECONDS = 2.0
LOOK_SECONDS = 0.25
# A renderer that is killed has rendered something by then.
LEAST_AGE_SECONDS = 0.3
READY_SECONDS = 60.0
STOP_SECONDS = 20.0


class DemoError(Exception):
    """Raised when Longtake does not do what the demo shows; says what was seen."""


async def main() -> None:
    """Run the demo from the server to the proven film.

    Raises:
        DemoError: Longtake does not do what the demo shows.
    """
    # Variables for a real cluster must not steer the demo.
    for name in [name for name in os.environ if name.startswith(("TEMPORAL_", "LONGTAKE_TASK", "LONGTAKE_ROOTS"))]:
        del os.environ[name]
    job_id = f"demo-{secrets.token_hex(3)}"
    queue = f"longtake-{job_id}"
    async with server() as running, worker(running.address, queue):
        farm = await RenderClient.connect(address=running.address, task_queue=queue)
        await remove_earlier_outputs(farm)
        folder = OUTPUTS / job_id
        folder.mkdir(parents=True)
        job = await farm.submit(load_film_job(folder), id=job_id)
        print_line(f"Submitted {job_id}: 240 frames in 12 chunks, 2 at a time.")
        try:
            status = await show_job(job)
            # A server that ends with the demo is looked at later, where `make dev` puts its UI if the port is free.
            shown = running.ui == UI if running.process else is_port_taken(devserver.DEFAULT_UI_PORT)
            await show_result(farm, status, ui=UI if shown else None)
        finally:
            with suppress(LongtakeError, TimeoutError):
                # After Ctrl-C and failures too: no worker would serve the job any more.
                await asyncio.wait_for(job.cancel(wait=True), STOP_SECONDS)


def load_film_job(folder: Path) -> RenderJobSpec:
    """Load the job of `plasma.yaml`, with all its outputs in a folder of this run."""
    places = {"base_dir": str(folder), "chunk_output": "chunks/{chunk:06}.mp4", "output": "plasma.mp4"}
    return load_job(ROOT / "examples" / "plasma.yaml", overrides=places)


async def show_job(job: JobHandle) -> JobStatus:
    """Watch the job to its end; kill one of its renderers and pause it on the way."""
    killed = paused = False
    with make_view(json=False) as view:
        async for status in job.watch(interval_seconds=LOOK_SECONDS):
            view.show(status)
            if not killed and status.completed_chunks >= KILL_AFTER_CHUNKS:
                killed = kill_renderer(status, view)
            elif killed and not paused and status.completed_chunks >= PAUSE_AFTER_CHUNKS:
                paused = True
                await pause_and_resume(job, view)
    if not (killed and paused):
        raise DemoError(f"{job.id} is {status.state} before anything could be shown: {status.error}")
    return status


def kill_renderer(status: JobStatus, view: View) -> bool:
    """Kill a renderer that is at work; return whether there was one."""
    for process in find_processes(status.id):
        with suppress(psutil.Error):
            chunk = process.environ()["LONGTAKE_CHUNK"]
            # By its age: progress is told every two seconds, and on a fast machine a chunk takes less.
            if time.time() - process.create_time() > LEAST_AGE_SECONDS:
                process.kill()
                view.show_message(
                    f"Trouble: the demo sends SIGKILL to the ffmpeg of chunk {chunk}. Longtake tries again."
                )
                return True
    return False


async def pause_and_resume(job: JobHandle, view: View) -> None:
    """Pause the job, check that no process of it runs, and resume it."""
    view.show_message("Pause: chunks that render are finished, no other starts.")
    await job.pause()
    async for status in job.watch(interval_seconds=LOOK_SECONDS):
        view.show(status)
        if status.state is JobState.PAUSED or status.state.has_ended:
            break
    for _ in range(round(PAUSE_SECONDS / LOOK_SECONDS)):
        if status.state is not JobState.PAUSED or find_processes(job.id):
            raise DemoError(f"{job.id} is {status.state} with {len(find_processes(job.id))} processes, not paused")
        view.show_message(
            f"Paused: {status.completed_chunks} chunks are kept, no process of this job is on this machine."
        )
        await asyncio.sleep(LOOK_SECONDS)
        status = await job.status()
    view.show_message("Resume: only what is missing is rendered.")
    await job.resume()


def find_processes(job_id: str) -> list[psutil.Process]:
    """Find the processes of a job's renderers: each attempt marks them in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get("LONGTAKE_JOB") == job_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


async def show_result(farm: RenderClient, status: JobStatus, *, ui: str | None) -> None:
    """Prove the film, and print where the results are."""
    result = status.result
    if status.state is not JobState.COMPLETED or result is None or result.output is None:
        raise DemoError(f"{status.id} is {status.state}: {status.error}")
    film = Path(result.output)
    sheet = film.with_name("contact-sheet.png")
    frames, digest = await asyncio.to_thread(decode_film, film)
    if (frames, digest) != (status.total_frames, result.sha256):
        raise DemoError(f"{film} has {frames} frames and digest {digest}; the job says {result}")
    await asyncio.to_thread(make_contact_sheet, film, sheet, every=status.total_frames // 12)
    description = await farm.temporal.get_workflow_handle(status.id).describe()
    print_line("")
    print_line(f"film           {film}")
    print_line(f"frames         {frames}, each of them decoded ({result.duration_seconds:g} s)")
    print_line(f"sha256         {digest}")
    print_line(f"contact sheet  {sheet}")
    if ui:
        print_line(f"page           {PAGE}/jobs/{status.id}")
        print_line(f"Temporal UI    {ui}/namespaces/default/workflows/{status.id}/{description.run_id}/history")


def decode_film(film: Path) -> tuple[int, str]:
    """Decode a film; return its number of frames and the digest of the file."""
    with av.open(str(film)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    return frames, hashlib.sha256(film.read_bytes()).hexdigest()


def make_contact_sheet(film: Path, sheet: Path, *, every: int) -> None:
    """Put the first frame of each chunk on one picture."""
    tiles = rf"select=not(mod(n\,{every})),scale=320:-2:flags=area,tile=4x3:margin=4:padding=4"
    # A palette makes the picture a fifth of its size.
    tiles += ",split[a][b];[a]palettegen[palette];[b][palette]paletteuse=dither=bayer:bayer_scale=4"
    command = [find_ffmpeg(), "-nostdin", "-v", "error", "-i", str(film), "-lavfi", tiles, "-frames:v", "1", str(sheet)]
    subprocess.run(command, check=True)


async def remove_earlier_outputs(farm: RenderClient) -> None:
    """Remove the folders of demos that have ended."""
    for folder in OUTPUTS.glob("demo-*"):
        with suppress(LongtakeError):
            if not (await farm.job(folder.name).status()).state.has_ended:
                continue
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def server() -> AsyncIterator[devserver.DevServer]:
    """Run a Temporal server, or use the one of `make dev`."""
    running = await devserver.start_dev_server(
        await asyncio.to_thread(devserver.find_temporal, lambda line: None),
        database=devserver.cache_dir() / "dev" / "temporal.db",
        ui_port=0,
        on_message=print_line,
    )
    try:
        yield running
    finally:
        await running.stop()
        if running.process:
            print_line(
                "The server has stopped with the demo; `make dev` brings it back, with the job in its UI, and "
                f"the page of the farm at {PAGE}"
            )


@asynccontextmanager
async def worker(address: str, queue: str) -> AsyncIterator[None]:
    """Run `worker.py --dev` with a Temporal server, on a queue of this demo's own."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("wb") as log:
        # A session of its own: Ctrl-C comes to the demo, which needs the worker to end the job.
        process = await asyncio.create_subprocess_exec(
            *devserver.end_with_parent([sys.executable, str(ROOT / "worker.py"), "--dev", "--address", address]),
            cwd=ROOT,
            env={**os.environ, "LONGTAKE_TASK_QUEUE": queue},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        await wait_until_ready(process)
        yield
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


async def wait_until_ready(process: asyncio.subprocess.Process) -> None:
    """Wait until the worker prints that it is ready."""
    end = asyncio.get_running_loop().time() + READY_SECONDS
    while "worker.py: ready" not in (text := LOG.read_text(errors="replace")):
        if process.returncode is not None or asyncio.get_running_loop().time() > end:
            last = "\n".join(text.splitlines()[-5:])
            raise DemoError(f"the worker did not come up; {LOG} ends:\n{last}")
        await asyncio.sleep(0.05)


def print_line(line: str) -> None:
    """Print a line and flush it: output may go into a pipe."""
    print(line, flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print_line("Interrupted: the job is cancelled, and all that the demo started has stopped.")
        sys.exit(130)
    except (DemoError, LongtakeError, devserver.TemporalNotFound, devserver.DevServerError) as error:
        print_line(f"demo: {error}")
        sys.exit(1)
