"""Put the web server together: routes, errors and guards of one application."""

from importlib.metadata import version
from typing import Any, cast

from fastapi import APIRouter, FastAPI

from longtake.client import RenderClient
from longtake.names import DEFAULT_TASK_QUEUE
from longtake.web import events, files, job_chunks, jobs, logs, pictures, preview, reports, sessions, steer, submit
from longtake.web import farm as farm_routes
from longtake.web.compression import Compressor
from longtake.web.gateway import Gateway
from longtake.web.pages import add_pages
from longtake.web.problems import MEDIA_TYPE, Problem, add_handlers
from longtake.web.security import Guard
from longtake.web.settings import WebSettings

PREFIX = "/api/v1"

_SCHEMAS = "#/components/schemas/{model}"

# What every answer that is no success has as its body.
_PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "a problem (RFC 9457); its `type` says which to a program, its `detail` to a person",
        "content": {MEDIA_TYPE: {"schema": {"$ref": _SCHEMAS.format(model="Problem")}}},
    }
}


class _Api(FastAPI):
    """Application that describes its problems and its tokens too, which clients are generated from."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            problem = Problem.model_json_schema(ref_template=_SCHEMAS)
            document["components"]["schemas"] |= {**problem.pop("$defs"), "Problem": problem}
            document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            # On loopback nothing is asked for.
            document["security"] = [{}, {"token": []}]
        return cast(dict[str, Any], self.openapi_schema)


def create_app(
    farm: RenderClient, settings: WebSettings | None = None, *, task_queue: str = DEFAULT_TASK_QUEUE
) -> FastAPI:
    """Return the web server of a farm as an ASGI application.

    Args:
        farm: Client of the farm; it need not be connected yet.
        settings: Settings of the server; default: those for this host alone.
        task_queue: Queue of the workers.
    """
    settings = settings or WebSettings()
    app = _make_routes()
    app.state.gateway = gateway = Gateway(farm, settings, task_queue)
    add_pages(app, settings.static)
    add_handlers(app, gateway.describe)
    app.add_middleware(Compressor)
    app.add_middleware(Guard, settings=settings, authenticator=gateway.authenticator)
    return app


def describe_api() -> dict[str, Any]:
    """Return the OpenAPI description of the API, which needs no farm."""
    return _make_routes().openapi()


def _make_routes() -> FastAPI:
    app = _Api(
        title="Longtake",
        version=version("longtake"),
        summary="Render jobs of a farm: submit, watch, steer, and fetch what they made.",
        openapi_url=f"{PREFIX}/openapi.json",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # What clients call their functions.
        generate_unique_id_function=lambda route: route.name,
    )
    api = APIRouter(prefix=PREFIX, responses=_PROBLEM)
    # Events before jobs: `/jobs/events` is no job.
    for module in (
        sessions,
        events,
        jobs,
        steer,
        submit,
        job_chunks,
        logs,
        files,
        pictures,
        preview,
        reports,
        farm_routes,
    ):
        api.include_router(module.router)
    app.include_router(api)
    return app
