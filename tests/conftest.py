"""What tests of every kind share: how they are spread over processes, and the real servers, started once."""

import atexit
import fcntl
import gc
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support.s3.server import S3Server
from support.s3.stores import bucket_store
from support.servers.shared_servers import SharedServers, ask

import devserver
from activities.processes.programs import find_ffmpeg
from longtake.stores.directory import DirectoryStore
from longtake.stores.store import Store

# Hundreds of processes import the same files: where the environment forbids to keep what was compiled, each takes twice
# its time.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Tests wait about as much as they work: with three to a core, those that race processes lost to each other.
WORKERS_PER_CORE = 2

# Without deadlines, which a loaded machine misses. `--hypothesis-profile=thorough` looks longer.
settings.register_profile("suite", max_examples=50, deadline=None, derandomize="CI" in os.environ)
settings.register_profile("thorough", max_examples=2000, deadline=None)
settings.load_profile("suite")

_SERVERS = pytest.StashKey[SharedServers]()


def pytest_configure() -> None:
    """Let Ctrl-C be tested where a shell started the suite in the background, with SIGINT ignored for it and all."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes share the tests; 0, which is this one, where one file is named or output is shown."""
    one_file = len(config.args) == 1 and Path(config.args[0].partition("::")[0]).suffix == ".py"
    if one_file or config.option.capture == "no":
        return 0
    return WORKERS_PER_CORE * (os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a pytest worker what it shares with the others."""
    node.workerinput["shared_folder"] = str(_shared_folder(node.config))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers."""
    if servers := config.stash.get(_SERVERS, None):
        servers.stop()


def _shared_folder(config: pytest.Config) -> Path:
    """Return the folder of the session, through which servers are asked for."""
    if hasattr(config, "workerinput"):
        return Path(config.workerinput["shared_folder"])
    if _SERVERS not in config.stash:
        config.stash[_SERVERS] = SharedServers()
    return config.stash[_SERVERS].folder


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from thousands of tests that live as long as the run: they cost it seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        # Extensions in C tell of what is left at the very end.
        atexit.register(gc.unfreeze)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that run alone at the end, where few others wait for them."""
    items.sort(key=_is_timed)


# First of all, so that the limit of the test does not count the wait.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test that is marked `timed` while no other runs."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    folder = _shared_folder(item.config)
    with (folder / "door").open("w") as door, (folder / "room").open("w") as room:
        # Who waits for the room to be empty holds the door, so that nobody comes in meanwhile.
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if _is_timed(item) else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        return (yield)


def _is_timed(item: pytest.Item) -> bool:
    return item.get_closest_marker("timed") is not None


@pytest.fixture(params=[3, pytest.param(30, marks=pytest.mark.chaos)])
def runs(request: pytest.FixtureRequest) -> int:
    """How often a test does what it measures: a few times in the suite, for its promise, and thirty in `make chaos`."""
    return int(request.param)


@pytest.fixture(scope="session")
def temporal_program() -> Path:
    """The `temporal` program that `make setup` provides."""
    return devserver.find_temporal(lambda line: print(line, file=sys.stderr))


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> str:
    """Address of a Temporal server for the whole session: one that runs already where LONGTAKE_TEST_SERVER names it."""
    given = os.environ.get("LONGTAKE_TEST_SERVER")
    return given or str(ask(_shared_folder(request.config), "temporal")["address"])


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """An S3 server for the whole session, or the one LONGTAKE_TEST_S3 names; each test takes a place of its own."""
    if given := os.environ.get("LONGTAKE_TEST_S3"):
        return S3Server(given, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    return S3Server(**ask(_shared_folder(request.config), "s3"))


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    return find_ffmpeg()


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
