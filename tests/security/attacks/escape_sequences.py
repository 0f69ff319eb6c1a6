"""Names and errors hold terminal escapes and bidirectional controls, for whoever lists jobs and reads their status."""

import json
import os
import re
import subprocess
import sys

from support.attacks import ADDRESS, QUEUE, job, main, repelled, run, succeeded

EVIL = "\x1b]0;owned\x07\x1b[2J\u202egpj.exe\u2066\u200f"
# Colours of our own are not asked for: what is printed goes to a pipe.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


CALLS = """
import json, sys
from longtake.cli.app import main
for words in json.loads(sys.argv[1]):
    print(f"longtake {words[0]}:", main(words), flush=True)
"""


def show(*calls: tuple[str, ...]) -> None:
    """Call the command line with each of these words in one process, whose start takes longer than they do."""
    command = [sys.executable, "-c", CALLS, json.dumps([[*words, "--address", ADDRESS] for words in calls])]
    environ = {**os.environ, "LONGTAKE_TASK_QUEUE": QUEUE}
    ended = subprocess.run(command, env=environ, capture_output=True, timeout=90, check=False)
    said = (ended.stdout + ended.stderr).decode()
    if found := CONTROL.search(said):
        succeeded(f"longtake printed {found[0]!r}: {said!r}")
    if ended.returncode != 0 or ended.stdout.count(b"longtake ") < len(calls):
        raise SystemExit(said)
    print(said)


async def attack() -> None:
    failing = ["sh", "-c", f"printf 'error: {EVIL}\\n' >&2; exit 3", "{output}"]
    name, failure = await run(job(command=failing, name="plain"))
    if not failure:
        raise SystemExit("the job was to fail")
    refused = await run(job(name=EVIL, chunk_output=f"{EVIL}/{{chunk}}.txt"))
    if CONTROL.search(refused[1]):
        succeeded(f"the failure of a job holds a control character: {refused[1]!r}")
    ids = (name, EVIL, refused[0])
    show(("list",), ("logs", name), ("cancel", EVIL), *(("status", id) for id in ids))
    repelled("nothing that was printed controls a terminal")


main(attack())
