"""A render reads the environment and the memory of the processes above it, up to its worker, for their secrets."""

import os

from support.attacks import STORE, job, main, repelled, run, succeeded

LOOK = """
env
pid=$PPID
while [ "$pid" -gt 1 ]; do
  tr '\\0' '\\n' < /proc/$pid/environ
  head -c 1 /proc/$pid/mem > /dev/null 2>&1 && echo "MEMORY of $pid"
  if tr '\\0' ' ' < /proc/$pid/cmdline | grep -q 'worker.py'; then echo "reached the worker"; break; fi
  pid=$(cut -d' ' -f4 /proc/$pid/stat)
done
echo x > "$0"
"""


async def attack() -> None:
    # Braces would be placeholders.
    name, failure = await run(job(command=["sh", "-c", LOOK, "{output}"]))
    log = "".join(path.read_text(errors="replace") for path in (STORE / ".longtake" / name / "logs").iterdir())
    if "reached the worker" not in log:
        raise SystemExit(f"the look did not reach the worker: {failure} {log}")
    # The farm that is attacked was given this secret.
    if os.environ["ATTACK_SECRET"] in log:
        succeeded("the worker's secret is in the log of a render")
    repelled("no secret on the way up")


main(attack())
