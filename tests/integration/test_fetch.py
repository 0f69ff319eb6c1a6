"""Bringing home what jobs have made: from a bucket and from a folder alike."""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
from support.command_line import command_line
from support.farm import Farm, until
from support.jobs.stored_jobs import Place, here

from longtake import BadJobError, JobHandle

pytestmark = pytest.mark.integration


async def test_a_completed_job_is_fetched(place: Place, tmp_path: Path) -> None:
    """One job is brought home in every way that leaves it as it is."""
    # What prints nothing leaves no log.
    merge = ("sh", "-c", 'echo merged; cat out/*.txt > "$1"', "sh", "{output}")
    job = await place.completed(options=("--say", "rendered"), merge_command=merge)
    kept = place.files()
    await everything_comes_home_and_comes_once(place, job, kept, tmp_path / "everything")
    await what_is_missing_comes_alone_and_nothing_is_replaced_unasked(job, tmp_path / "missing")
    await the_film_comes_alone_or_no_logs_come(job, tmp_path / "parts")
    await a_link_in_the_folder_does_not_lead_out(job, tmp_path / "links")
    assert place.files() == kept


async def everything_comes_home_and_comes_once(
    place: Place, job: JobHandle, kept: dict[str, bytes], home: Path
) -> None:
    id = job.id
    async with command_line(place.farm) as cli:
        first = await cli("fetch", id, str(home))
        before = times_of(home)
        again = await cli("fetch", id, str(home))

    assert (first.code, first.err) == (0, ""), first.err
    logs = {name.removeprefix(f".longtake/{id}/"): data for name, data in kept.items() if f"{id}/logs/0" in name}
    logs |= {name.removeprefix(f".longtake/{id}/"): data for name, data in kept.items() if f"{id}/logs/film" in name}
    assert len(logs) == 4
    outputs = {name: data for name, data in kept.items() if not name.startswith(".longtake") and name[-1] != "/"}
    assert here(home) == outputs | logs
    assert first.out.startswith("8 files (")
    assert "8 of them new" in first.out
    assert "nothing was new" in again.out
    assert times_of(home) == before


def times_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


async def what_is_missing_comes_alone_and_nothing_is_replaced_unasked(job: JobHandle, home: Path) -> None:
    stored = job.stored
    whole = await stored.fetch(home)
    first = here(home)
    (home / "out" / "000000.txt").unlink()
    part = await stored.fetch(home)
    (home / "out" / "000001.txt").write_bytes(b"y" * len(first["out/000001.txt"]))
    (home / "all.txt").write_text("mine")
    (home / "out" / "000000.txt").unlink()
    with pytest.raises(BadJobError, match=r"another file than the job's, and 1 more like it; .* --force"):
        await stored.fetch(home)
    untouched = here(home)
    forced = await stored.fetch(home, force=True)

    assert (whole.files, whole.new_files, part.new_files, forced.new_files) == (8, 8, 1, 3)
    assert whole.film == home / "all.txt"
    assert untouched["all.txt"] == b"mine"
    assert "out/000000.txt" not in untouched
    assert here(home) == first


async def the_film_comes_alone_or_no_logs_come(job: JobHandle, folder: Path) -> None:
    await job.stored.fetch(folder / "film", film_only=True)
    await job.stored.fetch(folder / "outputs", logs=False)

    assert list(here(folder / "film")) == ["all.txt"]
    assert list(here(folder / "outputs")) == ["all.txt", "out/000000.txt", "out/000001.txt", "out/000002.txt"]


async def a_link_in_the_folder_does_not_lead_out(job: JobHandle, folder: Path) -> None:
    home = folder / "home"
    (folder / "elsewhere").mkdir(parents=True)
    home.mkdir()
    (home / "out").symlink_to(folder / "elsewhere")
    found = await job.stored.fetch(home, logs=False)

    assert len(found.lost) == 3
    assert list((folder / "elsewhere").iterdir()) == []


async def test_what_is_lost_is_named_and_the_rest_comes(place: Place, tmp_path: Path) -> None:
    id = (await place.completed()).id
    place.store.remove(place.store.locate("out/000000.txt"))
    place.store.replace(place.store.locate("out/000001.txt"), b"damaged")
    home = tmp_path / "home"
    async with command_line(place.farm) as cli:
        ran = await cli("fetch", id, str(home), "--no-logs")

    assert ran.code == 1
    assert f"{place.store.locate('out/000000.txt')} is not there any more" in ran.err
    assert f"{place.store.locate('out/000001.txt')}: " in ran.err
    assert list(here(home)) == ["all.txt", "out/000002.txt"]


async def test_a_running_job_gives_what_it_has(place: Place, tmp_path: Path) -> None:
    waiting = place.farm.job(options=("--gate", str(place.farm.gate), "--only", "1")).command
    handle = await place.farm.submit(place.job(chunks=2, command=waiting))
    await until(handle, lambda status: status.completed_chunks >= 1)
    found = await handle.stored.fetch(tmp_path / "home", logs=False)
    place.farm.open_gate()
    await handle.result()

    assert list(here(tmp_path / "home")) == ["out/000000.txt"]
    assert (found.film, found.lost) == (None, ())


OUTSIDE = ("../evil.txt", "out/../../evil.txt", "/etc/evil.txt", ".longtake/other/job.json")


async def test_a_record_cannot_lead_out(place: Place, tmp_path: Path) -> None:
    """One job whose chunks, but for the first, say that they have published each of them."""
    handle = await place.completed(chunks=1 + len(OUTSIDE))
    (tmp_path / "evil.txt").write_text("not the job's")
    other = place.store.locate(".longtake/other/job.json")
    place.store.create(other, b"not the job's")
    meant = [path if path.startswith("/") else f"{place.store.url}/{path}" for path in OUTSIDE]
    # Nothing but its place speaks against it.
    digest = hashlib.sha256(b"not the job's").hexdigest()
    for chunk, path in enumerate(meant, 1):
        location = place.store.locate(f".longtake/{handle.id}/chunks/{chunk:06}.json")
        record = json.loads(place.store.read(location))
        record["files"] = [{"path": path, "attempt_path": "", "size_bytes": 13, "sha256": digest}]
        place.store.replace(location, json.dumps(record).encode())
    home = tmp_path / "a" / "b" / "home"
    found = await handle.stored.fetch(home, logs=False)
    gone = await handle.stored.delete()

    assert sorted(found.lost) == sorted(
        f"{path} leads out of the folder; fetch it by hand if it is yours" for path in meant
    )
    assert sorted(gone.left) == sorted(f"{path} lies outside the store" for path in meant)
    assert sorted(here(tmp_path / "a")) == [f"b/home/{name}" for name in ("all.txt", "out/000000.txt")]
    assert (tmp_path / "evil.txt").read_text() == "not the job's"
    assert place.files()[".longtake/other/job.json"] == b"not the job's"


@pytest.mark.slow
async def test_a_bucket_that_is_away_is_one_sentence(
    cloud: Farm, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    id = (await cloud.run(cloud.job(store=bucket, base_dir=None))).id
    async with command_line(cloud) as cli:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
        calls = (("fetch", id, str(tmp_path / "home")), ("delete", id, "--yes"), ("logs", id))
        ended = await asyncio.gather(*(cli(*call) for call in calls))
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        ended.append(await cli("logs", id))

    assert [(ran.code, ran.out, ran.err.count("\n")) for ran in ended] == [(2, "", 1)] * 4, ended
    assert "the store does not answer" in ended[0].err
    assert "no AWS credentials" in ended[3].err
