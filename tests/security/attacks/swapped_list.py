"""A render of another job swaps the chunk list and the timeouts of a job that was accepted and waits."""

import asyncio
import hashlib
import json

from support.attacks import STORE, job, main, repelled, start, succeeded

accepted = json.dumps({"chunks": [{"start": 0, "count": 1}, {"start": 1, "count": 1}]}).encode()
ran = STORE / "swapped-command-ran"
evil = {"start": 0, "count": 1, "command": ["sh", "-c", f"touch {ran}; echo x > $0", "{output}"]}
swapped = json.dumps({"chunks": [evil, evil | {"start": 1}]}).encode()


async def attack() -> None:
    path = STORE / "list-of-chunks.json"
    path.write_bytes(accepted)
    reference = {"path": str(path), "sha256": hashlib.sha256(accepted).hexdigest(), "count": 2}
    # Nothing is rendered until the job is resumed.
    document = job(chunks=reference, command=["sh", "-c", "echo x > $0", "{output}"])
    del document["frames"]
    handle = await start(document)
    await handle.signal("pause")
    record = STORE / ".longtake" / handle.id / "list.json"
    for _ in range(600):
        if record.exists():
            break
        await asyncio.sleep(0.1)
    record.write_bytes(swapped)
    await handle.signal("resume")
    for _ in range(900):
        if ran.exists():
            succeeded("a command ran that was never accepted")
        pending = (await handle.describe()).raw_description.pending_activities
        reasons = [each.last_failure.message for each in pending if each.last_failure.message]
        if any("is not what was accepted" in reason for reason in reasons):
            await handle.terminate()
            repelled(reasons[0])
        await asyncio.sleep(0.1)
    await handle.terminate()
    raise SystemExit("the job neither ran nor said why")


main(attack())
