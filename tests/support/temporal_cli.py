"""The Temporal CLI as an operator types it: jobs started, reset, scheduled and steered without Longtake's client."""

import asyncio
import json
from pathlib import Path

from support.farm import Farm

from longtake import RenderJobSpec


class Temporal:
    """The Temporal CLI, as an operator types it."""

    def __init__(self, program: Path, address: str) -> None:
        self._program = program
        self._address = address

    async def __call__(self, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            str(self._program), *words, "--address", self._address, stdout=-1, stderr=-1
        )
        out, err = await process.communicate()
        assert process.returncode == 0, f"temporal {' '.join(words)}: {err.decode()}"
        return out.decode()

    async def start(self, farm: Farm, job_id: str, document: dict[str, object]) -> None:
        path = farm.store.parent / f"{job_id}.json"
        path.write_text(json.dumps(document))
        await self(
            *("workflow", "start", "--type", "RenderJob", "--task-queue", farm.task_queue),
            *("--workflow-id", job_id, "--input-file", str(path)),
        )


def document(job: RenderJobSpec) -> dict[str, object]:
    """Return a job as a person would write it: without the mark of a client."""
    written = job.to_wire()
    del written["contract"]
    return written
