"""A report is printed by a real browser."""

from pathlib import Path

import pytest

from longtake.report.chromium import BROWSER_VARIABLE, print_pdf

pytestmark = pytest.mark.browser


def test_a_page_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BROWSER_VARIABLE, raising=False)
    print_pdf("<!doctype html><title>report</title><p>pages</p>", tmp_path / "report.pdf")

    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
