"""What the API shows of a job's store: chunks, logs and outputs, in folders and in buckets."""

import asyncio
import hashlib
from base64 import b64decode

import pytest
from support.farm import Farm, until, until_state
from support.jobs.stored_jobs import Place
from support.web import job_path, web_of

from longtake import JobState, Retry

pytestmark = pytest.mark.integration


async def test_outputs_are_listed_in_pages_and_sent_in_ranges(place: Place) -> None:
    farm = place.farm
    job = await farm.submit(farm.job(chunks=5, store=place.url if place.url.startswith("s3://") else None))
    await until_state(job, JobState.COMPLETED)
    async with web_of(farm) as client:
        first = (await client.get(job_path(job.id, "outputs"), params={"limit": 3})).json()
        rest = (await client.get(job_path(job.id, "outputs"), params={"limit": 3, "after": first["next"]})).json()
        outputs = [*first["outputs"], *rest["outputs"]]
        assert [output["path"] for output in outputs] == [f"out/{number:06}.txt" for number in range(5)]
        assert (rest["next"], {output["kind"] for output in outputs}) == (None, {"chunk"})

        address, path = job_path(job.id, "outputs", "file"), {"path": outputs[3]["path"]}
        whole = await client.get(address, params=path)
        assert hashlib.sha256(whole.content).hexdigest() == outputs[3]["sha256"]
        assert whole.headers["etag"] == f'"{outputs[3]["sha256"]}"'
        size = len(whole.content)
        part = await client.get(address, params={**path, "chunk": 3}, headers={"Range": "bytes=2-"})
        assert (part.status_code, part.content) == (206, whole.content[2:])
        assert part.headers["content-range"] == f"bytes 2-{size - 1}/{size}"
        known = await client.get(address, params=path, headers={"If-None-Match": whole.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        older = await client.get(address, params=path, headers={"Range": "bytes=2-", "If-Range": '"other"'})
        assert (older.status_code, older.content) == (200, whole.content)
        head = await client.head(address, params=path)
        assert (head.status_code, head.headers["content-length"]) == (200, str(size))


async def test_chunks_are_told_in_columns_and_one_by_one(place: Place) -> None:
    farm = place.farm
    job = await farm.submit(farm.job(chunks=3, store=place.url if place.url.startswith("s3://") else None))
    await until_state(job, JobState.COMPLETED)
    async with web_of(farm) as client:
        answer = await client.get(job_path(job.id, "chunks"))
        columns = answer.json()
        assert columns["count"] == 3
        assert b64decode(columns["state"]) == bytes([4, 4, 4])
        same = await client.get(job_path(job.id, "chunks"), headers={"If-None-Match": answer.headers["etag"]})
        assert same.status_code == 304

        chunk = (await client.get(job_path(job.id, "chunks", "1"))).json()
        assert (chunk["state"], chunk["start"], chunk["stop"], chunk["frames"]) == ("done", 1, 2, [1])
        assert chunk["outputs"][0]["path"] == "out/000001.txt"
        assert "1" in chunk["command"]
        assert (await client.get(job_path(job.id, "chunks", "3"))).json()["type"] == "no-such-chunk"
        timeline = (await client.get(job_path(job.id, "timeline"))).json()
        assert sum(bar["chunks"] for bar in timeline["bars"]) == 3
        assert (await client.get(job_path(job.id, "frame-times"))).json()["chunks"] == 3

        report = await client.get(job_path(job.id, "report"))
        assert report.headers["content-type"].startswith("text/html")
        assert report.headers["content-security-policy"].startswith("default-src 'none'; img-src data:; style-src 'sha")
        assert job.id in report.text


async def test_a_chunk_that_failed_has_its_tries_logs_and_cause(place: Place) -> None:
    farm = place.farm
    flag = farm.store.parent / "mended"
    # Both begin their second try before one fails: a job that holds takes back what waits for its next try.
    script = (
        f'echo "no texture $$"; if test -e {flag}; then echo x > "$0"; exit; fi; '
        'echo >> "$2.$1"; tries=$(wc -l < "$2.$1"); '
        'until [ $(cat "$2".* | wc -l) -ge $((2 * tries)) ]; do sleep 0.02; done; exit 1'
    )
    job = await farm.submit(
        farm.job(
            chunks=2,
            command=("sh", "-c", script, "{output}", "{chunk}", str(farm.store.parent / "tries")),
            retry=Retry(attempts=2, initial_seconds=0.1),
            on_chunk_failure="hold",
            store=place.url if place.url.startswith("s3://") else None,
        )
    )
    await until(job, lambda status: status.failed_chunks == 2)
    async with web_of(farm) as client:
        chunk = (await client.get(job_path(job.id, "chunks", "1"))).json()
        assert (chunk["state"], len(chunk["tries"]), len(chunk["logs"])) == ("failed", 2, 2)
        causes = (await client.get(job_path(job.id, "failures"))).json()
        assert [(cause["tries"], cause["chunk_count"]) for cause in causes] == [(4, 2)]
        log = await client.get(job_path(job.id, "chunks", "1", "logs", "2"))
        assert "no texture" in log.text
        tail = await client.get(job_path(job.id, "chunks", "1", "logs", "2"), params={"tail": 5})
        assert tail.text == log.text[-5:]
        listed = (await client.get(job_path(job.id, "logs"))).json()
        assert [(each["chunk"], each["attempt"]) for each in listed] == [("0", 1), ("0", 2), ("1", 1), ("1", 2)]
        assert (await client.get(job_path(job.id, "chunks", "1", "logs", "3"))).json()["type"] == "no-such-log"
        flag.touch()
        await client.post(job_path(job.id, "resume"))
        done = await until_state(job, JobState.COMPLETED)
        assert [(asked.what, bool(asked.by)) for asked in done.requests] == [("resume", True)]


@pytest.mark.slow
async def test_a_log_is_read_as_it_grows(place: Place) -> None:
    farm = place.farm
    command = (
        "sh",
        "-c",
        'echo first; while ! test -e "$1"; do sleep 0.05; done; echo second; echo x > "$0"',
        "{output}",
        str(farm.gate),
    )
    job = await farm.submit(
        farm.job(chunks=1, command=command, store=place.url if place.url.startswith("s3://") else None)
    )
    path = job_path(job.id, "chunks", "0", "logs", "1")
    async with web_of(farm) as client, asyncio.timeout(90):
        while (found := await client.get(path)).text != "first\n":
            assert found.status_code in (200, 404)
            await asyncio.sleep(0.1)
        nothing = await client.get(path, headers={"Range": "bytes=6-"})
        assert (nothing.status_code, nothing.headers["x-log-size"]) == (416, "6")
        farm.open_gate()
        await until_state(job, JobState.COMPLETED)

        new = await client.get(path, headers={"Range": "bytes=6-"})

        assert (new.status_code, new.text, new.headers["content-range"]) == (206, "second\n", "bytes 6-12/13")


async def test_files_of_an_ended_job_are_deleted_and_of_no_other(place: Place) -> None:
    farm = place.farm
    fields = {"store": place.url} if place.url.startswith("s3://") else {}
    running = await farm.started(chunks=2, running=1, chunk_output="run/{chunk}.txt", **fields)
    async with web_of(farm) as client:
        refused = await client.delete(job_path(running.id, "files"))
        assert (refused.status_code, refused.json()["type"]) == (409, "job-not-ended")
        farm.open_gate()
        await until_state(running, JobState.COMPLETED)

        done = await client.delete(job_path(running.id, "files"))

        assert (done.status_code, done.json()["files"]) == (200, 2)
        assert (await client.delete(job_path(running.id, "files"))).json()["files"] == 0
        assert (await client.get(job_path(running.id, "outputs"))).json()["outputs"] == []


async def test_the_columns_of_many_chunks_are_compressed_and_known_by_their_tag(farm: Farm) -> None:
    job = await farm.submit(farm.job(chunks=3000, start_paused=True))
    await until_state(job, JobState.PAUSED)
    async with web_of(farm) as client:
        path = job_path(job.id, "chunks")
        packed = await client.get(path)
        plain = await client.get(path, headers={"Accept-Encoding": "identity"})
        assert (packed.headers["content-encoding"], plain.headers.get("content-encoding")) == ("gzip", None)
        assert int(packed.headers["content-length"]) < 0.1 * len(plain.content)
        assert packed.json() == plain.json()
        for known in (packed, plain):
            same = await client.get(path, headers={"If-None-Match": known.headers["etag"]})
            assert (same.status_code, same.content) == (304, b"")
        async with client.stream("GET", job_path(job.id, "events")) as told:
            assert "content-encoding" not in told.headers
    await job.cancel()
