"""A stop asks once, and programs that are known to listen late are asked again."""

import os
from pathlib import Path

import pytest
from farm import eventually

from activities.processes.supervisor import Supervisor

# Ends with the fourth SIGTERM, as ffmpeg does.
LATE = """#!/bin/sh
asked=0
trap 'asked=$((asked + 1)); [ $asked -lt 4 ] || exit 44' TERM
echo ready
while :; do sleep 0.01; done
"""


@pytest.mark.parametrize(("name", "code"), [("ffmpeg", 44), ("ffmpeg-linux-x86_64-v7.0.2", 44), ("other", -9)])
async def test_ffmpeg_is_asked_until_it_hears_and_others_once(tmp_path: Path, name: str, code: int) -> None:
    program, log = tmp_path / name, tmp_path / "log"
    program.write_text(LATE)
    program.chmod(0o755)
    async with Supervisor() as supervisor:
        render = await supervisor.spawn([str(program)], cwd=tmp_path, env=dict(os.environ), log=log, tag={"T": name})
        await eventually(lambda: log.exists() and b"ready" in log.read_bytes(), "the program listens")
        # The one that is asked once has to be killed; the others have all the time they want.
        await render.stop(0.5 if code == -9 else 60)

        assert await render.wait() == code
