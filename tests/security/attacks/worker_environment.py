"""A render reads the environment and the memory of the processes above it, up to its worker, for their secrets."""

import os

from support.attacks import STORE, job, main, repelled, run, succeeded

# Its keeper, the supervisor, and the worker, whose process id each render is told; nobody else's.
LOOK = """
keeper=$PPID
supervisor=$(cut -d' ' -f4 /proc/$keeper/stat)
worker=$(echo "$LONGTAKE_WORKER" | cut -d/ -f3)
for pid in $keeper $supervisor $worker; do
  tr '\\0' '\\n' < /proc/$pid/environ
  head -c 1 /proc/$pid/mem > /dev/null 2>&1 && echo "MEMORY of $pid"
  echo "looked at $pid"
done
echo x > "$0"
"""


async def attack() -> None:
    # Braces would be placeholders.
    name, failure = await run(job(command=["sh", "-c", LOOK, "{output}"]))
    log = "".join(path.read_text(errors="replace") for path in (STORE / ".longtake" / name / "logs").iterdir())
    if f"looked at {os.environ['ATTACK_WORKER']}" not in log:
        raise SystemExit(f"the look did not reach the worker: {failure}")
    # The farm that is attacked was given this secret.
    if os.environ["ATTACK_SECRET"] in log:
        succeeded("the worker's secret is in the log of a render")
    repelled("no secret on the way up")


main(attack())
