"""Run chunks by Prefect: one flow, a task a chunk, with a server of its own on SQLite."""

import os

from peer import read_asked, run_chunk, say_done, wait_for_go

ASKED = read_asked()
# Read when Prefect is imported. Nothing is reported to anybody.
os.environ |= {
    "PREFECT_HOME": f"{ASKED.folder}/prefect",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
}

from prefect import flow, task  # noqa: E402
from prefect.task_runners import ThreadPoolTaskRunner  # noqa: E402


@task
def render(command: list[str]) -> None:
    run_chunk(command)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=ASKED.parallel))
def render_all() -> None:
    # Once, so that the server is up before the clock starts.
    render.submit(["true"]).result()
    wait_for_go()
    futures = [render.submit(command) for command in ASKED.commands]
    for future in futures:
        future.result()
    say_done()


if __name__ == "__main__":
    render_all()
