"""The description of the API, the client that is generated from it, and what each route asks of who asks."""

import importlib.util
import re
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from longtake.web import files, job_chunks, jobs, logs, steer, submit
from longtake.web.app import PREFIX, describe_api
from longtake.web.problems import _BY_ERROR
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


def test_the_page_of_the_api_names_every_problem() -> None:
    page = (ROOT / "docs" / "web.md").read_text().partition("## Problems")[2].partition("\n## ")[0]
    code = "".join(path.read_text() for path in (ROOT / "client" / "longtake" / "web").glob("*.py"))
    kinds = set(re.findall(r'kind="([a-z-]+)"', code)) | {kind for _, _, kind in _BY_ERROR}

    # `film` is a kind of output.
    assert {kind for kind in kinds - {"film"} if f"`{kind}`" not in page} == set()


def test_the_description_tells_of_problems_and_not_of_what_is_never_answered() -> None:
    document = describe_api()
    schemas = document["components"]["schemas"]

    assert not {name for name in schemas if "Validation" in name}
    assert {"type", "title", "status", "detail", "errors"} <= schemas["Problem"]["properties"].keys()
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["responses"]["default"]["content"].keys() == {"application/problem+json"}


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
