"""What tests of every kind share: the real Temporal server, started once."""

import os
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from s3_server import S3Server, run_s3_server
from s3_stores import bucket_store

import devserver
from activities.processes.programs import find_ffmpeg
from longtake.stores.directory import DirectoryStore
from longtake.stores.store import Store
from ports import find_free_port


def pytest_configure() -> None:
    """Let Ctrl-C be tested where a shell started the suite in the background, with SIGINT ignored for it and all."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def temporal_program() -> Path:
    """The `temporal` program that `make setup` provides."""
    return devserver.find_temporal(lambda line: print(line, file=sys.stderr))


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    return find_ffmpeg()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(temporal_program: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Address of a Temporal server for the whole session: one that runs already where LONGTAKE_TEST_SERVER names it."""
    if given := os.environ.get("LONGTAKE_TEST_SERVER"):
        yield given
        return
    folder = tmp_path_factory.mktemp("temporal")
    running = await devserver.start_dev_server(
        temporal_program,
        database=None,
        address=f"127.0.0.1:{find_free_port()}",
        ui_port=None,
        log=folder / "temporal.log",
        say=lambda line: None,
    )
    yield running.address
    await running.stop()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server for the whole session, or the one LONGTAKE_TEST_S3 names; each test takes a place of its own."""
    if given := os.environ.get("LONGTAKE_TEST_S3"):
        yield S3Server(given, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
        return
    with run_s3_server(tmp_path_factory.mktemp("s3-server")) as running:
        yield running


@pytest.fixture(params=["directory", "bucket"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of either kind."""
    if request.param == "directory":
        return DirectoryStore(tmp_path / "store")
    return bucket_store(request.getfixturevalue("s3_server"), tmp_path / "scratch")


@pytest.fixture
def local_file(tmp_path: Path) -> Callable[[bytes], Path]:
    """Make a file of this host."""

    def make(content: bytes) -> Path:
        path = tmp_path / f"made-{secrets.token_hex(4)}"
        path.write_bytes(content)
        return path

    return make


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """An empty folder for a job's outputs, removed at once: films add up."""
    folder = tmp_path / "store"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
