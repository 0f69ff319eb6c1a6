"""Somebody else makes the scratch folder first, whose name can be guessed, and lays down what renders will read."""

import os
import subprocess
import sys
from pathlib import Path

from support.attacks import ADDRESS, QUEUE, STORE, repelled, succeeded

planted = STORE.parent / f"planted-{os.getpid()}"
(planted / "inputs").mkdir(parents=True)
planted.chmod(0o777)
root = Path(__file__).resolve().parents[3]
environ = {
    **{name: value for name, value in os.environ.items() if not name.startswith("LONGTAKE_")},
    "LONGTAKE_SCRATCH": str(planted),
    "LONGTAKE_ROOTS": str(STORE),
    "LONGTAKE_ALLOWED_COMMANDS": "sh",
    "LONGTAKE_TASK_QUEUE": f"{QUEUE}-planted",
}
command = [sys.executable, str(root / "worker.py"), "--address", ADDRESS]
try:
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
except subprocess.TimeoutExpired:
    succeeded("a worker works in a folder that everybody may write to")
if str(planted) not in ended.stderr or "Traceback" in ended.stderr:
    raise SystemExit(ended.stderr)
repelled(ended.stderr.strip().splitlines()[-1])
