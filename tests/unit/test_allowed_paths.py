"""The folders that jobs of a client may name."""

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


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"output": "../film.mp4"}, "output"),
        ({"output": "link/film.mp4"}, "output"),
        ({"chunk_output": "link/{chunk}.mp4"}, "chunk_output"),
        ({"chunk_output": "{chunk}/../../../{chunk}.mp4"}, "chunk_output"),
        ({"audio": "/etc/score.wav"}, "audio"),
        (
            {
                "chunk_output": "{frame}.exr",
                "output": "film.mp4",
                "colour": {"input": "a", "output": "b", "config": "/etc/a.ocio"},
            },
            "colour.config",
        ),
        ({"base_dir": "/etc"}, "base_dir"),
    ],
)
def test_paths_outside_the_roots_of_this_host_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, changes: dict[str, Any], field: str
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
