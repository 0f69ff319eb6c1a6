"""The servers of a test session: started once, for all, and gone with the session however that ends."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.farm import eventually
from support.processes.process_table import carrying
from support.servers.shared_servers import ROOT, ask

pytestmark = pytest.mark.integration

# A session as pytest is one: it says where its servers are to be asked for, and ends when it is told to.
SESSION = """
import sys
from support.servers.shared_servers import SharedServers
servers = SharedServers()
print(servers.folder, flush=True)
sys.stdin.read()
servers.stop()
"""


@pytest.fixture
def session() -> Iterator["subprocess.Popen[str]"]:
    places = (ROOT, ROOT / "client", ROOT / "tests")
    process = subprocess.Popen(
        [sys.executable, "-c", SESSION],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


@pytest.fixture
def folder(session: "subprocess.Popen[str]") -> Path:
    assert session.stdout is not None
    return Path(session.stdout.readline().strip())


def is_gone(folder: Path) -> bool:
    """Tell whether neither a process of the session nor its folder is there."""
    return not carrying(str(folder)) and not folder.exists()


async def test_all_who_ask_get_one_server_and_it_ends_with_a_killed_session(
    session: "subprocess.Popen[str]", folder: Path
) -> None:
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(ask, [folder] * 3, ["temporal"] * 3))
    address = answers[0]["address"]
    assert answers == [{"address": address}] * 3
    assert [seen for seen in carrying(f"--port={address.rpartition(':')[2]}") if seen.name == "temporal"]

    session.kill()

    await eventually(lambda: is_gone(folder), "all of the session is gone")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address.split(":"))


@pytest.mark.slow
async def test_a_session_that_ends_leaves_nothing(session: "subprocess.Popen[str]", folder: Path) -> None:
    assert await asyncio.to_thread(ask, folder, "temporal")
    assert carrying(str(folder))

    session.communicate("", timeout=60)

    assert session.returncode == 0
    assert is_gone(folder)


def test_a_server_that_cannot_be_had_fails_the_test(session: "subprocess.Popen[str]", folder: Path) -> None:
    with pytest.raises(AssertionError, match="There is no mainframe server for the tests"):
        ask(folder, "mainframe")
