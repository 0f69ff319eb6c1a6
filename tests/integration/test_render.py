"""Rendering: films equal to unchunked ones, failures that are told from successes, retries by the job's rules."""

import asyncio
import subprocess
from typing import Any

import pytest
from support.farm import Farm, alive, until_state
from support.jobs.films import PICTURE, frame_digests, lossless_job

from longtake import ChunkSpec, FrameRange, JobState, RenderJobSpec, Retry, Timeouts
from longtake.cli.formatting import describe_end
from longtake.models.policies import FailurePolicy

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
async def test_a_chunked_film_has_exactly_the_frames_of_an_unchunked_one(farm: Farm, ffmpeg: str, suffix: str) -> None:
    status = await farm.run(lossless_job(farm.store, frames=35, per_chunk=10, suffix=suffix))

    assert status.state is JobState.COMPLETED, status.error
    assert status.total_chunks == status.completed_chunks == 4
    assert status.result is not None
    assert status.result.frames == 35
    film = frame_digests(ffmpeg, "-i", str(status.result.output))
    assert film == frame_digests(ffmpeg, "-f", "lavfi", "-i", PICTURE, "-frames:v", "35", "-pix_fmt", "yuv420p")


async def test_a_chunk_that_fails_twice_succeeds_at_its_third_try(farm: Farm) -> None:
    retry = Retry(attempts=3, initial_seconds=0.01)
    status = await farm.run(farm.job(chunks=3, options=("--fail-times", "2", "--only", "1"), retry=retry))

    assert status.state is JobState.COMPLETED, status.error
    assert sorted(farm.ledger.started) == [0, 1, 1, 1, 2]


async def test_a_chunk_that_always_fails_fails_the_job_and_stops_the_rest(farm: Farm) -> None:
    retry = Retry(attempts=2, initial_seconds=0.01)
    options = ("--say", "no codec here", "--exit", "3", "--only", "1")
    status = await farm.run(farm.job(chunks=30, options=options, retry=retry, max_parallel=2))

    assert status.state is JobState.FAILED
    assert status.error is not None
    assert "chunk 1 failed after 2 tries" in status.error
    assert "exited with code 3: no codec here" in status.error
    assert farm.ledger.started.count(1) == 2
    assert len(set(farm.ledger.started)) < 30


async def test_continue_renders_the_rest_and_names_the_failed_chunks(farm: Farm) -> None:
    job = farm.job(chunks=8, options=("--exit", "3", "--only", "2", "--only", "5"))
    status = await farm.run(job.model_copy(update={"on_chunk_failure": FailurePolicy.CONTINUE}))

    assert status.state is JobState.FAILED
    assert status.completed_chunks == 6
    assert status.failed_chunks == 2
    assert "2 chunks failed (2, 5)" in (status.error or "")
    assert {failure.chunk for failure in status.failures} == {2, 5}


async def test_job_attempts_take_up_only_the_failed_chunks_again(farm: Farm) -> None:
    retry = Retry(attempts=1, job_attempts=3)
    status = await farm.run(farm.job(chunks=6, options=("--fail-times", "2", "--only", "4"), retry=retry))

    assert status.state is JobState.COMPLETED, status.error
    assert sorted(farm.ledger.started) == [0, 1, 2, 3, 4, 4, 4, 5]


async def test_a_fatal_exit_code_is_not_tried_again(farm: Farm) -> None:
    retry = Retry(attempts=5, initial_seconds=0.01, fatal_exit_codes=(9,))
    status = await farm.run(farm.job(chunks=1, options=("--exit", "9"), retry=retry))

    assert status.state is JobState.FAILED
    assert "fatal_exit_codes" in (status.error or "")
    assert farm.ledger.started == [0]


async def test_a_fatal_pattern_in_the_log_is_not_tried_again(farm: Farm) -> None:
    retry = Retry(attempts=5, initial_seconds=0.01, fatal_patterns=("licen[cs]e (expired|missing)",))
    status = await farm.run(farm.job(chunks=1, options=("--say", "the license expired", "--exit", "1"), retry=retry))

    assert status.state is JobState.FAILED
    assert "license expired" in (status.error or "")
    assert farm.ledger.started == [0]


async def test_a_chunk_that_takes_too_long_is_stopped(farm: Farm) -> None:
    timeouts = Timeouts(chunk_seconds=0.5, grace_seconds=1)
    status = await farm.run(farm.job(chunks=1, options=("--gate", str(farm.gate)), timeouts=timeouts))

    assert status.state is JobState.FAILED
    assert "took longer than timeouts.chunk_seconds, 0.5 s" in (status.error or "")


async def test_a_chunk_that_stands_still_is_stopped(farm: Farm) -> None:
    timeouts = Timeouts(stall_seconds=1, grace_seconds=1)
    status = await farm.run(farm.job(chunks=1, options=("--seconds", "300"), timeouts=timeouts))

    assert status.state is JobState.FAILED
    assert "stood still for timeouts.stall_seconds, 1 s" in (status.error or "")


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("missing", "is missing"),
        ("empty", "is empty"),
    ],
)
async def test_an_exit_code_of_zero_is_not_believed(farm: Farm, what: str, sentence: str) -> None:
    status = await farm.run(farm.job(chunks=2, options=("--output-is", what, "--only", "1")))

    assert status.state is JobState.FAILED
    assert "chunk 1 failed" in (status.error or "")
    assert sentence in (status.error or "")
    assert not farm.is_finished(status.id, 1)


@pytest.mark.parametrize(
    ("frames", "cut_bytes", "sentence"),
    [(9, 0, "holds 9 frames instead of 10"), (10, 300, ""), (10, 10**9, "is empty")],
    ids=["short", "truncated", "empty"],
)
async def test_a_video_that_is_not_whole_is_a_failed_attempt(
    farm: Farm, ffmpeg: str, frames: int, cut_bytes: int, sentence: str
) -> None:
    prepared = farm.store.parent / "prepared.mp4"
    render = ["-f", "lavfi", "-i", "testsrc2=s=64x64:r=30", "-frames:v", str(frames), str(prepared)]
    await asyncio.to_thread(subprocess.run, [ffmpeg, "-nostdin", "-v", "error", *render], check=True)
    whole = prepared.read_bytes()
    prepared.write_bytes(whole[: max(0, len(whole) - cut_bytes)])
    job = farm.job(
        options=("--copy-from", str(prepared)),
        frames=FrameRange(count=10, per_chunk=10),
        fps=30,
        chunk_output="{chunk}.mp4",
    )

    status = await farm.run(job)

    assert status.state is JobState.FAILED
    assert "chunk 0 failed after 1 try" in (status.error or "")
    assert sentence in (status.error or "")
    assert not (farm.store / "0.mp4").exists()


async def test_what_a_renderer_leaves_running_is_stopped_when_its_chunk_is_done(farm: Farm) -> None:
    job = await farm.submit(farm.job(chunks=1, options=("--child",)))
    await until_state(job, JobState.COMPLETED)

    (line,) = farm.ledger.lines("child")
    assert not alive(int(line[2]))


async def test_a_wrong_rate_is_tried_once_and_no_retry_is_advised(farm: Farm, ffmpeg: str) -> None:
    prepared = farm.store.parent / "prepared.mp4"
    render = ["-f", "lavfi", "-i", "testsrc2=s=64x64:r=25", "-frames:v", "10", str(prepared)]
    await asyncio.to_thread(subprocess.run, [ffmpeg, "-nostdin", "-v", "error", *render], check=True)
    options = ("--copy-from", str(prepared))
    fields: dict[str, Any] = {"frames": FrameRange(count=10, per_chunk=10), "fps": 30, "chunk_output": "{chunk}.mp4"}

    status = await farm.run(farm.job(options=options, retry=Retry(attempts=4, initial_seconds=0.01), **fields))

    assert farm.ledger.started == [0]
    assert status.needs_change
    assert [failure.needs_change for failure in status.failures] == [True]
    assert "it would be the same again, so change the command or fps" in (status.error or "")
    assert describe_end(status).endswith(f"a retry of {status.id} would fail the same way")


async def test_chunks_that_do_not_fit_together_advise_no_retry(farm: Farm, ffmpeg: str) -> None:
    def chunk(start: int, size: str) -> ChunkSpec:
        source = ("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25", "-frames:v", "5")
        return ChunkSpec(start=start, count=5, command=("ffmpeg", "-nostdin", "-v", "error", *source, "{output}"))

    job = RenderJobSpec(
        chunks=(chunk(0, "64x64"), chunk(5, "96x64")),
        fps="25",
        chunk_output="{chunk}.mp4",
        output="film.mp4",
        base_dir=str(farm.store),
    )
    status = await farm.run(job)

    assert status.state is JobState.FAILED
    assert "render the job under another id with one setting for all chunks" in (status.error or "")
    assert status.needs_change
    assert "longtake retry" not in describe_end(status)


# A renderer that writes its output elsewhere in its folder and leaves a link to it under the name it was given.
LINKED = ("sh", "-c", 'printf chunk > "$1.real" && ln -s "$(basename "$1").real" "$1"', "sh", "{output}")


async def test_an_output_that_is_a_link_is_published_as_the_file_it_names(farm: Farm) -> None:
    status = await farm.run(farm.job(chunks=2).model_copy(update={"command": LINKED}))

    assert status.state is JobState.COMPLETED, status.error
    for chunk in range(2):
        output = farm.store / f"out/{chunk:06}.txt"
        assert not output.is_symlink()
        assert output.read_text() == "chunk"


async def test_frames_and_videos_that_are_links_are_published_as_files(farm: Farm, ffmpeg: str) -> None:
    picture = farm.store.parent / "picture.png"
    video = farm.store.parent / "video.mp4"
    source = (ffmpeg, "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", PICTURE)
    for options in (("1", str(picture)), ("2", str(video))):
        made = await asyncio.create_subprocess_exec(*source, "-frames:v", *options)
        assert await made.wait() == 0
    frames = (
        *("sh", "-c", 'cd "$1" && for f in 0 1; do cp "$2" "real$f" && ln -s "real$f" "$f.png"; done', "sh"),
        *("{output_dir}", str(picture)),
    )
    videos = ("sh", "-c", 'cp "$2" "$1.real" && ln -s "$1.real" "$1"', "sh", "{output}", str(video))
    jobs = [
        farm.job(command=frames, chunk_output="frames/{frame}.png", frames=FrameRange(count=2, per_chunk=2)),
        farm.job(command=videos, chunk_output="{chunk}.mp4", frames=FrameRange(count=2, per_chunk=2), fps=30),
    ]

    for job in jobs:
        status = await farm.run(job)
        assert status.state is JobState.COMPLETED, status.error

    published = [farm.store / name for name in ("frames/0.png", "frames/1.png", "0.mp4")]
    assert not any(path.is_symlink() for path in published)
    assert [path.read_bytes() for path in published] == [*[picture.read_bytes()] * 2, video.read_bytes()]


async def test_an_output_that_is_a_link_out_of_its_folder_is_refused_by_name(farm: Farm) -> None:
    secret = farm.store.parent / "secret.txt"
    secret.write_text("secret")
    command = ("ln", "-s", str(secret), "{output}")
    status = await farm.run(farm.job(chunks=1).model_copy(update={"command": command}))

    assert status.state is JobState.FAILED
    assert f"000000.txt leads by a symbolic link to {secret}, outside of the attempt's own folder" in (
        status.error or ""
    )
    assert not (farm.store / "out/000000.txt").exists()


# Commands that end well, and would write the same again: files of other names, a link that leads out, a folder.
HOPELESS = {
    "another name": ('echo x > "$1/picture.txt"', "so change the command or chunk_output"),
    "a link out": ('ln -s /etc/hostname "$1/000000.txt"', "let the renderer write the file itself"),
    "a folder": ('mkdir "$1/000000.txt"', "let the renderer write a file there"),
}


@pytest.mark.parametrize("kind", HOPELESS)
async def test_outputs_that_would_be_the_same_again_are_tried_once(farm: Farm, kind: str) -> None:
    script, said = HOPELESS[kind]
    command = ("sh", "-c", f'echo "start 0 $$" >> {farm.ledger.path}; {script}', "sh", "{output_dir}")
    retry = Retry(attempts=3, initial_seconds=0.01)
    status = await farm.run(farm.job(chunks=1, command=command, chunk_output="{chunk:06}.txt", retry=retry))

    assert farm.ledger.started == [0]
    assert status.needs_change
    assert said in (status.error or "")
    assert "longtake retry" not in describe_end(status)


async def test_a_renderer_that_wrote_nothing_may_do_better_the_next_time(farm: Farm) -> None:
    retry = Retry(attempts=2, initial_seconds=0.01)
    status = await farm.run(farm.job(chunks=1, options=("--output-is", "missing"), retry=retry))

    assert farm.ledger.started == [0, 0]
    assert not status.needs_change
    assert "longtake retry" in describe_end(status)
