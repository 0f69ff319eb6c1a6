"""A report as PDF: by the browser that is there, and one sentence where there is none or it fails."""

import stat
from pathlib import Path

import pytest

from longtake.errors import LongtakeError
from longtake.report.chromium import BROWSER_VARIABLE, find_chromium, print_pdf


def make_browser(folder: Path, script: str) -> str:
    path = folder / "chromium"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_browser_is_found_on_the_path_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_browser(tmp_path, "exit 0")
    monkeypatch.delenv(BROWSER_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_chromium() == path

    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv(BROWSER_VARIABLE, path)
    assert find_chromium() == path

    monkeypatch.setenv(BROWSER_VARIABLE, "nothing-here")
    with pytest.raises(LongtakeError, match="nothing-here cannot be run; name a Chromium"):
        find_chromium()


def test_a_browser_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BROWSER_VARIABLE, make_browser(tmp_path, "echo 'no display' >&2; exit 3"))

    with pytest.raises(LongtakeError, match=r"has made no PDF \(exit code 3\): no display"):
        print_pdf("<p>report</p>", tmp_path / "report.pdf")
    assert not (tmp_path / "report.pdf").exists()
