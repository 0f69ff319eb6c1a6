"""The API against its own description: whatever fits it, or nearly does, is answered, and never by a failure."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.farm import Farm, until_state
from support.web import API, web_of

from longtake import JobState
from longtake.web.app import describe_api

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Answered without an end, or by ending what the others need.
_LEFT_OUT = ("/events", "/cancel")

_ODD = st.sampled_from(
    ["", " ", "\x00", "..", "%", "%00", "a/b", "\u00fc", "-1", "0", "9" * 40, "null", "[]", "*", "'", '"', "<b>"]
)
_TEXT = _ODD | st.text(max_size=30)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=8,
)


def fitting(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return values that fit a schema of the description."""
    if "$ref" in schema:
        return fitting(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "anyOf" in schema:
        return st.one_of([fitting(each, document) for each in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    match schema.get("type"):
        case "integer":
            low = schema.get("minimum", -(2**70))
            return st.integers(low, max(low, schema.get("maximum", 2**70)))
        case "number":
            return st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "string":
            if "pattern" in schema:
                return st.from_regex(schema["pattern"], fullmatch=True)
            return st.text(max_size=min(schema.get("maxLength", 40), 40))
        case "array":
            if "prefixItems" in schema:
                return st.tuples(*(fitting(each, document) for each in schema["prefixItems"])).map(list)
            items = fitting(schema.get("items", {}), document)
            return st.lists(items, min_size=schema.get("minItems", 0), max_size=max(schema.get("minItems", 0), 4))
        case "object":
            required = set(schema.get("required", ()))
            fields = {name: fitting(each, document) for name, each in schema.get("properties", {}).items()}
            return st.fixed_dictionaries(
                {name: each for name, each in fields.items() if name in required},
                optional={name: each for name, each in fields.items() if name not in required},
            )
    return _JSON


OPERATIONS = [
    (method, path)
    for path, methods in describe_api()["paths"].items()
    for method in methods
    if not path.endswith(_LEFT_OUT)
]


@pytest_asyncio.fixture
async def served(farm: Farm) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A server, and a job that has ended."""
    job = await farm.submit(farm.job(chunks=2))
    await until_state(job, JobState.COMPLETED)
    async with web_of(farm) as client:
        yield client, job.id


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[f"{method} {path}" for method, path in OPERATIONS])
async def test_no_request_that_fits_the_description_or_nearly_does_fails(
    served: tuple[httpx.AsyncClient, str], method: str, path: str
) -> None:
    client, job_id = served
    document = (await client.get(f"{API}/openapi.json")).json()
    operation = document["paths"][path][method]
    parameters = {
        (each["in"], each["name"]): fitting(each["schema"], document) for each in operation.get("parameters", ())
    }
    parameters |= {("path", "id"): st.just(job_id) | _TEXT}
    values = st.fixed_dictionaries({place: st.one_of(each, _TEXT) for place, each in parameters.items()})
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    body = st.none() | fitting(schema, document) | _JSON if content else st.none()
    answers: list[tuple[httpx.Request, httpx.Response]] = []
    requests: list[tuple[str, dict[str, str], Any, dict[str, str]]] = []

    # The requests are drawn first: hypothesis knows no loop that runs already.
    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(values, body)
    def draw(found: dict[tuple[str, str], Any], sent: Any) -> None:
        address, query, headers = path, {}, {}
        for (place, name), value in found.items():
            text = value if isinstance(value, str) else json.dumps(value)
            if place == "path":
                address = address.replace(f"{{{name}}}", quote(text.encode(errors="replace"), safe="") or "%20")
            elif place == "query":
                query[name] = text.encode(errors="replace").decode()
            else:
                headers[name] = text.encode("ascii", "ignore").decode().translate(dict.fromkeys(range(32))).strip()
        requests.append((address, query, sent, headers))

    draw()
    for address, query, sent, headers in requests:
        raw = None if sent is None else json.dumps(sent).encode(errors="replace")
        told = {**headers, **({"Content-Type": "application/json"} if raw is not None else {})}
        answer = await client.request(method.upper(), address, params=query, content=raw, headers=told)
        answers.append((answer.request, answer))
        assert answer.status_code < 500 or answer.json()["type"] in ("no-worker",), (
            answer.request.method, str(answer.request.url), raw, answer.text,
        )  # fmt: skip
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json", answer.text
            assert answer.json()["status"] == answer.status_code
    assert answers


async def test_the_description_names_every_route_and_needs_no_internet(farm: Farm) -> None:
    async with web_of(farm) as client:
        document = (await client.get(f"{API}/openapi.json")).json()
        text = json.dumps(document)

    assert document["openapi"].startswith("3.")
    assert "http://" not in text
    assert "https://" not in text
    assert all(operation.get("description") for each in document["paths"].values() for operation in each.values())
