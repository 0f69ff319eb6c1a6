"""A pattern of nine characters that never comes to an end, to stop every worker of the farm."""

from support.attacks import job, main, repelled, run, succeeded


async def attack() -> None:
    bad, failure = await run(job(progress={"fatal_patterns": [r"(|){33}\b"]}))
    if not failure:
        succeeded(f"the job {bad} was accepted")
    _, other = await run(job())
    if other:
        succeeded(f"another job failed: {other}")
    repelled(failure)


main(attack())
