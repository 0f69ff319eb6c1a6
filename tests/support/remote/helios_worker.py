"""A worker as Helios deploys them, written from their description: as a Lambda function, and as an HTTP server."""

import asyncio
import json
import os
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.servers.http_server import Connection, HttpServer, Request

from longtake.templates import split_command


def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    """Answer as `createAwsHandler` does; its workspaceDir is in HELIOS_WORKSPACE."""
    try:
        code, stdout, stderr = _execute(event, Path(os.environ["HELIOS_WORKSPACE"]))
    except Exception as error:
        return {"statusCode": 500, "body": json.dumps({"message": str(error)})}
    body = {"exitCode": code, "output": stdout, "stderr": stderr}
    return {"statusCode": 200 if code == 0 else 500, "body": json.dumps(body)}


@asynccontextmanager
async def helios_server(workspace: Path) -> AsyncIterator[tuple[str, list[Any]]]:
    """Run what `createCloudRunServer` runs; yields its URL and the payloads that came."""
    payloads: list[Any] = []

    async def answer(connection: Connection, request: Request) -> None:
        payloads.append(json.loads(request.body))
        try:
            code, stdout, stderr = await asyncio.to_thread(_execute, payloads[-1], workspace)
        except Exception as error:
            await connection.respond_json(500, {"message": str(error)})
        else:
            body = {"exitCode": code, "stdout": stdout, "stderr": stderr}
            await connection.respond_json(200 if code == 0 else 500, body)

    server = HttpServer(answer)
    await server.start()
    try:
        yield f"http://{server.address}", payloads
    finally:
        await server.close()


@asynccontextmanager
async def job_server(document: Any) -> AsyncIterator[str]:
    """Serve a job.json; yields its URL."""

    async def answer(connection: Connection, request: Request) -> None:
        await connection.respond_json(200, document)

    server = HttpServer(answer)
    await server.start()
    try:
        yield f"http://{server.address}/job.json"
    finally:
        await server.close()


def _execute(event: Any, workspace: Path) -> tuple[int, str, str]:
    """Run the command of the chunk with this id in the workspace, as Helios' worker runtime does."""
    with urllib.request.urlopen(event["jobPath"]) as response:
        spec = json.load(response)
    chunk = next((chunk for chunk in spec["chunks"] if chunk["id"] == event["chunkIndex"]), None)
    if chunk is None:
        raise LookupError(f"Chunk with ID {event['chunkIndex']} not found in job spec")
    done = subprocess.run(split_command(chunk["command"]), cwd=workspace, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr
