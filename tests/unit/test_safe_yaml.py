"""YAML as people write it: values mean what they look like, and no document takes time or memory."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from support.jobs.invalid_files import BAD_FILES, GOOD_YAML

from longtake.errors import BadJobError
from longtake.jobfile.loader import load_job
from longtake.models.policies import FailurePolicy


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("start", ["\ufeff", "\n\n", "# a film\n", "---\n", "%YAML 1.1\n---\n"])
def test_yaml_may_begin_in_many_ways(start: str, tmp_path: Path) -> None:
    assert load_job(write(tmp_path / "film.yaml", start + GOOD_YAML)).chunk_count == 4


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("name: 2024-05-01", "name", "2024-05-01"),
        ("env: {DAY: 2024-05-01 10:00:00}", "env", {"DAY": "2024-05-01 10:00:00"}),
        ('env: {N: "1"}', "env", {"N": "1"}),
        ("max_parallel: 0x10", "max_parallel", 16),
        ("max_parallel: 1_00", "max_parallel", 100),
        ("allow_gaps: yes", "allow_gaps", True),
        ("on_chunk_failure: continue", "on_chunk_failure", FailurePolicy.CONTINUE),
        ("on_chunk_failure: hold", "on_chunk_failure", FailurePolicy.HOLD),
        ("audio: null", "audio", None),
    ],
)
def test_yaml_values_mean_what_people_mean(line: str, field: str, value: object, tmp_path: Path) -> None:
    assert getattr(load_job(write(tmp_path / "film.yaml", GOOD_YAML + line + "\n")), field) == value


def test_yaml_aliases_save_writing(tmp_path: Path) -> None:
    text = """
fps: 30
chunks:
  - {start: 0, count: 5, output: a.mp4, command: &render [render, "{output}"]}
  - {start: 5, count: 5, output: b.mp4, command: *render}
"""
    job = load_job(write(tmp_path / "film.yaml", text))

    assert [chunk.command for chunk in job.inline_chunks] == [("render", "{output}")] * 2


def refusal(path: Path, **overrides: object) -> str:
    with pytest.raises(BadJobError) as caught:
        load_job(path, overrides)
    return str(caught.value)


def test_a_huge_yaml_file_is_sent_to_json(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_text(GOOD_YAML + "#" * 5_000_000)

    assert refusal(path) == "huge.yaml: cannot be read, it has over 4 MiB; write lists this long as JSON"


def test_an_alias_bomb_takes_neither_time_nor_memory(tmp_path: Path) -> None:
    (bomb,) = [bad for bad in BAD_FILES if bad.name == "a YAML alias bomb"]
    path = tmp_path / bomb.file
    path.write_bytes(bomb.raw)
    script = (
        "import sys; from pathlib import Path; from longtake.jobfile.loader import load_job; "
        "load_job(Path(sys.argv[1]))"
    )

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))

    ended = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=20, preexec_fn=small
    )

    assert ended.stderr.splitlines()[-1].startswith("longtake.errors.BadJobError: bad.yaml: cannot be read")
