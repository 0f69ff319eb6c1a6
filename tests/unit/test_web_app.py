"""The description of the API, the client that is generated from it, and what each route asks of who asks."""

import importlib.util
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from longtake.web import files, job_chunks, jobs, logs, steer, submit
from longtake.web.app import PREFIX, describe_api
from longtake.web.sessions import MAY_STEER, MAY_SUBMIT

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "typescript"


def test_the_typescript_client_is_that_of_the_api_as_it_is() -> None:
    found = importlib.util.spec_from_file_location("generate", EXAMPLE / "generate.py")
    assert found is not None
    assert found.loader is not None
    generate = importlib.util.module_from_spec(found)
    found.loader.exec_module(generate)

    assert (EXAMPLE / "openapi.json").read_text() == generate.render_description(), "renew it: `make web-client`"
    assert (EXAMPLE / "longtake.ts").read_text().startswith(generate.name_source()), "renew it: `make web-client`"


def test_the_page_of_the_api_names_every_route() -> None:
    page = (ROOT / "docs" / "web.md").read_text()
    for path in describe_api()["paths"]:
        last = path.removeprefix(PREFIX).replace("/jobs/{id}", "").replace("{chunk}", "N").replace("{attempt}", "TRY")
        assert (last or "GET /jobs/ID`").replace("{name}", "NAME") in page, path


def routes() -> list[APIRoute]:
    found = []
    for router in (steer, submit, files, job_chunks, jobs, logs):
        found += [route for route in router.router.routes if isinstance(route, APIRoute)]
    return found


@pytest.mark.parametrize("route", routes(), ids=lambda route: f"{sorted(route.methods or ())} {route.path}")
def test_each_route_that_changes_something_asks_for_a_role(route: APIRoute) -> None:
    needed = [dependency.dependency for dependency in route.dependencies]
    reads = (route.methods or set()) <= {"GET", "HEAD"}

    assert reads or MAY_STEER.dependency in needed or MAY_SUBMIT.dependency in needed
