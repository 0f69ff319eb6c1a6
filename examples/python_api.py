"""Render a film from Python: submit, watch, pause, resume, result. Needs a worker: `make dev` in another terminal."""

import asyncio
import sys
from pathlib import Path

from longtake import JobState, RenderClient, load_job


async def main(job_file: Path) -> None:
    """Render a job file with a pause in the middle."""
    job = load_job(job_file, overrides={"if_exists": "replace"})
    async with RenderClient.connect() as farm:
        handle = await farm.submit(job)
        print(f"submitted as {handle.id}")

        async for status in handle.watch():
            if status.completed_chunks >= 1:
                break

        status = await handle.pause(wait=True)
        print(f"{status.state} at {status.progress:g} %, {status.running_chunks} chunks running")
        await handle.resume()

        async for status in handle.watch(interval_seconds=1):
            print(f"{status.state}: {status.completed_frames} of {status.total_frames} frames")
        if status.state is JobState.COMPLETED:
            print(await handle.result())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("plasma.yaml"))))
