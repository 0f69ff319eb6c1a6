"""`longtake plan`: what a job file would start, and the folders that a client may name."""

import json
from pathlib import Path
from typing import Any

import pytest

from longtake.cli.app import main

Captured = pytest.CaptureFixture[str]

JOB = {
    "name": "test",
    "frames": {"first": 100, "count": 10, "per_chunk": 4},
    "fps": 30,
    "command": ["ffmpeg", "-frames:v", "{count}", "my {chunk}", "{output}"],
    "chunk_output": "chunks/{chunk:06}.mp4",
    "output": "film.mp4",
}


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    monkeypatch.delenv("LONGTAKE_ROOTS", raising=False)


def written(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(JOB | changes))
    return str(path)


def test_plan_shows_chunks_film_and_first_command(tmp_path: Path, capsys: Captured) -> None:
    assert main(["plan", written(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "3, at most 8 at once" in shown
    assert "0: frames 100-103 (4 frames), chunks/000000.mp4" in shown
    assert "2: frames 108-109 (2 frames), chunks/000002.mp4" in shown
    assert f"{tmp_path}/film.mp4" in shown
    assert f"ffmpeg -frames:v 4 'my 0' {tmp_path}/chunks/000000.mp4" in shown
    assert [line for line in shown.splitlines() if line != line.rstrip()] == []


def test_plan_as_json_has_the_same_facts(tmp_path: Path, capsys: Captured) -> None:
    assert main(["plan", written(tmp_path), "--json", "--set", "frames.per_chunk=5"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["total_chunks"] == 2
    assert plan["total_frames"] == 10
    assert plan["last_chunk"] == {
        "chunk": 1, "start": 105, "stop": 110, "first_output": "chunks/000001.mp4", "last_output": "chunks/000001.mp4"
    }  # fmt: skip
    assert plan["output"] == f"{tmp_path}/film.mp4"
    assert plan["command"][-1] == f"{tmp_path}/chunks/000000.mp4"


def test_values_of_set_are_yaml_scalars_and_reach_into_sections(tmp_path: Path, capsys: Captured) -> None:
    changes = ("fps=30000/1001", "name='007'", "frames.count=4", "output=null", "max_parallel=3")
    options = [option for change in changes for option in ("--set", change)]
    assert main(["plan", written(tmp_path), "--json", *options]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["fps"] == "30000/1001"
    assert plan["name"] == "007"
    assert plan["total_chunks"] == 1
    assert plan["output"] is None
    assert plan["max_parallel"] == 3


def test_a_frame_sequence_is_shown_from_its_first_to_its_last_image(tmp_path: Path, capsys: Captured) -> None:
    assert main(["plan", written(tmp_path, chunk_output="img/f_{frame:04}.png", output=None)]) == 0
    shown = capsys.readouterr().out
    assert "img/f_0100.png to img/f_0103.png" in shown
    assert "img/f_%04d.png" in shown


def test_control_characters_of_a_job_file_do_not_reach_the_terminal(tmp_path: Path, capsys: Captured) -> None:
    assert main(["plan", written(tmp_path, command=["render", "red\x1b[31m\x07", "{output}"])]) == 0
    shown = capsys.readouterr().out
    assert "render red" in shown.replace("'", "")
    assert "\x1b" not in shown
    assert "\x07" not in shown


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"output": "../film.mp4"}, "output"),
        ({"output": "link/film.mp4"}, "output"),
        ({"chunk_output": "link/{chunk}.mp4"}, "chunk_output"),
        ({"chunk_output": "{chunk}/../../../{chunk}.mp4"}, "chunk_output"),
        ({"audio": "/etc/score.wav"}, "audio"),
        ({"base_dir": "/etc"}, "base_dir"),
    ],
)
def test_paths_outside_the_roots_of_this_host_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, changes: dict[str, str], field: str
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    monkeypatch.setenv("LONGTAKE_ROOTS", f"{root}:/nowhere")

    assert main(["submit", written(root, **changes)]) == 2
    refused = capsys.readouterr()
    assert refused.err.startswith(f"longtake: {field}: ")
    assert "lies outside the folders that jobs may use" in refused.err
    assert refused.out == ""


def test_paths_inside_the_roots_pass_through_links_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("LONGTAKE_ROOTS", str(tmp_path / "link"))

    assert main(["plan", written(tmp_path / "real"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total_chunks"] == 3
