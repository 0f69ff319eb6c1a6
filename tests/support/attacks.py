"""What all attacks know of the farm that they attack, and how they say whether they were repelled.

Variables: `ATTACK_ADDRESS` of Temporal, `ATTACK_QUEUE` of the workers, `ATTACK_STORE`, a folder that jobs may use.
"""

import asyncio
import os
import sys
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

from temporalio.client import Client, WorkflowFailureError

ADDRESS, QUEUE = os.environ["ATTACK_ADDRESS"], os.environ["ATTACK_QUEUE"]
STORE = Path(os.environ["ATTACK_STORE"])
PATIENCE_SECONDS = 90.0


def repelled(how: str) -> NoReturn:
    """End: the farm has kept its promise."""
    _end(f"repelled: {how}", 0)


def succeeded(what: str) -> NoReturn:
    """End: the attack got what it wanted."""
    _end(f"the attack succeeded: {what}", 1)


def _end(said: str, code: int) -> NoReturn:
    print(said, flush=True)
    # At once: threads of the client of Temporal that still run would abort an interpreter that ends.
    os._exit(code)


def job(**fields: Any) -> dict[str, Any]:
    """Return a job as anybody may send it, without a client that checks it."""
    name = f"attack-{uuid.uuid4().hex[:8]}"
    return {
        "contract": 1,
        "base_dir": str(STORE),
        "frames": {"count": 1, "per_chunk": 1},
        "command": ["sh", "-c", "echo x > $0", "{output}"],
        "chunk_output": f"{name}/{{chunk}}.txt",
        "retry": {"attempts": 1},
        **fields,
    }


async def start(document: dict[str, Any]) -> Any:
    """Start a job by Temporal alone."""
    client = await Client.connect(ADDRESS)
    name = f"attack-{uuid.uuid4().hex[:12]}"
    return await client.start_workflow("RenderJob", document, id=name, task_queue=QUEUE)


async def run(document: dict[str, Any]) -> tuple[str, str]:
    """Run a job to its end; return its id and the sentence of its failure, empty if it completed."""
    handle = await start(document)
    try:
        await asyncio.wait_for(handle.result(), PATIENCE_SECONDS)
    except WorkflowFailureError as error:
        cause: BaseException | None = error.cause
        return handle.id, str(cause)
    except TimeoutError:
        await handle.terminate()
        succeeded(f"the job {handle.id} came to no end in {PATIENCE_SECONDS:g} s")
    return handle.id, ""


def main(attack: Coroutine[Any, Any, None]) -> NoReturn:
    """Run an attack; what neither succeeds nor is repelled has failed."""
    asyncio.run(attack)
    sys.exit("neither repelled nor succeeded")
