"""`LONGTAKE_RENDER_USER`: renders under an account of their own reach nothing of their worker, and are still ended."""

import asyncio
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.farm import Farm, eventually, serving, standing, until, until_state, worker_settings
from support.processes.workers import ROOT, worker_program
from support.servers.receiver import last_error

from activities.notify import command
from longtake import FrameRange, JobState, PauseMode, RenderJobSpec, Timeouts
from longtake.models.notify import Receiver

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# An account that every Linux has, and that owns nothing.
NOBODY = 65534

# What a render of the worker's own account, root in this test, can do, each with a word that says so.
ATTACK = """
worker=$(echo "$LONGTAKE_WORKER" | cut -d/ -f3)
echo "uid $(id -u) groups $(id -G) home $HOME user $USER"
for file in /proc/$worker/environ /proc/$worker/mem /proc/$PPID/environ /proc/$PPID/mem "$1"; do
  ( : < "$file" ) 2>/dev/null && echo "OPENED $file"
done
( : > "$1" ) 2>/dev/null && echo "WROTE $1"
kill -0 $worker 2>/dev/null && echo "MAY KILL the worker"
kill -0 $PPID 2>/dev/null && echo "MAY KILL the keeper"
grep NoNewPrivs /proc/self/status
grep CapEff /proc/self/status
umask 000
echo rendered > "$0"
"""

# A grandchild that has left its group and session, and ignores SIGTERM.
TREE = """
trap '' TERM
setsid sh -c 'echo "grandchild $$ of $(id -u)"; exec sleep 600' &
wait
"""

# A command that takes its message and hangs, with such a grandchild. Files appear whole: they are waited for.
TELL = """
trap '' TERM
[ -e "$0/child" ] && exit 1
cat > "$0/message"
echo "$$ $(id -u)" > "$0/child"
setsid sh -c 'trap "" TERM; echo "$$ $(id -u)" > "$0/new" && mv "$0/new" "$0/grandchild"; exec sleep 600' "$0" &
wait
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account may enter, which those of pytest are not."""
    place = Path(tempfile.mkdtemp(prefix="longtake-render-user-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def store(place: Path) -> Path:
    (place / "store").mkdir()
    return place / "store"


def log_of(farm: Farm, job: str) -> str:
    return "".join(path.read_text() for path in (farm.store / ".longtake" / job / "logs").glob("*"))


def shell(farm: Farm, script: str, *arguments: str) -> RenderJobSpec:
    return farm.job(chunks=1, command=("sh", "-c", script, "{output}", *arguments))


def assert_owned_by_the_worker(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid()), path
        assert not status.st_mode & stat.S_IWOTH, path


async def test_a_render_of_another_account_reaches_nothing_of_its_worker_and_its_output_is_published(
    bare: Farm, place: Path
) -> None:
    secret = place / "key"
    secret.write_text("the worker's key")
    secret.chmod(0o600)
    async with worker_program(
        bare.address, bare.task_queue, bare.store, LONGTAKE_RENDER_USER=str(NOBODY), LONGTAKE_HOST="host"
    ) as worker:
        job = await bare.submit(shell(bare, ATTACK, str(secret)))
        status = await until(job, lambda status: status.state.has_ended)
        said = log_of(bare, job.id)

        assert status.state is JobState.COMPLETED, f"{status.error}: {said}"
        assert f"uid {NOBODY} groups {NOBODY} " in said
        assert "user nobody" in said
        assert not re.search("OPENED|WROTE|MAY KILL", said), said
        assert re.search(r"NoNewPrivs:\s*1\b", said)
        assert re.search(r"CapEff:\s*0+\b", said)
        assert "renders run as nobody (uid 65534)" in worker.log
        await check_frames_and_film(bare)
        await check_freeze_and_cancel(bare)

    assert (bare.store / "out/000000.txt").read_text() == "rendered\n"
    assert secret.read_text() == "the worker's key"
    assert_owned_by_the_worker(bare.store)


async def check_frames_and_film(farm: Farm) -> None:
    """Image files that are kept while they are rendered, and a film that ffmpeg makes of them."""
    source = ("-f", "lavfi", "-i", "testsrc2=size=64x36:rate=24", "-frames:v", "{count}", "-start_number", "{start}")
    job = await farm.submit(
        farm.job(
            frames=FrameRange(count=6, per_chunk=3),
            command=("ffmpeg", "-v", "error", *source, "{output}"),
            chunk_output="frames/{frame:04}.png",
            output="film.mp4",
            fps="24",
        )
    )
    status = await until(job, lambda status: status.state.has_ended)

    assert status.state is JobState.COMPLETED, status.error
    assert len(list((farm.store / "frames").iterdir())) == 6
    assert (farm.store / "film.mp4").exists()


async def check_freeze_and_cancel(farm: Farm) -> None:
    job = await farm.submit(shell(farm, TREE).model_copy(update={"chunk_output": "tree/{chunk}.txt"}))
    await eventually(lambda: "grandchild" in log_of(farm, job.id), "the grandchild says who it is")
    found = re.search(r"grandchild (\d+) of (\d+)", log_of(farm, job.id))
    assert found
    pid = int(found[1])
    assert int(found[2]) == psutil.Process(pid).uids().real == NOBODY

    await job.pause(mode=PauseMode.FREEZE)
    await until_state(job, JobState.PAUSED)
    assert standing(pid)
    await job.cancel()
    await until_state(job, JobState.CANCELLED)
    assert not psutil.pid_exists(pid)


async def test_a_command_that_tells_of_a_job_runs_under_that_account_and_ends_in_time_with_all_it_has_started(
    bare: Farm, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_TIMEOUTS", Timeouts(chunk_seconds=1, stall_seconds=60, grace_seconds=0.2))
    (place / "told").mkdir()
    (place / "told").chmod(0o777)
    settings = worker_settings(bare.task_queue, bare.store, slots=1).model_copy(
        update={"render_user": str(NOBODY), "notify_commands": ("sh",), "scratch": place / "scratch"}
    )
    tell = Receiver(command=("sh", "-c", TELL, str(place / "told")), on=("finished",))
    async with serving(bare.client, settings):
        job = await bare.submit(shell(bare, 'echo rendered > "$0"').model_copy(update={"notify": (tell,)}))
        await until_state(job, JobState.COMPLETED)
        await eventually((place / "told" / "grandchild").exists, "it has started a grandchild")
        error = await last_error(bare.client, job.id)

    assert "took longer than" in error
    found = [path.read_text().split() for path in ((place / "told" / name) for name in ("child", "grandchild"))]
    assert [uid for _, uid in found] == [str(NOBODY)] * 2
    assert not any(psutil.pid_exists(int(pid)) for pid, _ in found), "it had ended before the try counted as failed"
    message = json.loads((place / "told" / "message").read_text())
    assert (message["type"], message["data"]["job"]["id"]) == ("job.finished", job.id)
    assert not list((place / "scratch").glob("notify-*"))


async def test_without_it_a_render_of_root_reads_all_that_root_may(bare: Farm, place: Path) -> None:
    """What the test above proves to be refused is there to be taken: the attack works."""
    secret = place / "key"
    secret.write_text("the worker's key")
    secret.chmod(0o600)
    async with worker_program(bare.address, bare.task_queue, bare.store) as worker:
        job = await bare.submit(shell(bare, ATTACK, str(secret)))
        await until(job, lambda status: status.state.has_ended)

        said = log_of(bare, job.id)
        assert said.count("OPENED") == 5, said
        assert said.count("MAY KILL") == 2
        assert "set LONGTAKE_RENDER_USER, or start it under an account of its own" in worker.log


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        ("no-such-account", "LONGTAKE_RENDER_USER is no-such-account, and there is no such account on this host"),
        ("0", "LONGTAKE_RENDER_USER is 0, which is root and may read everything; name another account"),
    ],
)
async def test_a_worker_that_cannot_do_as_it_is_told_ends_before_it_starts_anything(user: str, sentence: str) -> None:
    environment = {**os.environ, "LONGTAKE_RENDER_USER": user, "LONGTAKE_ROOTS": "/tmp", "LONGTAKE_SLOTS": "1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "worker.py"), "--dev", "--address", "127.0.0.1:1"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 2
    assert said.decode().startswith(f"worker.py: {sentence}")
