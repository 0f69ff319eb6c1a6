"""Usage: what is refused with a sentence and its exit code, what help teaches, and that nothing ends in a traceback."""

from pathlib import Path

import pytest

from longtake.cli import app as application
from longtake.cli.app import main

COMMANDS = (
    "plan", "submit", "watch", "retry", "skip", "pause", "resume", "cancel", "status", "list", "logs", "doctor"
)  # fmt: skip

JOB = """
name: test
frames: {count: 10, per_chunk: 4}
command: [render, "{output}"]
chunk_output: "out/{chunk}.txt"
"""

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LONGTAKE_ROOTS", "LONGTAKE_DEBUG", "LONGTAKE_TASK_QUEUE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


def test_the_version_is_told(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("longtake ")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_shows_an_example(command: str, capsys: Captured) -> None:
    assert main([command, "--help"]) == 0
    assert f"longtake {command}" in capsys.readouterr().out.partition("Example:")[2]


def test_the_help_names_every_command_and_the_exit_codes(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f" {command} " in shown for command in COMMANDS)
    assert "130 interrupted" in " ".join(shown.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("status",),
        ("submit", "{job}", "--nonsense"),
        ("submit", "{job}", "--max-parallel", "0"),
        ("submit", "{job}", "--set", "retry.attempts"),
        ("submit", "{job}", "--set", "name=[unfinished"),
        ("list", "--state", "nonsense"),
        ("pause", "job-1", "--mode", "nonsense"),
        ("skip", "job-1"),
        ("skip", "job-1", "--chunk", "nonsense"),
        ("retry", "job-1", "--chunk", "7-3"),
    ],
)
def test_wrong_usage_exits_2_and_writes_no_result(arguments: tuple[str, ...], job_file: Path, capsys: Captured) -> None:
    assert main([argument.format(job=job_file) for argument in arguments]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert "Error" in written.err or written.err.startswith("longtake: --")


@pytest.mark.parametrize("mode", ["drain", "freeze", "now"])
def test_every_way_to_pause_is_taken_and_taught(mode: str, dead_address: str, capsys: Captured) -> None:
    assert main(["--address", dead_address, "pause", "job-1", "--mode", mode]) == 5
    assert main(["pause", "--help"]) == 0
    assert any(line.strip().startswith(f"{mode}: ") for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("submit", "missing.yaml"), "there is no such job file"),
        (("submit", "{job}", "--set", "retry.attemps=2"), "did you mean attempts?"),
        (("submit", "{job}", "--set", "frames.count=many"), "write a whole number"),
        (("submit", "{job}", "--set", "frames=1:10"), "--set: 'frames=1:10' holds no value that YAML can read; quote"),
        (("submit", "{job}", "--set", "frames=5"), "frames: is 5; write {count: 5}, or {first: 5, count: 1}"),
    ],
)
def test_bad_jobs_exit_2_with_one_sentence_before_any_server_is_asked(
    arguments: tuple[str, ...], sentence: str, job_file: Path, dead_address: str, capsys: Captured
) -> None:
    assert main(["--address", dead_address, *(argument.format(job=job_file) for argument in arguments)]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert sentence in written.err
    assert len(written.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",), ("status", "job-1"), ("submit", "{job}"), ("watch", "job-1"), ("retry", "job-1", "--chunk", "3"),
        ("skip", "job-1", "--chunk", "3-7,9", "--chunk", "0", "--allow-gaps"),
    ],
)  # fmt: skip
def test_no_server_exits_5_with_one_sentence(
    arguments: tuple[str, ...], job_file: Path, dead_address: str, capsys: Captured
) -> None:
    assert main([*(argument.format(job=job_file) for argument in arguments), "--address", dead_address]) == 5
    written = capsys.readouterr()
    assert written.out == ""
    assert f"no Temporal server answers at {dead_address}" in written.err
    assert len(written.err.splitlines()) == 1


def test_an_unexpected_error_is_one_sentence_and_a_traceback_only_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the moon is full")

    monkeypatch.setattr(application, "COMMAND", fail)

    assert main(["list"]) == 1
    quiet = capsys.readouterr()
    assert quiet.out == ""
    assert quiet.err == (
        "longtake: unexpected RuntimeError: the moon is full; --debug or LONGTAKE_DEBUG=1 shows where\n"
    )

    assert main(["list", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_options_of_the_application_may_stand_behind_the_command(capsys: Captured, dead_address: str) -> None:
    assert main(["list", f"--address={dead_address}"]) == 5
    assert dead_address in capsys.readouterr().err
    assert main(["list", "--", "--address", dead_address]) == 2
