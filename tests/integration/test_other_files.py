"""Files that a renderer made besides its outputs are named and kept: they were deleted without a word."""

import asyncio
from pathlib import Path

import pytest
from support.command_line import command_line
from support.farm import Farm, until
from support.jobs.images import png

from longtake import FrameRange, JobState, JobStatus, RenderJobSpec
from longtake.stores.store import Store
from longtake.transfer.upload_inputs import upload_inputs

pytestmark = pytest.mark.integration

# Copies a picture to each name that it prints for a frame, as the cases of people who render for a living do.
EACH_FRAME = 'for f in $(seq "$2" "$3"); do n=$(printf %04d "$f"); {copies}; done'
COPIES = {
    "several files a frame": 'cp "$0" "$1/beauty_$n.png"; cp "$0" "$1/depth_$n.png"',
    "a folder for each layer": 'mkdir -p "$1/../depth"; cp "$0" "$1/beauty_$n.png"; cp "$0" "$1/../depth/f_$n.png"',
    "another padding": 'cp "$0" "$1/beauty_$f.png"',
}

PUBLISHED = "outputs or also would have them published"


def others_of(farm: Farm, status: JobStatus) -> Path:
    return farm.store / f".longtake/{status.id}/aside/others"


def sequence(farm: Farm, copies: str) -> RenderJobSpec:
    """Return a job of two chunks of three pictures each, whose renderer writes these files."""
    picture = farm.store / "picture.png"
    picture.write_bytes(png(1))
    script = EACH_FRAME.replace("{copies}", copies)
    return farm.job(
        command=("sh", "-c", script, str(picture), "{output_dir}", "{start}", "{last}"),
        chunk_output="beauty/beauty_{frame:04}.png",
        frames=FrameRange(first=1, count=6, per_chunk=3),
    )


@pytest.mark.parametrize(
    ("copies", "named", "kept"),
    [
        (
            "several files a frame",
            "depth_0004.png, depth_0005.png and 1 more",
            "000001.beauty.depth_0006",
        ),
        ("a folder for each layer", "depth/f_0004.png, depth/f_0005.png and 1 more", "000001.depth.f_0006"),
    ],
)
async def test_layers_besides_the_outputs_are_kept_and_named_in_log_and_status(
    farm: Farm, copies: str, named: str, kept: str
) -> None:
    status = await farm.run(sequence(farm, COPIES[copies]))

    assert status.state is JobState.COMPLETED, status.error
    assert len(list((farm.store / "beauty").iterdir())) == 6
    others = others_of(farm, status)
    assert len(list(others.iterdir())) == 6
    assert (others / f"{kept}.png.0").read_bytes() == png(1)
    said = f"the renderer made files besides its outputs: {named}, kept in {others}; {PUBLISHED}"
    assert f"chunk 1: {said}" in status.notices
    (log,) = (farm.store / f".longtake/{status.id}/logs").glob("000001.*.log")
    assert f"longtake: {said}\n" in log.read_text()


async def test_a_failed_try_names_and_keeps_what_was_written_instead(farm: Farm) -> None:
    # One chunk after the other: the first one to fail ends the job.
    status = await farm.run(sequence(farm, COPIES["another padding"]).model_copy(update={"max_parallel": 1}))

    assert status.state is JobState.FAILED
    others = others_of(farm, status)
    said = "beauty_0001.png is missing; the renderer wrote beauty_1.png, beauty_2.png and 1 more"
    assert f"{said}, kept in {others}" in status.failures[0].error
    assert "; write {frame} in the path of the output, or have the renderer write 4 digits" in status.failures[0].error
    assert (others / "000000.beauty.beauty_3.png.0").read_bytes() == png(1)


async def test_a_renderer_that_fails_names_and_keeps_what_it_wrote(farm: Farm) -> None:
    command = ("sh", "-c", 'echo x > "$0/frame.exr"; seq 2000; echo "error: no license"; exit 3', "{output_dir}")
    status = await farm.run(farm.job(command=command, chunks=1))

    others = others_of(farm, status)
    assert "sh exited with code 3" in status.failures[0].error
    assert f"; the renderer wrote frame.exr, kept in {others}" in status.failures[0].error
    assert (others / "000000.out.frame.exr.0").read_text() == "x\n"


async def test_files_that_a_bucket_has_no_place_for_are_kept_in_it(cloud: Farm, bucket: str) -> None:
    command = ("sh", "-c", 'echo x > "$0"; echo depth > "$(dirname "$0")/depth_$1.txt"', "{output}", "{chunk}")
    status = await cloud.run(cloud.job(command=command, chunks=1, store=bucket, base_dir=None))

    assert status.state is JobState.COMPLETED, status.error
    others = f"{bucket}/.longtake/{status.id}/aside/others"
    said = f"the renderer made files besides its outputs: depth_0.txt, kept in {others}; {PUBLISHED}"
    assert f"chunk 0: {said}" in status.notices


async def test_files_in_the_working_folder_of_a_bucket_job_are_kept_in_it(
    cloud: Farm, bucket: str, films: Store, tmp_path: Path
) -> None:
    """It is removed with the attempt; that of a job in a directory is the directory."""
    here = tmp_path / "shot"
    await asyncio.to_thread(lay_out, here, {"scene.txt": "an input", "textures/wood.txt": "another"})
    made = "mkdir __pycache__; echo z > __pycache__/scene.pyc; echo y > render.stats; rm scene.txt; echo x > scene.txt"
    command = ("sh", "-c", f'echo x > "$0"; {made}', "{output}")
    merge = ("sh", "-c", 'cat out/*.txt > "$0"; echo edl > film.edl', "{output}")
    inputs = ("scene.txt", "textures")
    job = cloud.job(command=command, chunks=1, store=bucket, base_dir=str(here), inputs=inputs)
    job = job.model_copy(update={"merge_command": merge, "output": "film.txt"})
    status = await cloud.run(await asyncio.to_thread(upload_inputs, job))

    assert status.state is JobState.COMPLETED, status.error
    others = f"{bucket}/.longtake/{status.id}/aside/others"
    said = "the renderer made files besides its outputs"
    assert f"chunk 0: {said}: ./render.stats, ./scene.txt, kept in {others}; {PUBLISHED}" in status.notices
    assert f"film: {said}: ./film.edl, kept in {others}" in status.notices
    kept = await asyncio.to_thread(lambda: {file.name: films.read(file.location) for file in films.files(others)})
    assert kept == {
        "000000.render.stats.0": b"y\n",
        "000000.scene.txt.0": b"x\n",
        "film.film.edl.0": b"edl\n",
    }


def lay_out(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


async def test_a_renderer_that_writes_into_its_working_folder_of_a_bucket_job_is_told_so(
    cloud: Farm, bucket: str
) -> None:
    command = ("sh", "-c", "mkdir -p out; echo x > out/000000.text", "{output}")
    job = cloud.job(command=command, chunks=1, store=bucket, base_dir=None, retry={"attempts": 1})
    status = await cloud.run(job)

    assert status.state is JobState.FAILED
    said = "000000.txt is missing: the renderer ended well and wrote nothing; the renderer wrote ./out/000000.text"
    assert f"{said}, kept in" in status.failures[0].error


@pytest.mark.parametrize(("script", "state"), [('echo x > "$1"', JobState.COMPLETED), ("true", JobState.FAILED)])
async def test_a_merge_command_that_makes_other_files_says_so(farm: Farm, script: str, state: JobState) -> None:
    merge = ("sh", "-c", f'echo y > "$(dirname "$1")/film.edl"; {script}', "sh", "{output}")
    status = await farm.run(farm.job(chunks=1, output="film.txt", merge_command=merge))

    others = others_of(farm, status)
    assert status.state is state, status.error
    if state is JobState.COMPLETED:
        said = f"the renderer made files besides its outputs: film.edl, kept in {others}"
        assert f"film: {said}" in status.notices
        assert status.result is not None
        assert status.result.others == said
    else:
        said = f"wrote no film.txt; change merge_command or output; the renderer wrote film.edl, kept in {others}"
        assert said in (status.error or "")
    assert (others / "film.film.edl.0").read_text() == "y\n"


async def test_delete_removes_what_renderers_made_and_keeps_what_was_in_the_way(farm: Farm) -> None:
    (farm.store / "out").mkdir()
    (farm.store / "out/000000.txt").write_text("somebody's")
    command = ("sh", "-c", 'echo x > "$0" && echo depth > "$(dirname "$0")/depth.txt"', "{output}")
    job = await farm.submit(farm.job(command=command, chunks=1, if_exists="replace"))
    status = await until(job, lambda status: status.state.has_ended)
    assert status.state is JobState.COMPLETED, status.error
    async with command_line(farm) as cli:
        done = await cli("delete", job.id, "--yes")

    assert done.code == 0, done.err
    left = [path for path in farm.store.rglob("*") if path.is_file()]
    assert [path.read_text() for path in left] == ["somebody's"]
