"""Jobs are submitted by the URL of a job file: of a web server, and of a bucket."""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml
from support.farm import Farm, until_state
from support.servers.http_server import Connection, HttpServer, Request
from support.web import API, web_of

from longtake import JobState
from longtake.allowed_addresses import read_networks
from longtake.stores.store import Store
from longtake.web.settings import WebSettings

pytestmark = pytest.mark.integration


def job_file(farm: Farm, **fields: Any) -> bytes:
    """Return a job file as a person would write it, without its folder."""
    document = json.loads(json.dumps(farm.job(**fields).to_wire()))
    for key in ("contract", "base_dir", "name"):
        document.pop(key, None)
    return yaml.safe_dump(document).encode()


class Shelf:
    """A web server with job files."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.origin = ""

    async def take(self, connection: Connection, request: Request) -> None:
        found = self.files.get(request.target)
        await connection.respond(200 if found else 404, found or b"", {"content-type": "application/octet-stream"})

    @property
    def settings(self) -> WebSettings:
        return WebSettings(job_sources=(self.origin,), job_networks=read_networks(["127.0.0.0/8"]))


@pytest_asyncio.fixture
async def shelf() -> AsyncIterator[Shelf]:
    shelf = Shelf()
    server = HttpServer(shelf.take)
    await server.start()
    shelf.origin = f"http://{server.address}"
    yield shelf
    await server.close()


async def test_a_job_is_planned_and_started_by_the_url_of_its_file_and_once_under_its_id(
    farm: Farm, shelf: Shelf
) -> None:
    job_id, body = f"by-url-{uuid.uuid4().hex}", {"url": f"{shelf.origin}/shows/opening%20shot.yaml?v=2"}
    asked: dict[str, Any] = {"params": {"id": job_id, "base_dir": str(farm.store)}, "json": body}
    shelf.files["/shows/opening%20shot.yaml?v=2"] = job_file(farm, chunks=3)
    async with web_of(farm, shelf.settings) as client:
        plan = await client.post(f"{API}/plan", params={"base_dir": str(farm.store)}, json=body)
        assert plan.json()["total_chunks"] == 3

        first = await client.post(f"{API}/jobs", **asked)
        again = await client.post(f"{API}/jobs", **asked)
        assert (first.status_code, again.status_code) == (201, 200)
        assert (first.json()["id"], first.json()["name"]) == (job_id, "opening shot")
        status = await until_state(farm.render.job(job_id), JobState.COMPLETED)
        assert (status.completed_chunks, status.base_dir) == (3, str(farm.store))

        shelf.files["/shows/opening%20shot.yaml?v=2"] = job_file(farm, chunks=4)
        changed = await client.post(f"{API}/jobs", **asked)
        assert (changed.status_code, changed.json()["type"]) == (409, "job-exists")


async def test_the_url_may_be_written_in_yaml_and_stands_alone(farm: Farm, shelf: Shelf) -> None:
    shelf.files["/a.yaml"] = job_file(farm)
    async with web_of(farm, shelf.settings) as client:
        plan = await client.post(f"{API}/plan", content=f"url: {shelf.origin}/a.yaml\n")
        assert plan.status_code == 200
        assert "relative paths start from the first folder of the workers" in plan.json()["warnings"][0]

        both = await client.post(f"{API}/plan", json={"url": f"{shelf.origin}/a.yaml", "max_parallel": 3})
        assert both.json()["errors"] == [
            {
                "field": "url",
                "message": "stands beside other keys; send the URL of a job file alone, or the job file itself",
            }
        ]


async def test_each_mistake_of_a_fetched_file_is_told_by_its_field(farm: Farm, shelf: Shelf) -> None:
    shelf.files["/bad.yaml"] = b"frames: {count: 0}\ncommand: [x]\nfps: fast\nchunk_output: out/{chunk}.txt\n"
    shelf.files["/more.yaml"] = f"url: {shelf.origin}/bad.yaml\n".encode()
    shelf.files["/torn.json"] = b'{"frames": '
    async with web_of(farm, shelf.settings) as client:

        async def ask(path: str) -> dict[str, Any]:
            answer = await client.post(f"{API}/jobs", json={"url": shelf.origin + path})
            assert answer.status_code == 422
            return dict(answer.json())

        assert [error["field"] for error in (await ask("/bad.yaml"))["errors"]] == ["frames.count", "fps"]
        assert (await ask("/torn.json"))["detail"].startswith("torn.json: cannot be read, line 1, column 12")
        assert (await ask("/none.yaml"))["errors"] == [
            {"field": "url", "message": "there is no such file (404); check it"}
        ]
        # What was fetched leads no further.
        assert (await ask("/more.yaml"))["errors"][0]["field"] == "url"


async def test_a_job_file_in_a_bucket_is_read_with_the_settings_of_the_server(farm: Farm, films: Store) -> None:
    films.create(films.locate("jobs/film one.yaml"), job_file(farm, chunks=2))
    films.create(films.locate("secret.yaml"), b"hush")
    films.create(films.locate("jobs/long.yaml"), b"#" * (17 << 20))
    settings = WebSettings(job_sources=(f"{films.url}/jobs/",))
    async with web_of(farm, settings) as client:

        async def ask(url: str) -> Any:
            return await client.post(f"{API}/jobs", params={"base_dir": str(farm.store)}, json={"url": url})

        started = await ask(f"{films.url}/jobs/film one.yaml")
        assert started.status_code == 201, started.text
        assert started.json()["name"] == "film one"
        await until_state(farm.render.job(started.json()["id"]), JobState.COMPLETED)

        for path, sentence in (
            ("jobs/none.yaml", "url: there is no file s3://"),
            ("jobs/long.yaml", "url: is longer than a job file may be"),
            ("jobs/../secret.yaml", "url: "),
            ("jobs", "url: job files are not fetched from s3://"),
            ("secret.yaml", "url: job files are not fetched from s3://"),
            ("jobs2/a.yaml", "url: job files are not fetched from s3://"),
        ):
            refused = await ask(f"{films.url}/{path}")
            assert (refused.status_code, refused.json()["type"]) == (422, "bad-job"), refused.text
            assert refused.json()["detail"].startswith(sentence)
            assert "hush" not in refused.text


async def test_a_bucket_that_is_away_is_a_problem_that_may_pass(
    farm: Farm, films: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    async with web_of(farm, WebSettings(job_sources=(films.url,))) as client:
        answer = await client.post(f"{API}/jobs", json={"url": f"{films.url}/a.yaml"})

    assert (answer.status_code, answer.json()["type"]) == (502, "url-away")
    assert answer.json()["errors"][0]["field"] == "url"
