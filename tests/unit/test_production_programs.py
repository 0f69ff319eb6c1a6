"""Programs in Go are built once, by one of those who ask, and never half."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.production.programs import GoBuildError, GoProgram

PROGRAM = GoProgram(name="tool-v1", package="example.org/tool@v1", minutes=2, go_version="1.26.8")
# Stands in for Go: builds a program that runs, and counts the builds.
GO = """#!/bin/sh
echo "$*" >> {log}
printf '#!/bin/sh\\n' > "$GOBIN/tool"
/bin/chmod +x "$GOBIN/tool"
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a `go` on PATH that is yet to be written."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder / "go"


def written(go: Path, text: str) -> None:
    go.write_text(text)
    go.chmod(0o755)


def test_callers_at_the_same_time_share_one_build(go: Path, tmp_path: Path) -> None:
    written(go, GO.format(log=tmp_path / "builds"))
    lines: list[str] = []

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(PROGRAM.ensure_built, tmp_path / "bin", lines.append) for _ in range(4)]
        found = {future.result() for future in asked}

    assert found == {tmp_path / "bin" / "tool-v1"}
    assert PROGRAM.ensure_built(tmp_path / "bin", lines.append) in found
    assert (tmp_path / "builds").read_text() == "install example.org/tool@v1\n"
    assert lines == ["Building example.org/tool@v1 with Go: up to 2 minutes, once."]


def test_without_go_one_is_told_what_to_install(go: Path, tmp_path: Path) -> None:
    with pytest.raises(GoBuildError, match=r"^There is no Go to build example\.org/tool@v1 with: install Go 1\.26\.8"):
        PROGRAM.ensure_built(tmp_path / "bin")


def test_a_build_that_fails_leaves_nothing_and_says_why(go: Path, tmp_path: Path) -> None:
    written(go, "#!/bin/sh\necho downloading >&2\necho no such module >&2\nexit 1\n")

    with pytest.raises(GoBuildError, match=r"^go install example\.org/tool@v1 failed: no such module$"):
        PROGRAM.ensure_built(tmp_path / "bin")

    assert PROGRAM.find(tmp_path / "bin") is None
