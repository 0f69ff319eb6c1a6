"""Image sequences are resumed inside a chunk: what is finished and whole is kept, and only the gaps are rendered."""

import asyncio
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.farm import PATIENCE_SECONDS, Ledger, alive, eventually
from support.jobs.images import Damage, damage, png

from activities.attempts.chunk_attempt import ChunkAttempt
from activities.attempts.host import Host
from activities.backends.backend import Progress
from activities.backends.local import LocalBackend
from activities.errors import AttemptError
from activities.processes.programs import Programs, find_ffmpeg
from activities.processes.supervisor import Supervisor
from activities.stores.input_cache import InputCache
from activities.stores.job_folder import JobFolder, OpenJob
from activities.stores.kept_frames import KeptFrames
from activities.stores.publish import revoke
from longtake import FrameRange, RenderJobSpec, Timeouts
from longtake.models.messages import JobRef
from longtake.models.policies import ResumeUnit, Retry
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_layout import chunk_key

pytestmark = pytest.mark.integration

FRAME_RENDERER = Path(__file__).parents[1] / "support" / "renderers" / "frame_renderer.py"
KEY = chunk_key(1)
# Chunk 1 of a job of 36 frames from 100 on.
FIRST, COUNT = 112, 12
ALL = list(range(FIRST, FIRST + COUNT))


def is_there(folder: str) -> bool:
    return Path(folder).exists()


class Watcher:
    """Hears of a render, and wants nothing of it."""

    freeze_order = 0
    most_grace_seconds = 60.0

    def __init__(self) -> None:
        self.heard = [Progress()]

    def on_frozen(self, order: int) -> None:
        pass

    def on_progress(self, progress: Progress) -> None:
        self.heard.append(progress)


class Sequence:
    """One chunk of an image sequence, tried as often as a test wants."""

    def __init__(self, host: Host, store: Path) -> None:
        self._host = host
        self.store = store
        self.ledger = Ledger(store.parent / "ledger.txt")
        self.gate = store.parent / "gate"
        self.folder = JobFolder(DirectoryStore(store), "job")
        self.kept = KeptFrames(self.folder, KEY)
        self.watcher = Watcher()
        self._tries = 0

    def command(self, *options: str) -> tuple[str, ...]:
        program = (sys.executable, "-S", "-E", str(FRAME_RENDERER), "{output}", "--start", "{start}")
        return (*program, "--count", "{count}", "--ledger", str(self.ledger.path), *options)

    def attempt(self, *options: str, **fields: Any) -> ChunkAttempt:
        job = RenderJobSpec(
            **{
                "frames": FrameRange(first=100, count=36, per_chunk=COUNT),
                "fps": 30,
                "command": self.command(*options),
                "chunk_output": "frames/{start:06}/f_{frame:06}.png",
                "base_dir": str(self.store),
                "timeouts": Timeouts(grace_seconds=2),
                **fields,
            }
        )
        if not Path(self.folder.job_file).exists():
            self.folder.create(job, None)
        ref = JobRef(id="job", base_dir=str(self.store), digest=job.digest())
        opened = OpenJob(self.folder, ref, job, None)
        self._tries += 1
        return ChunkAttempt(self._host, opened, opened.chunks[1], f"try-{self._tries}-{uuid.uuid4().hex[:6]}")

    async def run(self, *options: str, **fields: Any) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            sidecar = await self.attempt(*options, **fields).run(self.watcher)
        assert sidecar.frames == COUNT

    async def interrupted(self, at: int, *options: str, **fields: Any) -> None:
        """Cancel an attempt in the middle of writing a frame."""
        waits = ("--gate", str(self.gate), "--gate-at", str(at))
        attempt = asyncio.ensure_future(self.attempt(*waits, *options, **fields).run(self.watcher))
        await eventually(lambda: bool(self.ledger.lines("waiting")) or attempt.done(), f"frame {at} is begun")
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        assert not any(map(alive, self.ledger.pids))
        assert not is_there(self.folder.attempts_dir(KEY))

    @property
    def rendered(self) -> Counter[int]:
        """How often each frame was rendered to its end."""
        return Counter(int(line[1]) for line in self.ledger.lines("frame"))

    @property
    def parts(self) -> list[tuple[int, int]]:
        """First frame and count of each command."""
        return [(int(line[1]), int(line[3])) for line in self.ledger.lines("start")]

    @property
    def outputs(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.store / "frames" / f"{FIRST:06}").iterdir()}

    def is_perfect(self) -> bool:
        """Tell whether the output is that of an undisturbed run, and nothing else is left of its making."""
        return (
            self.outputs == {f"f_{frame:06}.png": png(frame) for frame in ALL}
            and not is_there(self.folder.frames_dir(KEY))
            and not is_there(self.folder.attempts_dir(KEY))
        )

    def aside(self) -> list[bytes]:
        place = Path(self.folder.path) / "aside"
        return sorted(path.read_bytes() for path in place.iterdir()) if place.exists() else []


@pytest_asyncio.fixture
async def sequence(store: Path, tmp_path: Path) -> AsyncIterator[Sequence]:
    async with Supervisor() as supervisor:
        scratch = tmp_path / "scratch"
        inputs = InputCache(scratch / "inputs", 0)
        yield Sequence(Host(LocalBackend(supervisor), Programs(None, find_ffmpeg()), {}, inputs, scratch), store)


async def test_an_undisturbed_sequence_is_one_command(sequence: Sequence) -> None:
    await sequence.run()

    assert sequence.parts == [(FIRST, COUNT)]
    assert sequence.is_perfect()


async def test_a_cancelled_chunk_goes_on_at_the_frame_it_was_at(sequence: Sequence) -> None:
    await sequence.interrupted(119)
    assert sequence.kept.verified_files().files.keys() == set(range(7))

    await sequence.run()

    assert sequence.parts == [(FIRST, COUNT), (119, 5)]
    assert sequence.rendered == dict.fromkeys(ALL, 1)
    assert sequence.is_perfect()
    assert sequence.watcher.heard[-1].frames_done == COUNT


async def test_progress_counts_the_frames_that_were_kept(sequence: Sequence) -> None:
    await sequence.interrupted(119)
    sequence.watcher.heard.clear()

    await sequence.run()

    assert {progress.frames_done for progress in sequence.watcher.heard} <= set(range(7, COUNT + 1))


async def test_a_chunk_that_fails_in_the_middle_keeps_what_it_has(sequence: Sequence) -> None:
    with pytest.raises(AttemptError, match="exited with code 1"):
        await sequence.run("--fail-at", "115")

    await sequence.run("--fail-at", "115")

    assert sequence.parts == [(FIRST, COUNT), (115, 9)]
    assert sequence.rendered == dict.fromkeys(ALL, 1)
    assert sequence.is_perfect()


async def test_frames_of_a_renderer_that_says_they_are_worthless_are_not_kept(sequence: Sequence) -> None:
    retry = Retry(fatal_patterns=("textures are missing",))
    with pytest.raises(AttemptError, match="fatal_patterns"):
        await sequence.run("--fail-at", "115", "--say", "textures are missing", retry=retry)
    assert not is_there(sequence.folder.frames_dir(KEY))

    await sequence.run("--fail-at", "115")

    assert sequence.parts == [(FIRST, COUNT), (FIRST, COUNT)]
    assert sequence.is_perfect()


async def test_frames_are_kept_while_the_command_runs(sequence: Sequence) -> None:
    waits = ("--gate", str(sequence.gate), "--gate-at", "120")
    attempt = asyncio.ensure_future(sequence.attempt(*waits).run(sequence.watcher))

    await eventually(lambda: len(sequence.kept.verified_files().files) == 8, "all finished frames are kept")

    sequence.gate.touch()
    await attempt
    assert sequence.is_perfect()


async def test_what_a_killed_worker_could_not_keep_is_found_in_its_attempts_folder(sequence: Sequence) -> None:
    place = Path(sequence.folder.attempt_dir(KEY, "killed")) / f"{FIRST}-{FIRST + COUNT}" / "frames" / f"{FIRST:06}"
    place.mkdir(parents=True)
    for frame in (112, 113, 114, 120):
        (place / f"f_{frame:06}.png").write_bytes(png(frame))
    (place / "f_000121.png").write_bytes(png(121)[:-1])

    await sequence.run()

    assert sequence.parts == [(115, 5), (121, 3)]
    assert sequence.is_perfect()


@pytest.mark.parametrize("how", Damage)
async def test_a_kept_frame_that_went_bad_is_rendered_again_and_no_other(sequence: Sequence, how: Damage) -> None:
    await sequence.interrupted(122)
    kept = sequence.kept.verified_files().files
    bad = [damage(kept[frame], how) for frame in (0, 4, 5)]
    (Path(sequence.kept.path) / "000011.png").write_bytes(png(123))

    await sequence.run()

    assert sequence.parts[1:] == [(112, 1), (116, 2), (122, 2)]
    again = dict.fromkeys((112, 116, 117), 2)
    assert sequence.rendered == dict.fromkeys(ALL, 1) | again
    assert sequence.aside() == sorted([*bad, png(123)])
    assert sequence.is_perfect()


async def test_bad_frames_at_the_final_names_are_replaced_and_set_aside(sequence: Sequence) -> None:
    await sequence.interrupted(118)
    place = sequence.store / "frames" / f"{FIRST:06}"
    place.mkdir(parents=True)
    bad = []
    for frame, how in zip((113, 115, 119, 121), Damage, strict=True):
        path = place / f"f_{frame:06}.png"
        path.write_bytes(png(frame))
        bad.append(damage(path, how))
    neighbour = place / "notes.txt"
    neighbour.write_text("not a frame")

    await sequence.run()

    assert sequence.rendered == dict.fromkeys(ALL, 1)
    assert sequence.aside() == sorted(bad)
    assert neighbour.read_text() == "not a frame"
    neighbour.unlink()
    assert sequence.is_perfect()


async def test_only_the_damaged_frames_of_a_finished_chunk_are_rendered_again(sequence: Sequence) -> None:
    await sequence.run()
    place = sequence.store / "frames" / f"{FIRST:06}"
    for frame, how in zip((112, 114, 117, 123), Damage, strict=True):
        damage(place / f"f_{frame:06}.png", how)
    revoke(sequence.folder, KEY)

    await sequence.run()

    assert sequence.parts[1:] == [(112, 1), (114, 1), (117, 1), (123, 1)]
    assert sequence.is_perfect()


async def test_when_all_frames_are_kept_nothing_is_rendered(sequence: Sequence) -> None:
    judge = (
        "import os, sys, time\n"
        "open(sys.argv[1], 'a').write('waiting 0\\n')\n"
        "while not os.path.exists(sys.argv[2]): time.sleep(0.01)\n"
    )
    check = (sys.executable, "-c", judge, str(sequence.ledger.path), str(sequence.gate))
    attempt = asyncio.ensure_future(sequence.attempt(check=check).run(sequence.watcher))
    await eventually(lambda: bool(sequence.ledger.lines("waiting")), "the check runs")
    attempt.cancel()
    await asyncio.wait([attempt])
    sequence.gate.touch()

    await sequence.run(check=check)

    assert sequence.parts == [(FIRST, COUNT)]
    assert sequence.is_perfect()


async def test_frames_that_the_jobs_own_check_refuses_are_not_kept(sequence: Sequence) -> None:
    count = "import os, sys; sys.exit(0 if os.path.exists(sys.argv[1]) and len(os.listdir(sys.argv[2])) == 12 else 4)"
    check = (sys.executable, "-c", count, str(sequence.gate), "{output_dir}")
    with pytest.raises(AttemptError, match="exited with code 4"):
        await sequence.run(check=check)
    assert sequence.kept.verified_files().files == {}
    sequence.gate.touch()

    await sequence.run(check=check)

    assert sequence.parts == [(FIRST, COUNT), (FIRST, COUNT)]
    assert sequence.is_perfect()


async def test_resume_by_chunk_keeps_nothing(sequence: Sequence) -> None:
    await sequence.interrupted(119, resume=ResumeUnit.CHUNK)
    assert not is_there(sequence.kept.path)

    await sequence.run(resume=ResumeUnit.CHUNK)

    assert sequence.parts == [(FIRST, COUNT), (FIRST, COUNT)]
    assert sequence.is_perfect()


async def test_a_command_that_numbers_files_itself_is_run_for_the_whole_chunk(sequence: Sequence) -> None:
    numbered = ("--numbered-from", str(FIRST))
    await sequence.interrupted(119, *numbered)

    await sequence.run(*numbered)

    assert sequence.parts == [(FIRST, COUNT), (119, 5), (FIRST, COUNT)]
    assert sequence.is_perfect()


async def test_a_loser_takes_over_what_the_winner_has_published(sequence: Sequence) -> None:
    waits = ("--gate", str(sequence.gate), "--gate-at", "118")
    slow = asyncio.ensure_future(sequence.attempt(*waits).run(sequence.watcher))
    await eventually(lambda: bool(sequence.ledger.lines("waiting")), "the first attempt is at work")

    quick = await sequence.attempt().run(Watcher())
    sequence.gate.touch()
    late = await slow

    assert late == quick
    assert sequence.is_perfect()


async def test_a_second_cancel_cuts_no_cleaning_up_short(sequence: Sequence) -> None:
    waits = ("--gate", str(sequence.gate), "--gate-at", "119")
    attempt = asyncio.ensure_future(sequence.attempt(*waits).run(sequence.watcher))
    await eventually(lambda: bool(sequence.ledger.lines("waiting")), "frame 119 is begun")

    while not attempt.done():
        attempt.cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert not any(map(alive, sequence.ledger.pids))
    assert not is_there(sequence.folder.attempts_dir(KEY))
    assert sequence.kept.verified_files().files.keys() == set(range(7))


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "exr", *(pytest.param(more, marks=pytest.mark.slow) for more in ("tiff", "bmp"))]
)
async def test_ffmpeg_sequences_are_bit_identical_however_often_they_are_interrupted(
    sequence: Sequence, suffix: str
) -> None:
    def fields(pace: str) -> dict[str, Any]:
        source = ("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=2")
        picture = ("-vf", f"trim=start_frame={{start}},setpts=PTS-STARTPTS{pace}", "-frames:v", "{count}", "-q:v", "2")
        command = (*source, *picture, "-start_number", "{start}", "{output}")
        return {"command": command, "chunk_output": "frames/{start:06}/f_{frame:06}." + suffix}

    await sequence.run(**fields(""))
    undisturbed = sequence.outputs
    for path in (sequence.store / "frames" / f"{FIRST:06}").iterdir():
        path.unlink()
    for record in (sequence.folder.sidecar_path(KEY), sequence.folder.claim_path(KEY)):
        sequence.folder.store.remove(record)

    def kept() -> int:
        return len(list(Path(sequence.kept.path).glob(f"*.{suffix}")))

    for wanted in (2, 5):
        attempt = asyncio.ensure_future(sequence.attempt(**fields(",realtime")).run(sequence.watcher))
        await eventually(partial(lambda attempt, count: attempt.done() or kept() >= count, attempt, wanted), "keeping")
        assert not attempt.done()
        attempt.cancel()
        await asyncio.wait([attempt])
    before = sequence.kept.verified_files().files
    assert 5 <= len(before) < COUNT
    inodes = {path.stat().st_ino for path in before.values()}
    await sequence.run(**fields(""))

    assert sequence.outputs == undisturbed
    assert inodes <= {path.stat().st_ino for path in (sequence.store / "frames" / f"{FIRST:06}").iterdir()}
