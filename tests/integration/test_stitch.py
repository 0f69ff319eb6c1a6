"""Stitching: the film is made of proven chunks or not at all, and the culprit is named."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.farm import Farm, until, until_state
from support.jobs.gates import behind_gate

from longtake import FrameRange, JobHandle, JobState, RenderJobSpec, Retry
from longtake.cli.formatting import describe_end
from longtake.models.policies import FailurePolicy

pytestmark = pytest.mark.integration


RENDERER = (
    *("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x64:r=25"),
    *("-frames:v", "{count}", "-c:v", "libx264", "-preset", "ultrafast", "{output}"),
)


def film_job(farm: Farm, *, suffix: str = "mp4", **fields: Any) -> RenderJobSpec:
    """A job of four chunks of ten frames; the last one waits for the gate."""
    return RenderJobSpec.model_validate(
        {
            "name": "film",
            "frames": FrameRange(count=40, per_chunk=10),
            "fps": "25",
            "command": behind_gate(farm.gate, RENDERER, from_chunk=3),
            "chunk_output": "chunks/{chunk:06}." + suffix,
            "output": f"film.{suffix}",
            "base_dir": str(farm.store),
            **fields,
        }
    )


async def nearly_done(farm: Farm, **fields: Any) -> JobHandle:
    """Return a job of which three chunks are published and the last one waits."""
    job = await farm.submit(film_job(farm, **fields))
    await until(job, lambda status: status.completed_chunks == 3)
    return job


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def same_size_but_broken(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": truncate,
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "overwritten": same_size_but_broken,
}
# Each damage and each container once; `make chaos` has the rest.
PAIRS = [("mp4", "missing"), ("mp4", "empty"), ("mkv", "overwritten"), ("ts", "truncated")]
MORE_PAIRS = [pair for pair in product(("mp4", "mkv", "ts"), DAMAGES) if pair not in PAIRS]


@pytest.mark.parametrize(
    ("suffix", "damage"), [*PAIRS, *(pytest.param(*pair, marks=pytest.mark.chaos) for pair in MORE_PAIRS)]
)
async def test_a_damaged_chunk_is_named_and_a_retry_renders_it_alone(farm: Farm, suffix: str, damage: str) -> None:
    job = await nearly_done(farm, suffix=suffix)
    culprit = farm.store / f"chunks/000001.{suffix}"
    before = farm.sidecars(job.id)
    DAMAGES[damage](culprit)
    farm.open_gate()

    status = await until_state(job, JobState.FAILED)

    assert "no film was made: chunk 1" in (status.error or "")
    assert f"longtake retry {job.id}" in (status.error or "")
    assert not (farm.store / f"film.{suffix}").exists()
    status = await until_state(await farm.render.retry(job.id), JobState.COMPLETED)
    assert status.result is not None
    assert status.result.frames == 40
    after = farm.sidecars(job.id)
    assert {name for name in after if after[name] != before.get(name)} == {"000001.json", "000003.json"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("-s 32x32", "has another size: 32x32 instead of 64x64"),
        ("-pix_fmt yuv444p", "another codec profile"),
        ("-x264-params ref=5:cabac=0", "was encoded with other settings"),
    ],
)
async def test_a_chunk_that_does_not_fit_the_others_is_named(farm: Farm, settings: str, sentence: str) -> None:
    farm.open_gate()
    script = f'o=; [ "$1" = 2 ] && o="{settings}"; shift; out=$1; shift; "$@" $o "$out"'
    encode = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    source = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25", "-frames:v", "{count}")
    ffmpeg = ("ffmpeg", "-nostdin", "-v", "error", *source, *encode)

    status = await farm.run(film_job(farm, command=("sh", "-c", script, "sh", "{chunk}", "{output}", *ffmpeg)))

    assert status.state is JobState.FAILED
    assert status.completed_chunks == 4
    assert "no film was made: chunk 2" in (status.error or "")
    assert sentence in (status.error or "")
    assert not (farm.store / "film.mp4").exists()


async def test_a_chunk_of_another_rate_is_a_failed_attempt(farm: Farm) -> None:
    farm.open_gate()
    status = await farm.run(film_job(farm, fps="30", retry=Retry(attempts=1)))

    assert status.state is JobState.FAILED
    assert "25" in (status.error or "")
    assert "30" in (status.error or "")
    assert not (farm.store / "chunks/000000.mp4").exists()


async def test_a_film_with_gaps_is_made_only_when_that_was_asked_for(farm: Farm) -> None:
    whole = film_job(farm)
    job = whole.model_copy(
        update={
            "command": ("sh", "-c", '[ "$0" != 2 ] || exit 1; exec "$@"', "{chunk}", *RENDERER),
            "retry": whole.retry.model_copy(update={"attempts": 1}),
            "on_chunk_failure": FailurePolicy.CONTINUE,
            "allow_gaps": True,
        }
    )

    status = await farm.run(job)

    assert status.state is JobState.COMPLETED, status.error
    assert status.result is not None
    assert status.result.missing_chunks == ((2, 3),)
    assert status.result.frames == 30


@pytest.mark.parametrize(
    ("merge", "said"),
    [
        ('cp chunks/000000.mp4 "$1"', "holds 10 frames instead of 40; change merge_command"),
        ("true", "film.mp4 is missing; change merge_command"),
    ],
)
async def test_a_merge_that_ends_well_and_makes_no_such_film_is_run_once(farm: Farm, merge: str, said: str) -> None:
    farm.open_gate()
    runs = farm.store.parent / "merges.txt"
    command = ("sh", "-c", f"echo run >> {runs}; {merge}", "sh", "{output}")
    status = await farm.run(film_job(farm, merge_command=command))

    assert runs.read_text() == "run\n"
    assert status.needs_change
    assert said in (status.error or "")
    assert "longtake retry" not in describe_end(status)


async def test_a_film_that_was_published_is_not_made_again(farm: Farm) -> None:
    farm.open_gate()
    job = await farm.submit(film_job(farm))
    await until_state(job, JobState.COMPLETED)
    film = farm.store / "film.mp4"
    before = film.stat()

    # The same work under another id takes over what is proven.
    status = await farm.run(film_job(farm, if_exists="reuse"))

    assert status.state is JobState.COMPLETED, status.error
    assert status.skipped_chunks == 4
    assert film.stat().st_ino == before.st_ino


async def test_files_of_another_job_are_refused_by_name(farm: Farm) -> None:
    farm.open_gate()
    first = await farm.submit(film_job(farm))
    await until_state(first, JobState.COMPLETED)

    status = await farm.run(film_job(farm, name="other", encode=(), fps="25", if_exists="refuse"))

    assert status.state is JobState.FAILED
    assert "000000.mp4 is there already, made by job " + first.id in (status.error or "")


async def test_replace_sets_the_old_files_aside(farm: Farm) -> None:
    farm.open_gate()
    (farm.store / "chunks").mkdir()
    (farm.store / "chunks/000000.mp4").write_text("an old file")

    status = await farm.run(film_job(farm, if_exists="replace"))

    assert status.state is JobState.COMPLETED, status.error
    aside = list((farm.store / ".longtake" / status.id / "aside").iterdir())
    assert [path.read_text() for path in aside] == ["an old file"]
