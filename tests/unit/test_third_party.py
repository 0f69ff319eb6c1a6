"""THIRD_PARTY.md names every package and every image in its version, with the licence that it tells itself."""

import re
from pathlib import Path

import pytest
import yaml

from tools.third_party import find_license, pinned, rows

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "THIRD_PARTY.md").read_text()
DOCKERFILES = sorted((ROOT / "deploy").rglob("Dockerfile"))


def test_packages_are_those_of_the_constraints_with_their_licences() -> None:
    told = [line for line in TEXT.partition("## Packages")[2].splitlines() if re.match(r"\| (?!package|-)", line)]

    assert told == rows(), "renew the table: `python tools/third_party.py` prints it"
    assert len(told) == len(pinned())


def test_a_package_that_tells_no_licence_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "silent-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: silent\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(LookupError, match="silent does not tell its licence"):
        find_license("silent")


def test_images_are_those_of_the_compose_file_and_of_our_images() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    used = {service["image"] for service in services if "build" not in service}
    used |= {base for path in DOCKERFILES for base in re.findall(r"(?m)^FROM (\S+)", path.read_text())}
    told = set(re.findall(r"(?m)^\| `([^`]+:[^`]+)` \|", TEXT.partition("## Images")[2].partition("\n## ")[0]))

    assert told == used


def test_what_the_copyleft_asks_for_is_said() -> None:
    text = TEXT.partition("## GPL")[2]
    for word in ("x264", "x265", "`imageio-ffmpeg`", "`av`", "GPL-3.0-or-later", "on PATH"):
        assert word in text
