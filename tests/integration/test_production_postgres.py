"""The farm's PostgreSQL: an account of its own, a password for everybody, and a crash it gets over."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import devserver
from deploy.production.accounts import Account
from deploy.production.component import ProductionError, run_once
from deploy.production.debian import PackageError, unpack
from deploy.production.postgres import Cluster, find_postgres, postgres_environment
from deploy.production.programs import TEMPORAL_SQL_TOOL
from deploy.production.settings import ROOT, free_port

pytestmark = [pytest.mark.integration, pytest.mark.farm]

COMMAND = ["postgres", "-c", f"config_file={ROOT / 'deploy' / 'postgres' / 'postgresql.conf'}"]


@pytest.fixture
def account() -> Account:
    return Account.for_database()


@pytest.fixture
def place(account: Account, tmp_path: Path) -> Iterator[Path]:
    """A folder for data; pytest's own is closed to other accounts, as a checkout in a home folder is."""
    found = account.place_for(tmp_path)
    yield found
    if found != tmp_path:
        shutil.rmtree(found)


@pytest.fixture
async def cluster(account: Account, place: Path, tmp_path: Path) -> Cluster:
    programs = find_postgres(account.place_for(devserver.cache_dir()), print)
    environment = {
        **os.environ,
        **postgres_environment(programs),
        "POSTGRES_USER": "temporal",
        "POSTGRES_PASSWORD": "correct",
        "POSTGRES_INITDB_ARGS": "--encoding=UTF8 --locale=C.UTF-8",
    }
    made = Cluster(programs, place / "postgres", account, environment)
    await made.make(tmp_path / "initdb.log")
    return made


async def make_database(port: int, password: str, log: Path) -> None:
    """Make a database, as the farm's setup does."""
    tool = await asyncio.to_thread(TEMPORAL_SQL_TOOL.get, devserver.cache_dir() / "bin")
    settings = {"SQL_PLUGIN": "postgres12", "SQL_HOST": "127.0.0.1", "SQL_PORT": str(port), "SQL_USER": "temporal"}
    command = [str(tool), "--database", "probe", "create-database"]
    await run_once("create-database", command, {**os.environ, **settings, "SQL_PASSWORD": password}, log)


async def test_it_is_there_again_after_a_kill(cluster: Cluster, account: Account, tmp_path: Path) -> None:
    port = free_port()
    server = cluster.component(COMMAND, port, tmp_path / "postgres.log")
    await server.start()
    try:
        await make_database(port, "correct", tmp_path / "sql.log")
        first = psutil.Process(server.pid)
        await server.kill()
        assert not first.is_running()
        assert server.pid is None

        await server.start()

        assert "database system was not properly shut down" in server.printed
        await make_database(port, "correct", tmp_path / "sql.log")
        assert psutil.Process(server.pid).uids().real == (account.uid if account.uid >= 0 else os.getuid()) != 0
    finally:
        await server.stop()
    assert server.pid is None


async def test_a_wrong_password_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    port = free_port()
    server = cluster.component(COMMAND, port, tmp_path / "postgres.log")
    await server.start()
    try:
        with pytest.raises(ProductionError, match=r"^create-database failed; .*sql\.log ends:\n"):
            await make_database(port, "wrong", tmp_path / "sql.log")
    finally:
        await server.stop()
    assert "password authentication failed" in server.printed


async def test_what_does_not_come_up_says_why(cluster: Cluster, tmp_path: Path) -> None:
    server = cluster.component([*COMMAND, "-c", "shared_buffers=none"], free_port(), tmp_path / "postgres.log")

    with pytest.raises(ProductionError, match=r"^postgres did not come up; .*postgres\.log ends:\n.*shared_buffers"):
        await server.start()


async def test_a_cluster_half_made_is_made_again(cluster: Cluster, tmp_path: Path) -> None:
    (cluster.data / "made").unlink()
    (cluster.data / "cluster" / "PG_VERSION").unlink()

    await cluster.make(tmp_path / "initdb.log")

    assert (cluster.data / "cluster" / "PG_VERSION").exists()


def test_where_there_is_no_postgres_one_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match=r"no apt-get to fetch it with: install postgresql with"):
        unpack("postgresql", tmp_path / "postgresql", print)
