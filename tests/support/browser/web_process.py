"""`longtake web` as a process, in a namespace of a test's own."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from google.protobuf.duration_pb2 import Duration
from support.command_line import Cli
from support.farm import PATIENCE_SECONDS, Farm
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from longtake.connection import connect
from worker import register_search_attributes


async def connect_to_new_namespace(server: str, name: str) -> Client:
    """Make a namespace, and return a client of it when jobs can be started there."""
    anywhere = await connect(address=server)
    kept = Duration(seconds=24 * 3600)
    request = RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=kept)
    await anywhere.workflow_service.register_namespace(request)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                client = await connect(address=server, namespace=name)
                await register_search_attributes(client)
                return client
            except RPCError as error:
                # The server itself learns of it a moment later.
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
            await asyncio.sleep(0.1)


@asynccontextmanager
async def web_process(farm: Farm, *arguments: str, port: int = 0) -> AsyncIterator[str]:
    """Run `longtake web` for a farm, on a free port or this one, and give its address."""
    cli = Cli(farm)
    process = await cli.start("web", "--port", str(port), "--namespace", farm.client.namespace, *arguments)
    address = await _until_address(process)
    assert process.stderr is not None
    # What nobody reads would fill the pipe and hold the server up.
    reading = asyncio.ensure_future(process.stderr.read())
    try:
        yield address
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading


async def _until_address(process: asyncio.subprocess.Process) -> str:
    """Return the address that `longtake web` says."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while line := (await process.stderr.readline()).decode():
            if found := re.search(r"http://[\w.:\[\]]+", line):
                return found[0]
    raise AssertionError(f"longtake web ended before it served: {process.returncode}")
