"""Several files a frame: all are proven, published, resumed, made a film of, fetched and deleted."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.command_line import command_line
from support.farm import Farm, until
from support.jobs.images import png

from longtake import FrameRange, JobState, JobStatus, RenderJobSpec

pytestmark = pytest.mark.integration

# Writes beauty and depth of each frame, and what else the words behind tell; with a count in a file, fails at a frame.
SCRIPT = """
mkdir -p "$1/../depth" "$1/meta"
for f in $(seq "$2" "$3"); do
  n=$(printf %04d "$f")
  cp "$0" "$1/f_$n.png"
  if [ "$f" = "$5" ] && [ ! -e "$4/failed" ]; then touch "$4/failed"; exit 7; fi
  cp "$4/depth.png" "$1/../depth/f_$n.png"
  echo "$f" >> "$4/rendered"
  EXTRA
done
"""
OUTPUTS = {"beauty": "out/beauty/f_{frame:04}.png", "depth": "out/depth/f_{frame:04}.png"}


def layers(farm: Farm, extra: str = ":", fail_at: int = -1, **fields: Any) -> RenderJobSpec:
    """Return a job of two chunks of three frames, with two pictures of different sizes each."""
    place = farm.store.parent / f"{farm.store.name}-own"
    place.mkdir(exist_ok=True)
    (place / "beauty.png").write_bytes(png(1, size=32))
    (place / "depth.png").write_bytes(png(2, size=16))
    script = SCRIPT.replace("EXTRA", extra)
    words = (str(place / "beauty.png"), "{output_dir}", "{start}", "{last}", str(place), str(fail_at))
    return farm.job(
        command=("sh", "-c", script, *words),
        chunk_output=None,
        frames=FrameRange(first=1, count=6, per_chunk=3),
        **{"outputs": OUTPUTS, **fields},
    )


def published(farm: Farm) -> list[str]:
    files = (path.relative_to(farm.store) for path in farm.store.rglob("*") if path.is_file())
    return sorted(str(path) for path in files if path.parts[0] != ".longtake")


EXPECTED = sorted(f"out/{layer}/f_000{n}.png" for layer in ("beauty", "depth") for n in range(1, 7))


async def done(farm: Farm, job: RenderJobSpec) -> JobStatus:
    status = await farm.run(job)
    assert status.state is JobState.COMPLETED, status.error
    return status


async def test_all_files_of_a_frame_are_published_fetched_and_deleted(farm: Farm, tmp_path: Path) -> None:
    ways: tuple[tuple[str, Any], ...] = (("named", OUTPUTS), ("list", list(OUTPUTS.values())))
    for way, outputs in ways:
        job = await farm.submit(layers(farm, outputs=outputs))
        status = await until(job, lambda status: status.state.has_ended)

        assert status.state is JobState.COMPLETED, (way, status.error)
        assert status.notices == (), way
        assert published(farm) == EXPECTED, way
        sidecar = json.loads(farm.record(job.id, 1))
        assert (sidecar["frames"], len(sidecar["files"])) == (3, 6), way
        assert (sidecar["images"]["width"], sidecar["further"][0]["images"]["width"]) == (32, 16), way
        home = tmp_path / way
        async with command_line(farm) as cli:
            fetched = await cli("fetch", job.id, str(home))
            deleted = await cli("delete", job.id, "--yes")
        assert (fetched.code, deleted.code) == (0, 0), (way, fetched.err, deleted.err)
        here = (path.relative_to(home) for path in (home / "out").rglob("*") if path.is_file())
        assert sorted(map(str, here)) == EXPECTED, way
        assert published(farm) == [], way


async def test_a_try_that_ends_between_two_files_of_a_frame_renders_that_frame_again_and_no_other(farm: Farm) -> None:
    await done(farm, layers(farm, fail_at=3, retry={"attempts": 2, "initial_seconds": 0}))

    assert published(farm) == EXPECTED
    rendered = (farm.store.parent / f"{farm.store.name}-own/rendered").read_text().split()
    assert sorted(rendered) == ["1", "2", "3", "4", "5", "6"]


async def test_a_missing_layer_fails_the_try_by_its_name(farm: Farm) -> None:
    outputs = {**OUTPUTS, "normal": "out/normal/f_{frame:04}.png"}
    status = await farm.run(layers(farm, outputs=outputs))

    assert status.state is JobState.FAILED
    error = status.failures[0].error
    assert any(f"f_000{n}.png is missing; it is a file of outputs.normal" in error for n in (1, 4)), error
    assert published(farm) == []


@pytest.mark.slow
async def test_a_damaged_layer_is_rendered_again_with_its_frame_alone(farm: Farm) -> None:
    own = farm.store.parent / f"{farm.store.name}-own"
    merge = ("sh", "-c", 'test -e "$0/ok" && echo film > "$1"', str(own), "{output}")
    job = await farm.submit(layers(farm, output="film.txt", merge_command=merge))
    status = await until(job, lambda status: status.state.has_ended)
    assert status.state is JobState.FAILED
    depth = farm.store / "out/depth/f_0005.png"
    depth.write_bytes(depth.read_bytes()[:-20])
    (own / "rendered").unlink()
    (own / "ok").touch()
    async with command_line(farm) as cli:
        again = await cli("retry", job.id, "--watch")

    assert again.code == 0, again.err
    assert (own / "rendered").read_text().split() == ["5"]
    assert depth.read_bytes() == png(2, size=16)
    (own / "depth.png").write_bytes(png(3, size=16))
    async with command_line(farm) as cli:
        anew = await cli("retry", job.id, "--frames", "2", "--watch")
    assert anew.code == 0, anew.err
    assert (own / "rendered").read_text().split() == ["5", "2"]
    assert (farm.store / "out/depth/f_0002.png").read_bytes() == png(3, size=16)


@pytest.mark.parametrize(("film", "size"), [({}, (32, 32)), ({"from": "depth"}, (16, 16))])
async def test_one_of_the_outputs_makes_the_film(farm: Farm, film: dict[str, str], size: tuple[int, int]) -> None:
    status = await done(farm, layers(farm, output="film.mp4", fps="24", film=film))

    assert status.result is not None
    assert status.result.frames == 6
    record = json.loads((farm.store / f".longtake/{status.id}/film.json").read_bytes())
    assert (record["width"], record["height"]) == size


META = 'echo "frame $f" > "$1/meta/$f.json"; cp "$0" "$1/meta/crypto_$f.png"'
UNDECLARED = [f"out/beauty/meta/{name}" for n in range(1, 7) for name in (f"{n}.json", f"crypto_{n}.png")]


async def test_files_that_nobody_has_named_are_published_where_also_asks_for_them(farm: Farm, tmp_path: Path) -> None:
    job = await farm.submit(layers(farm, META, also=["{output_dir}/**"]))
    status = await until(job, lambda status: status.state.has_ended)

    assert status.state is JobState.COMPLETED, status.error
    assert status.notices == ()
    assert published(farm) == sorted([*EXPECTED, *UNDECLARED])
    async with command_line(farm) as cli:
        fetched = await cli("fetch", job.id, str(tmp_path / "here"))
        deleted = await cli("delete", job.id, "--yes")
    assert (fetched.code, deleted.code) == (0, 0), (fetched.err, deleted.err)
    assert (tmp_path / "here/out/beauty/meta/5.json").read_text() == "frame 5\n"
    assert published(farm) == []


@pytest.mark.parametrize(("if_exists", "state"), [("replace", JobState.COMPLETED), ("reuse", JobState.FAILED)])
async def test_what_an_earlier_job_has_published_is_replaced_where_the_job_says_so(
    farm: Farm, if_exists: str, state: JobState
) -> None:
    first = await done(farm, layers(farm, 'echo first > "$1/n_$f.txt"', also=["**"]))
    for path in farm.store.glob("out/*/*.png"):
        path.unlink()
    status = await farm.run(layers(farm, 'echo second > "$1/n_$f.txt"', also=["**"], if_exists=if_exists))

    assert status.state is state, status.error
    assert (farm.store / "out/beauty/n_5.txt").read_text() == ("second\n" if if_exists == "replace" else "first\n")
    if state is JobState.FAILED:
        assert f"job {first.id} has made it; move it away" in status.failures[0].error


@pytest.mark.slow
async def test_a_bucket_takes_all_files_of_a_frame(cloud: Farm, bucket: str, tmp_path: Path) -> None:
    job = await cloud.submit(
        layers(cloud, 'echo "$f" > "$1/n_$f.txt"', also=["**"], store=bucket, base_dir=None, output="a.mp4", fps="24",
               film={"from": "depth"})
    )  # fmt: skip
    status = await until(job, lambda status: status.state.has_ended)

    assert status.state is JobState.COMPLETED, status.error
    async with command_line(cloud) as cli:
        fetched = await cli("fetch", job.id, str(tmp_path / "here"))
        deleted = await cli("delete", job.id, "--yes")
    assert (fetched.code, deleted.code) == (0, 0), (fetched.err, deleted.err)
    here = (path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*") if path.is_file())
    texts = [f"out/beauty/n_{n}.txt" for n in range(1, 7)]
    assert sorted(str(path) for path in here if path.parts[0] != "logs") == sorted(["a.mp4", *EXPECTED, *texts])
    assert deleted.out.startswith(f"deleted {len(EXPECTED) + len(texts) + 1} outputs")


async def test_what_also_does_not_name_is_kept_aside(farm: Farm) -> None:
    status = await done(farm, layers(farm, META, also=["**/*.json"]))

    assert published(farm) == sorted([*EXPECTED, *(f"out/beauty/meta/{n}.json" for n in range(1, 7))])
    assert "crypto_4.png" in " ".join(status.notices)


async def test_pictures_that_also_names_are_proven(farm: Farm) -> None:
    status = await farm.run(layers(farm, 'head -c 50 "$0" > "$1/meta/crypto_$f.png"', also=["**"]))

    assert status.state is JobState.FAILED
    assert ".png is cut short: 3" in status.failures[0].error
    assert published(farm) == []


@pytest.mark.parametrize(("line", "fits"), [("the same", True), ("frames from $2", False)])
async def test_one_name_in_two_chunks_is_one_file_or_an_error(farm: Farm, line: str, fits: bool) -> None:
    job = layers(farm, f'echo "{line}" > "$1/stats.txt"', also=["{output_dir}/**"], on_chunk_failure="continue")
    status = await farm.run(job)

    assert published(farm).count("out/beauty/stats.txt") == 1
    assert status.state is (JobState.COMPLETED if fits else JobState.FAILED)
    if not fits:
        assert len(status.failures) == 1
        assert "stats.txt belongs to chunk" in status.failures[0].error
        assert "and is another file; have the renderer number such files, or narrow also" in status.failures[0].error


async def test_views_are_outputs_of_their_own(farm: Farm) -> None:
    job = layers(farm, outputs=["out/{view}/f_{frame:04}.png"], views=["beauty", "depth"], output="a.mp4", fps="24")
    await done(farm, job)

    assert published(farm) == ["a.mp4", *EXPECTED]


async def test_two_videos_and_a_text_of_each_chunk_are_proven_and_the_second_is_joined(farm: Farm, ffmpeg: str) -> None:
    made = 'for f in "$3 64" "$4 32"; do set -- "$1" "$2" "$3" "$4" "$5" $f; "$1" -nostdin -v error -f lavfi -i '
    made += 'testsrc2=s="$7x$7":r=24 -frames:v "$2" -c:v libx264 "$6"; done; echo "$2 frames" > "$5"'
    words = ("{count}", "{output.wide}", "{output.small}", "{output.notes}")
    job = farm.job(
        command=("sh", "-c", made, "sh", ffmpeg, *words),
        chunk_output=None,
        outputs={"wide": "w/{chunk}.mp4", "small": "s/{chunk}.mp4", "notes": "n/{chunk}.txt"},
        frames=FrameRange(count=6, per_chunk=3),
        fps="24",
        output="film.mp4",
        film={"from": "small"},
    )
    status = await done(farm, job)

    record = json.loads((farm.store / f".longtake/{status.id}/film.json").read_bytes())
    assert (record["width"], record["frames"]) == (32, 6)
    assert published(farm) == sorted(
        ["film.mp4", *(f"{n}/{c}.{'txt' if n == 'n' else 'mp4'}" for n in "wsn" for c in (0, 1))]
    )


async def test_a_worker_that_is_killed_between_frames_leaves_whole_frames_only(farm: Farm) -> None:
    """What a dead attempt has left is taken over by frames of which all files are there."""
    job = layers(farm, resume="frames")
    handle = await farm.submit(job.model_copy(update={"start_paused": True}))
    await until(handle, lambda status: status.state is JobState.PAUSED)
    left = farm.store / f".longtake/{handle.id}/attempts/000000/dead/1-4/out"
    for layer, frames in (("beauty", (1, 2, 3)), ("depth", (1, 2))):
        (left / layer).mkdir(parents=True)
        for frame in frames:
            picture = png(1, size=32) if layer == "beauty" else png(2, size=16)
            (left / layer / f"f_{frame:04}.png").write_bytes(picture)
    await handle.resume()
    status = await until(handle, lambda status: status.state.has_ended)

    assert status.state is JobState.COMPLETED, status.error
    assert published(farm) == EXPECTED
    rendered = (farm.store.parent / f"{farm.store.name}-own/rendered").read_text().split()
    assert sorted(rendered) == ["3", "4", "5", "6"]
