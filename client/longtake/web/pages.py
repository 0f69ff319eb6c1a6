"""Serve the files of the page; each of its addresses is answered by the same document, which shows what it names."""

from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

# Addresses of the page itself, which its script tells apart.
ADDRESSES = ("/", "/jobs/{id}", "/farm", "/submit", "/login")


def add_pages(app: FastAPI, static: Path) -> None:
    """Serve the page and its files."""

    async def show(request: Request) -> Response:
        # Asked for anew each time, so that an upgrade is seen at once.
        return FileResponse(static / "index.html", headers={"Cache-Control": "no-cache"})

    for address in ADDRESSES:
        app.add_route(address, show, methods=["GET"], include_in_schema=False)
    app.mount("/", StaticFiles(directory=static), name="static")
