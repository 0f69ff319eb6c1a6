"""What people see of remote work: its cost before it is started, its bill, and what became of orders to stop."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from longtake.cli.app import main
from longtake.cli.control import describe_effect
from longtake.cli.formatting import describe_end, describe_stops, format_usd
from longtake.cli.status import facts
from longtake.cli.views import LineView
from longtake.models.backends import BackendKind
from longtake.models.status import (
    JobMetrics,
    JobPhase,
    JobState,
    JobStatus,
    PauseMode,
    RemoteStop,
    RemoteStops,
    RenderJobResult,
)

Captured = pytest.CaptureFixture[str]

JOB = {
    "name": "test",
    "frames": {"count": 100, "per_chunk": 50},
    "fps": 30,
    "command": ["ffmpeg", "-frames:v", "{count}", "{output}"],
    "chunk_output": "chunks/{chunk:06}.mp4",
    "output": "film.mp4",
    "backend": {"type": "lambda", "function": "longtake-render", "region": "eu-central-1"},
    "store": "s3://films/2025/",
}
NOON = datetime(2025, 6, 1, 12, 0, 0, tzinfo=UTC)
CONFIRMED = RemoteStops(where="lambda longtake-render", confirmed=8, slowest_seconds=1.21)
DEADLINE = NOON + timedelta(hours=2, minutes=32, seconds=10)
SILENT = RemoteStops(
    unconfirmed_count=2,
    unconfirmed=(
        RemoteStop(chunk=3, seconds=10.02, ends_at=DEADLINE - timedelta(seconds=9)),
        RemoteStop(chunk=4, seconds=10.01, ends_at=DEADLINE),
    ),
)


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    for name in ("LONGTAKE_ROOTS", "LONGTAKE_PRICES"):
        monkeypatch.delenv(name, raising=False)


def written(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({key: value for key, value in (JOB | changes).items() if value is not None}))
    return str(path)


def look(state: JobState = JobState.RUNNING, **fields: object) -> JobStatus:
    known: dict[str, object] = {
        "id": "job-1",
        "state": state,
        "phase": JobPhase.RENDERING,
        "backend": BackendKind.LAMBDA,
        "created_at": NOON,
        "updated_at": NOON + timedelta(seconds=12),
    }
    return JobStatus.model_validate(known | fields)


def shown(status: JobStatus) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(facts(status))
    return text.getvalue()


def test_plan_shows_where_a_job_renders_and_what_it_costs_at_most(tmp_path: Path, capsys: Captured) -> None:
    assert main(["plan", written(tmp_path)]) == 0

    text = " ".join(capsys.readouterr().out.split())
    assert "store s3://films/2025/" in text
    assert "film s3://films/2025/film.mp4" in text
    assert "command ffmpeg -frames:v 50 chunks/000000.mp4" in text
    assert "rendered on Lambda, function longtake-render in eu-central-1 (2,048 MB)" in text
    assert "time limit 14:30 a chunk" in text
    assert "cost at most 0.058 USD: 2 chunks to their time limit; each of up to 4 tries of a chunk is billed" in text
    assert "prices list prices (AWS Lambda x86 us-east-1, Cloud Run tier 1, request-based); LONGTAKE_PRICES" in text


def test_plan_as_json_has_the_same_facts(tmp_path: Path, capsys: Captured) -> None:
    changes = {"backend": {"type": "cloud_run", "vcpus": 4, "memory_mb": 8192}, "store": None}
    assert main(["plan", written(tmp_path, **changes), "--json", "--chunk-seconds", "90"]) == 0

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
    assert main(["plan", written(tmp_path, retry={"attempts": 1}), "--chunk-seconds", "60.5"]) == 0

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
    assert main(["plan", written(tmp_path, **changes), "--chunk-seconds", "1200"]) == 0

    assert advice in " ".join(capsys.readouterr().out.split())


def test_plan_counts_what_a_bucket_would_get(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "a.blend").write_bytes(b"x" * 2048)
    assert main(["plan", written(tmp_path, inputs=["scene"])]) == 0
    assert "inputs 1 file (2.0 KiB), of which the store gets what it lacks" in " ".join(capsys.readouterr().out.split())

    assert main(["plan", written(tmp_path, inputs=["scene", "missing"])]) == 2
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

    assert main(["plan", written(tmp_path, **changes), "--chunk-seconds", "9"]) == 2

    refused = capsys.readouterr()
    assert refused.err.startswith(sentence)
    assert refused.err.count("\n") == 1
    assert refused.out == ""


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0, "0.00 USD"),
     (0.0000004, "under 0.001 USD"), (0.0421, "0.042 USD"), (1.004, "1.00 USD"), (1234.5, "1,234.50 USD")],
)  # fmt: skip
def test_amounts_are_short(usd: float, text: str) -> None:
    assert format_usd(usd) == text


def test_a_confirmed_stop_says_how_long_it_took() -> None:
    assert describe_stops(CONFIRMED) == "8 chunks stopped on lambda longtake-render, confirmed after 1.2 s"
    assert describe_stops(RemoteStops(confirmed=1, slowest_seconds=0.4)) == "1 chunk stopped, confirmed after 0.4 s"
    assert describe_stops(RemoteStops()) is None


def test_an_unconfirmed_stop_says_when_it_ends_by_itself() -> None:
    assert describe_stops(SILENT, now=NOON) == (
        "2 chunks asked to stop, not confirmed within 10 s; they end by themselves at their deadline of 14:32:10 UTC "
        "at the latest"
    )
    assert (describe_stops(SILENT, now=NOON + timedelta(days=1)) or "").endswith(
        "; they ended by themselves by their deadline of 2025-06-01 14:32:10 UTC at the latest"
    )
    lost = RemoteStops(unconfirmed_count=1, unconfirmed=(RemoteStop(chunk=3, ends_at=DEADLINE),))
    assert describe_stops(lost, now=NOON) == (
        "1 chunk asked to stop, not confirmed; it ends by itself at its deadline of 14:32:10 UTC at the latest"
    )
    assert (describe_stops(RemoteStops(unconfirmed_count=1)) or "").endswith("; it ends by itself at its deadline")


def test_both_kinds_of_stops_are_told_together() -> None:
    both = CONFIRMED.model_copy(update={"unconfirmed_count": 2, "unconfirmed": SILENT.unconfirmed})

    assert (describe_stops(both) or "").startswith(
        "8 chunks stopped on lambda longtake-render, confirmed after 1.2 s; 2 chunks asked to stop, not confirmed"
    )


def test_the_end_of_a_cancelled_job_tells_what_became_of_its_remote_work() -> None:
    assert describe_end(look(JobState.CANCELLED, remote_stops=CONFIRMED)) == (
        "job-1 was cancelled after 0:12: 8 chunks stopped on lambda longtake-render, confirmed after 1.2 s; "
        "`longtake retry job-1` renders only what is missing"
    )
    assert "; 8 chunks stopped on" in describe_end(look(JobState.FAILED, error="no codec", remote_stops=CONFIRMED))
    assert describe_end(look(JobState.CANCELLED)) == (
        "job-1 was cancelled after 0:12; `longtake retry job-1` renders only what is missing"
    )


def test_a_paused_job_tells_it_too(capsys: Captured) -> None:
    paused = look(JobState.PAUSED, progress=40, remote_stops=CONFIRMED)
    told = "8 chunks stopped on lambda longtake-render, confirmed after 1.2 s"
    with LineView() as view:
        for status in (look(JobState.RUNNING, remote_stops=CONFIRMED), paused, paused):
            view.show(status)

    assert describe_effect(paused, PauseMode.NOW) == f"job-1 is paused at 40 %: {told}"
    assert capsys.readouterr().err.count(told) == 1
    assert f"stopped      {told}" in shown(paused)


def test_the_bill_is_part_of_the_status_and_of_the_end() -> None:
    metrics = JobMetrics(billed_seconds=3725, cost_usd=0.1241)
    done = look(JobState.COMPLETED, metrics=metrics, result=RenderJobResult(output="/f/film.mp4", frames=100))

    assert "rendered on  Lambda" in shown(look(metrics=metrics))
    assert "billed       1:02:05 of Lambda, 0.124 USD" in shown(look(metrics=metrics))
    assert (
        describe_end(done) == "job-1 completed in 0:12: /f/film.mp4 (100 frames); billed 1:02:05 of Lambda, 0.124 USD"
    )


def test_a_job_on_hosts_of_ones_own_speaks_of_no_bill() -> None:
    text = shown(look(backend=BackendKind.LOCAL))

    assert "billed" not in text
    assert "rendered on" not in text
