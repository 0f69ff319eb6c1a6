"""`make production` as a command: up, told how to use it, down in order, and up again with all it knew."""

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.farm import eventually
from support.processes.process_table import carrying
from support.servers.production import open_folder

import devserver
from longtake.connection import connect
from ports import find_free_port

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.integration, pytest.mark.farm, pytest.mark.timeout(900)]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = open_folder()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def ports() -> dict[str, str]:
    return {name: str(find_free_port()) for name in ("TEMPORAL_PORT", "S3_PORT")}


def sockets_of(port: str) -> list[Path]:
    """Return what SeaweedFS has left of its Unix sockets."""
    return list(Path("/tmp").glob(f"seaweedfs-*-{port}.sock"))


@asynccontextmanager
async def command(folder: Path, ports: dict[str, str], *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *devserver.end_with_parent([sys.executable, "-m", "deploy.production", "--folder", str(folder), *options]),
        env={**os.environ, **ports},
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def printed_until(process: asyncio.subprocess.Process, wanted: str) -> str:
    """Return what the command has printed up to a line."""
    assert process.stderr is not None
    lines: list[str] = []
    while not lines or wanted not in lines[-1]:
        line = await process.stderr.readline()
        assert line, "".join(lines)
        lines.append(line.decode())
    return "".join(lines)


async def test_ctrl_c_ends_it_workers_first_and_the_next_start_goes_on(folder: Path, ports: dict[str, str]) -> None:
    async with command(folder, ports) as process:
        printed = await printed_until(process, "Ctrl-C ends everything")
        assert f"TEMPORAL_ADDRESS=127.0.0.1:{ports['TEMPORAL_PORT']}" in printed
        assert carrying(str(folder))
        client = await connect(address=f"127.0.0.1:{ports['TEMPORAL_PORT']}")
        await client.start_workflow("Kept", id="kept", task_queue="nobody")

        process.send_signal(signal.SIGINT)
        assert "workers first" in await printed_until(process, "workers first")
        assert await asyncio.wait_for(process.wait(), 60) == 0

    assert carrying(str(folder)) == []
    assert sockets_of(ports["S3_PORT"]) == []
    async with command(folder, ports, "--workers", "1") as process:
        await printed_until(process, "Ctrl-C ends everything")
        client = await connect(address=f"127.0.0.1:{ports['TEMPORAL_PORT']}")
        assert (await client.get_workflow_handle("kept").describe()).id == "kept"
        await client.get_workflow_handle("kept").terminate()
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_a_killed_farm_leaves_no_process(folder: Path, ports: dict[str, str]) -> None:
    async with command(folder, ports) as process:
        await printed_until(process, "Ctrl-C ends everything")
        process.kill()
        await process.wait()

    await eventually(lambda: not carrying(str(folder)), "all processes of the farm are gone")


@pytest.mark.parametrize("name", ["TEMPORAL_PORT", "S3_PORT"])
async def test_a_named_port_that_is_taken_is_told_with_its_holder(
    folder: Path, ports: dict[str, str], name: str
) -> None:
    listening = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", int(ports[name]))
    async with listening, command(folder, ports) as process:
        printed = await printed_until(process, name)
        assert await process.wait() == 2

    assert re.fullmatch(
        rf"make production: port {ports[name]} of {name} is taken by process {os.getpid()} \(.+\): end that "
        r"process, or name another port\.",
        printed.splitlines()[-1],
    )
