"""One line of a job file asks for two thousand million names in the memory of every worker."""

import os

import psutil
from support.attacks import job, main, repelled, run, succeeded


async def attack() -> None:
    frames = {"count": 2147483646, "per_chunk": 2147483646}
    _, failure = await run(job(frames=frames, chunk_output="attack/{frame}.png"))
    if "image files" not in failure:
        succeeded(f"the job was accepted: {failure}")
    used = psutil.Process(int(os.environ["ATTACK_WORKER"])).memory_info().rss
    if used > 600 * 2**20:
        succeeded(f"the worker has {used >> 20} MiB")
    repelled(failure)


main(attack())
