"""Serve the files of the page; each of its addresses is answered by the same document, which shows what it names."""

from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles


class _Files(StaticFiles):
    """Files of the page, which a browser asks for anew each time: an upgrade is seen at once."""

    async def get_response(self, path: str, scope: object) -> Response:
        answer = await super().get_response(path, scope)  # type: ignore[arg-type]
        answer.headers["Cache-Control"] = "no-cache"
        return answer


def add_pages(app: FastAPI, static: Path) -> None:
    """Serve the page and its files."""

    async def show(request: Request) -> Response:
        path = request.path_params["path"]
        is_file = "." in path and not path.startswith("jobs/")
        if is_file or path.startswith(("api/", "static/")):
            raise HTTPException(404, "there is no such page")
        return FileResponse(static / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", _Files(directory=static), name="static")
    app.add_route("/{path:path}", show, methods=["GET", "HEAD"], include_in_schema=False)
