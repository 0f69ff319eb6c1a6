"""A web server with job files of Helios, good and bad, and what must not be asked."""

import json
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from support.remote.agent_jobs import AgentJobs
from support.remote.agents import Edge
from support.servers.http_server import Connection, HttpServer, Request

from longtake.stores.directory import DirectoryStore

PYTHON = sys.executable


def command(code: str, *arguments: str) -> str:
    """Return a command line that runs some Python; Helios' own way to split it takes double quotes and backslashes."""
    quoted = code.replace("\\", "\\\\").replace('"', '\\"')
    return f'{PYTHON} -S -c "{quoted}" {shlex.join(arguments)}'.strip()


# By the id of their chunk.
COMMANDS = {
    0: command("import sys; print('frame 1'); print('warn', file=sys.stderr)"),
    1: command("import sys; print('partial'); print('no codec', file=sys.stderr); sys.exit(3)"),
    2: command("import os; os.kill(os.getpid(), 9)"),
    3: "no-such-binary --help",
    4: "touch owned",
    5: command("import sys; sys.exit(5)"),
    # 40 MB of what JSON makes the longest, to both.
    6: command(
        "import sys\nfor _ in range(20):\n    sys.stdout.write('\\x01' * 2**20); sys.stderr.write('\\x02' * 2**20)"
    ),
    7: command("import os; print(os.getcwd()); print(sorted(os.environ)); print(os.listdir('.'))"),
    8: command("import time; time.sleep(120)", "waits-for-its-end"),
    9: "",
    10: command("print('\u00e9' * 2**20)"),
}


@dataclass
class HeliosJobs:
    """The server; `asked` are the paths of all requests."""

    url: str = ""
    asked: list[str] = field(default_factory=list)

    @property
    def allowed(self) -> str:
        return f"{self.url}/jobs/"

    @property
    def job(self) -> str:
        return f"{self.url}/jobs/one/job.json"

    async def answer(self, connection: Connection, request: Request) -> None:
        self.asked.append(request.target)
        match request.target:
            case "/jobs/one/job.json" | "/elsewhere/job.json":
                await connection.respond_json(200, _document(COMMANDS.items()))
            case "/jobs/redirect":
                await connection.respond(302, b"", {"location": f"{self.url}/elsewhere/job.json"})
            case "/jobs/assets":
                await connection.respond_json(200, {**_document(COMMANDS.items()), "assetsUrl": "s3://x/y"})
            case "/jobs/text":
                await connection.respond(200, b"<html>")
            case "/jobs/nochunks":
                await connection.respond_json(200, {"id": "x"})
            case "/jobs/endless":
                await connection.respond(200, b"[" * (33 << 20))
            case "/jobs/deep":
                await connection.respond(200, b"[" * 100_000)
            case _:
                await connection.respond(404, b"")


def _document(commands: Any) -> dict[str, Any]:
    chunks = [
        {"id": number, "startFrame": 0, "frameCount": 1, "outputFile": "x", "command": line}
        for number, line in commands
    ]
    return {"id": "job", "chunks": chunks, "mergeCommand": "", "metadata": {}}


@asynccontextmanager
async def helios_jobs() -> AsyncIterator[HeliosJobs]:
    jobs = HeliosJobs()
    server = HttpServer(jobs.answer)
    await server.start()
    jobs.url = f"http://{server.address}"
    try:
        yield jobs
    finally:
        await server.close()


def keys(job: object, chunk: object) -> dict[str, object]:
    """Return what Helios clients send."""
    return {"jobPath": job, "chunkIndex": chunk}


def body_of(answer: bytes) -> tuple[int, Any]:
    """Return status and body of what a Lambda handler answered."""
    document = json.loads(answer)
    return document["statusCode"], json.loads(document["body"])


# Of Lambda; what is larger fails a chunk that was rendered.
LARGEST_ANSWER = 6_291_556


@dataclass
class Asked:
    """An agent as Helios clients see it."""

    edge: Edge
    jobs: HeliosJobs
    workspace: Path

    async def ask(self, payload: Any) -> tuple[int, Any]:
        """Return status and body."""
        if self.edge.app is None:
            answer = await self.edge.service.call(payload)
            assert "x-amz-function-error" not in answer.headers, answer.body
            assert len(answer.body) < LARGEST_ANSWER
            return body_of(answer.body)
        response = await self.post(json.dumps(payload).encode())
        assert len(response.content) < LARGEST_ANSWER
        return response.status_code, response.json()

    async def post(self, content: bytes, method: str = "POST", path: str = "/any/path") -> httpx.Response:
        assert self.edge.app is not None
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            return await client.request(method, f"{self.edge.app.url}{path}", content=content)

    @property
    def is_lambda(self) -> bool:
        return self.edge.app is None


def environ(folder: Path, jobs: HeliosJobs) -> dict[str, str]:
    own = AgentJobs(DirectoryStore(folder / "store"), folder / "notes")
    return {**own.environ, "LONGTAKE_HELIOS_JOBS": jobs.allowed}
