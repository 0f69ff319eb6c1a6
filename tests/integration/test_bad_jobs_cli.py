"""The command line refuses bad job files before it looks for a server: exit code 2, one line, nothing on stdout."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.jobs.invalid_files import BAD_FILES, BadFile
from support.processes.forks import start_fork, until_fork_ends

from longtake.cli.app import main

# Through a process of their own: one of each way to go wrong.
WITH_A_PROCESS = (
    "a misspelt key", "a YAML alias bomb", "JSON with lists in lists", "a key that moves the cursor", "an empty file"
)  # fmt: skip


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that is taken and never answers: whoever asks there would wait."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LONGTAKE_ROOTS", "LONGTAKE_DEBUG", "FORCE_COLOR", "TEMPORAL_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def written(bad: BadFile, folder: Path) -> Path:
    path = folder / bad.file
    path.write_bytes(bad.raw)
    return path


def assert_one_line(text: str, fragment: str) -> None:
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    assert fragment in text


@pytest.mark.parametrize("bad", BAD_FILES, ids=lambda bad: bad.name)
def test_submit_refuses_a_bad_file(
    bad: BadFile, tmp_path: Path, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["submit", str(written(bad, tmp_path)), "--address", nobody])
    told = capsys.readouterr()

    assert (code, told.out) == (2, "")
    assert_one_line(told.err, bad.fragment)


@pytest.mark.parametrize("name", WITH_A_PROCESS)
async def test_a_process_of_its_own_refuses_it_too(name: str, tmp_path: Path, nobody: str) -> None:
    (bad,) = [bad for bad in BAD_FILES if bad.name == name]
    words = ["longtake", "submit", str(written(bad, tmp_path)), "--address", nobody]
    out, err = tmp_path / "out", tmp_path / "err"
    code = await until_fork_ends(await start_fork(main, words, os.environ, out, err), 60)

    assert (code, out.read_text()) == (2, "")
    assert_one_line(err.read_text(), bad.fragment)


@pytest.mark.parametrize("command", ["plan", "submit"])
@pytest.mark.parametrize(
    ("path", "fragment"),
    [
        ("none.yaml", "there is no such job file; check the path"),
        (".", "is a folder; name the job file in it"),
        ("/dev/zero", "is no regular file; write the job into one"),
    ],
)
def test_what_is_no_file_is_refused(
    command: str, path: str, fragment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([command, str(tmp_path / path)])
    told = capsys.readouterr()

    assert (code, told.out) == (2, "")
    assert_one_line(told.err, fragment)
