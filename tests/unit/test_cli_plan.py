"""`longtake plan`: what a job file would start, where that is rendered and what it costs."""

import json
import re
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
        "step": 1,
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


def test_all_outputs_are_shown(tmp_path: Path, capsys: Captured) -> None:
    outputs = {"beauty": "b/{frame:04}.png", "depth": "d/{frame:04}.exr"}
    frames = {"first": 1, "count": 5, "per_chunk": 3}
    file = tmp_path / "passes.json"
    file.write_text(json.dumps({"frames": frames, "command": ["render", "{output}"], "outputs": outputs}))

    assert main(["plan", str(file)]) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert "b/0001.pngtob/0003.png,d/0001.exrtod/0003.exr" in shown
    assert main(["plan", str(file), "--json"]) == 0
    last = json.loads(capsys.readouterr().out)["last_chunk"]
    assert last["last_output"] == "b/0005.png"
    assert last["outputs"] == [
        {"first": "b/0004.png", "last": "b/0005.png"},
        {"first": "d/0004.exr", "last": "d/0005.exr"},
    ]


def test_control_characters_of_a_job_file_do_not_reach_the_terminal(tmp_path: Path, capsys: Captured) -> None:
    assert main(["plan", written(tmp_path, command=["render", "red\x1b[31m\x07", "{output}"])]) == 0
    shown = capsys.readouterr().out
    assert "render red" in shown.replace("'", "")
    assert "\x1b" not in shown
    assert "\x07" not in shown


REMOTE_JOB = {
    "name": "test",
    "frames": {"count": 100, "per_chunk": 50},
    "fps": 30,
    "command": ["ffmpeg", "-frames:v", "{count}", "{output}"],
    "chunk_output": "chunks/{chunk:06}.mp4",
    "output": "film.mp4",
    "backend": {"type": "lambda", "function": "longtake-render", "region": "eu-central-1"},
    "store": "s3://films/2025/",
}


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    for name in ("LONGTAKE_ROOTS", "LONGTAKE_PRICES"):
        monkeypatch.delenv(name, raising=False)


def written_remote(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({key: value for key, value in (REMOTE_JOB | changes).items() if value is not None}))
    return str(path)


def test_plan_shows_where_a_job_renders_and_what_it_costs_at_most(tmp_path: Path, capsys: Captured) -> None:
    assert main(["plan", written_remote(tmp_path)]) == 0

    text = " ".join(capsys.readouterr().out.split())
    assert "store s3://films/2025/" in text
    assert "film s3://films/2025/film.mp4" in text
    assert "command ffmpeg -frames:v 50 chunks/000000.mp4" in text
    assert "rendered on Lambda, function longtake-render in eu-central-1 (2,048 MB)" in text
    assert "time limit 14:30 a chunk" in text
    assert "cost at most 0.058 USD: 2 chunks to their time limit; each of up to 4 tries of a chunk is billed" in text
    assert "prices list prices (AWS Lambda x86 us-east-1, Cloud Run tier 1, request-based); LONGTAKE_PRICES" in text


def test_plan_as_json_has_the_same_facts_of_remote_work(tmp_path: Path, capsys: Captured) -> None:
    changes = {"backend": {"type": "cloud_run", "vcpus": 4, "memory_mb": 8192}, "store": None}
    assert main(["plan", written_remote(tmp_path, **changes), "--json", "--chunk-seconds", "90"]) == 0

    plan = json.loads(capsys.readouterr().out)
    remote = plan["remote"]
    assert plan["store"] == plan["base_dir"] == str(tmp_path)
    assert remote["backend"] == "cloud_run"
    assert remote["where"] == "Cloud Run, the first service that its workers may call"
    assert (remote["memory_mb"], remote["vcpus"], remote["protocol"]) == (8192, 4, "longtake")
    assert remote["chunk_limit_seconds"] == 3570
    a_second = 4 * 0.000024 + 8 * 0.0000025
    assert remote["estimated_usd"] == pytest.approx(2 * 90 * a_second + 0.0000008, abs=1e-6)
    assert remote["most_usd"] == pytest.approx(2 * 3570 * a_second + 0.0000008, abs=1e-6)
    assert remote["prices"]["cloud_run_vcpu_second"] == 0.000024
    assert "fitting_frames" not in remote


def test_plan_estimates_by_measured_times_and_prices_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("LONGTAKE_PRICES", "lambda_gb_second=1 lambda_request=0.5")
    assert main(["plan", written_remote(tmp_path, retry={"attempts": 1}), "--chunk-seconds", "60.5"]) == 0

    text = " ".join(capsys.readouterr().out.split())
    assert "cost about 243.00 USD: 2 chunks of 60.5 s each cost at most" in text
    assert "prices list prices" in text
    assert "but lambda_gb_second, lambda_request of LONGTAKE_PRICES" in text


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, "1200 s are more than a chunk may take; set frames.per_chunk to at most 32"),
        (
            {"frames": None, "chunks": [{"start": n * 20, "count": 20} for n in range(3)]},
            "1200 s are more than a chunk may take; set the count of each chunk to at most 13",
        ),
        ({"frames": {"count": 4, "per_chunk": 1}}, "cannot be cut; render it on hosts of your own"),
    ],
)
def test_plan_proposes_smaller_chunks_for_those_that_take_too_long(
    tmp_path: Path, capsys: Captured, changes: dict[str, Any], advice: str
) -> None:
    assert main(["plan", written_remote(tmp_path, **changes), "--chunk-seconds", "1200"]) == 0

    assert advice in " ".join(capsys.readouterr().out.split())


def test_plan_counts_what_a_bucket_would_get(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "a.blend").write_bytes(b"x" * 2048)
    assert main(["plan", written_remote(tmp_path, inputs=["scene"])]) == 0
    assert "inputs 1 file (2.0 KiB), of which the store gets what it lacks" in " ".join(capsys.readouterr().out.split())

    assert main(["plan", written_remote(tmp_path, inputs=["scene", "missing"])]) == 2
    assert capsys.readouterr().err.startswith("longtake: inputs[1]: there is no ")


@pytest.mark.parametrize(
    ("prices", "changes", "sentence"),
    [
        ("lambda=1", {}, "longtake: LONGTAKE_PRICES: 'lambda' is not a price; "),
        ("", {"backend": None, "store": None}, "longtake: --chunk-seconds: is for what services bill"),
        ("", {"timeouts": {"chunk_seconds": 1200}}, "longtake: timeouts.chunk_seconds: 1200 s is longer than a Lambda"),
    ],
)
def test_plan_refuses_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    prices: str,
    changes: dict[str, Any],
    sentence: str,
) -> None:
    monkeypatch.setenv("LONGTAKE_PRICES", prices)

    assert main(["plan", written_remote(tmp_path, **changes), "--chunk-seconds", "9"]) == 2

    refused = capsys.readouterr()
    assert refused.err.startswith(sentence)
    assert refused.err.count("\n") == 1
    assert refused.out == ""


def test_plan_shows_what_job_and_time_stand_for(tmp_path: Path, capsys: Captured) -> None:
    names = {"name": "night of {date}", "output": "film-{date}.mp4", "chunk_output": "{date}/{time}/{chunk}.mp4"}
    file = written(tmp_path, **names, started_at="2026-11-28T02:00:00Z")

    assert main(["plan", file]) == 0
    shown = capsys.readouterr().out
    assert main(["plan", file, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert main(["plan", written(tmp_path, **names)]) == 0
    now = capsys.readouterr().out

    assert re.search(
        r"^placeholders +\{job\} is night-of-2026-11-28-\w{8}, \{date\} is 2026-11-28, \{time\} is 02-00-00$",
        shown,
        re.M,
    )
    assert f"{tmp_path}/film-2026-11-28.mp4" in shown
    assert "2026-11-28/02-00-00/0.mp4" in shown
    assert (plan["name"], plan["placeholders"]["time"]) == ("night of 2026-11-28", "02-00-00")
    assert now.rstrip().endswith(", if it is started now")


def test_plan_of_a_job_without_them_says_nothing_of_them(tmp_path: Path, capsys: Captured) -> None:
    assert main(["plan", written(tmp_path)]) == 0
    assert "placeholders" not in capsys.readouterr().out
