"""What follows from the fields of a job: limits of time and of failures."""

# a table is read by rows

from pathlib import Path
from typing import Any

import pytest
from support.jobs.invalid_files import GOOD, GOOD_YAML

from longtake.jobfile.loader import load_job, read_job


def job(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**GOOD, **changes}.items() if value is not None}


def timeouts(seconds: float, **changes: Any) -> dict[str, Any]:
    return job(timeouts={"chunk_seconds": seconds}, **changes)


@pytest.mark.parametrize(
    ("document", "limit"),
    [
        (job(backend="lambda"), 870),
        (timeouts(60, backend="lambda"), 60),
        (job(backend="cloud_run"), 3570),
        (job(), 3600),
        (timeouts(7200), 7200),
    ],
)
def test_a_chunk_may_take_as_long_as_its_backend_lives(document: dict[str, Any], limit: float) -> None:
    assert read_job(document).chunk_limit_seconds == limit


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("limit", "chunks", "failures"),
    [
        ("0", 100, 0), ("3", 100, 3), ("10%", 100, 10), ("10%", 19, 1), ("0.5%", 1000, 5), ("100%", 7, 7),
        ("null", 100, None),
    ],
)  # fmt: skip
def test_a_limit_of_failed_chunks_is_a_count_or_a_share(
    limit: str, chunks: int, failures: int | None, tmp_path: Path
) -> None:
    text = GOOD_YAML + f"on_chunk_failure: continue\nmax_failed_chunks: {limit}\n"

    assert load_job(write(tmp_path / "film.yaml", text)).failure_limit(chunks) == failures
