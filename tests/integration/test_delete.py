"""Deleting what jobs have written, and nothing else: in a bucket and in a folder alike."""

import asyncio
import os
from pathlib import Path

import pytest
from support.command_line import command_line
from support.farm import Farm, until
from support.jobs.stored_jobs import Place

from longtake import BadJobError, JobNotEndedError, JobState
from longtake.models.job_fields import IfExists
from longtake.transfer.delete import delete_job
from longtake.transfer.progress import TransferProgress
from longtake.transfer.upload_inputs import upload_inputs

pytestmark = pytest.mark.integration


async def test_a_deleted_job_leaves_the_store_as_it_was(place: Place, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "scene.txt").write_text("scene")
    place.store.create(place.store.locate("out/notes.txt"), b"mine")
    neighbour = await place.completed(chunk_output="other/{chunk}.txt", output=None, merge_command=None)
    fields = {"inputs": ("scene.txt",), "base_dir": str(tmp_path / "project")} if place.url.startswith("s3://") else {}
    spec = place.job(**fields)
    upload_inputs(spec)
    before = place.files()
    handle = await place.complete(spec)
    assert len(place.files()) > len(before) + 10
    async with command_line(place.farm) as cli:
        unasked = await cli("delete", handle.id)
        assert len(place.files()) > len(before) + 10
        first = await cli("delete", handle.id, "--yes")
        again = await cli("delete", handle.id, "--yes")

    assert (unasked.code, unasked.out, "--yes" in unasked.err) == (2, "", True)
    assert (first.code, first.out.startswith("deleted 4 outputs (")) == (0, True), first.err
    assert "stays in Temporal" in first.err
    assert (again.code, again.out) == (0, f"nothing of {handle.id} is left in {place.url} to be deleted\n")
    assert place.files() == before
    assert (await neighbour.status()).state is JobState.COMPLETED


@pytest.mark.slow
async def test_what_is_not_the_jobs_any_more_stays_and_a_store_that_is_not_the_jobs_is_refused(place: Place) -> None:
    handle = await place.completed()
    with pytest.raises(BadJobError, match="leave it out"):
        await handle.stored_in(str(place.farm.store.parent)).delete()
    place.store.replace(place.store.locate("out/000001.txt"), b"retouched by hand")
    size = len(place.store.read(place.store.locate("out/000002.txt")))
    place.store.replace(place.store.locate("out/000002.txt"), b"z" * size)
    gone = await handle.stored.delete()

    assert gone.files == 2
    assert sorted(gone.left) == [
        f"{place.store.locate(f'out/00000{n}.txt')} is not what the job published" for n in (1, 2)
    ]
    left = [name for name in place.files() if name[-1] != "/"]
    assert left == ["out/000001.txt", "out/000002.txt"]


@pytest.mark.parametrize("place", ["folder", pytest.param("bucket", marks=pytest.mark.slow)], indirect=True)
async def test_outputs_that_two_jobs_have_go_with_the_last_of_them(place: Place) -> None:
    spec = place.job(output=None, merge_command=None)
    maker = await place.complete(spec)
    user = await place.complete(spec.model_copy(update={"if_exists": IfExists.REUSE}))
    outputs = {name: data for name, data in place.files().items() if name.startswith("out/")}
    first = await maker.stored.delete()

    assert {name: data for name, data in place.files().items() if name.startswith("out/")} == outputs
    assert (first.files, len(first.left)) == (0, 3)
    assert f"is a file of job {user.id} too" in first.left[0]
    last = await user.stored.delete()
    assert (last.files, last.left) == (3, ())
    assert place.files() == {}


@pytest.mark.parametrize("place", ["folder", pytest.param("bucket", marks=pytest.mark.slow)], indirect=True)
async def test_the_files_of_a_job_that_replaced_them_stay_though_their_bytes_are_the_same(place: Place) -> None:
    spec = place.job(output=None, merge_command=None)
    first = await place.complete(spec)
    second = await place.complete(spec.model_copy(update={"if_exists": IfExists.REPLACE, "env": {"OTHER": "work"}}))
    gone = await first.stored.delete()

    assert (gone.files, len(gone.left)) == (0, 3)
    names = place.files()
    assert len([name for name in names if name.startswith("out/0")]) == 3
    # What the second one set aside was never its own.
    end = await second.stored.delete()
    assert (end.files, end.left) == (3, ())
    assert end.aside is not None
    assert len([name for name in place.files() if "/aside/" in name and name[-1] != "/"]) == 3


class Cut(Exception):
    """The process ends here."""


@pytest.mark.parametrize("place", ["folder", pytest.param("bucket", marks=pytest.mark.slow)], indirect=True)
async def test_a_delete_that_was_cut_off_anywhere_is_finished_by_the_next(place: Place) -> None:
    handle = await place.completed()
    for step in range(100):
        looks: list[TransferProgress] = []

        def tell(now: TransferProgress, looks: list[TransferProgress] = looks, step: int = step) -> None:
            looks.append(now)
            if len(looks) > step:
                raise Cut

        try:
            await asyncio.to_thread(delete_job, place.url, handle.id, on_progress=tell)
            break
        except Cut:
            continue

    assert step > 8
    assert place.files() == {}


async def test_a_job_that_has_not_ended_is_not_deleted(place: Place) -> None:
    options = ("--gate", str(place.farm.gate))
    handle = await place.farm.submit(place.job(chunks=1, command=place.farm.job(options=options).command))
    await place.farm.ledger.until_started(1)
    with pytest.raises(JobNotEndedError, match=rf"is running, .* `longtake cancel {handle.id} --wait` ends it"):
        await handle.stored.delete()
    async with command_line(place.farm) as cli:
        ran = await cli("delete", handle.id, "--yes")
    place.farm.open_gate()
    status = await until(handle, lambda status: status.state.has_ended)

    assert (ran.code, ran.out) == (2, "")
    assert status.state is JobState.COMPLETED


@pytest.mark.slow
async def test_a_job_that_temporal_has_forgotten(place: Place, tmp_path: Path) -> None:
    # What prints nothing leaves no log.
    merge = ("sh", "-c", 'echo merged; cat out/*.txt > "$1"', "sh", "{output}")
    handle = await place.completed(options=("--say", "rendered"), merge_command=merge)
    await place.forget(handle)
    async with command_line(place.farm) as cli:
        unnamed = await cli("delete", handle.id, "--yes")
        fetched = await cli("fetch", handle.id, str(tmp_path / "home"), "--store", place.url)
        ran = await cli("delete", handle.id, "--yes", "--store", place.url)
        again = await cli("delete", handle.id, "--yes", "--store", place.url)

    assert (unnamed.code, "--store" in unnamed.err) == (4, True)
    assert (fetched.code, fetched.out[:8]) == (0, "8 files "), fetched.err
    assert (ran.code, again.code) == (0, 0), ran.err
    assert place.files() == {}


async def test_outputs_outside_the_folder_go_too_if_the_job_names_them(cloud: Farm, store: Path) -> None:
    base = store / "project"
    base.mkdir()
    handle = await cloud.submit(cloud.job(base_dir=str(base), chunk_output=f"{store}/elsewhere/{{chunk}}.txt"))
    await handle.result()
    found = await handle.stored.fetch(store.parent / "home", logs=False)
    assert len(list((store.parent / "home").rglob("*.txt"))) == 4
    assert not found.lost
    gone = await handle.stored.delete()

    assert (gone.files, gone.left) == (4, ())
    assert os.listdir(base) == []
