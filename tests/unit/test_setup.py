"""The repository's own set-up: targets of make, pinned packages, and no host or path of a machine in any file."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

# Hosts of package registries and options that name them: where packages come from is each machine's business.
# Spelt so that this file does not find itself.
REGISTRY = re.compile(
    r"pypi\.(?:org|python\.org)|pythonhosted\.org|(?:proxy|sum)\.golang\.org|registry\.npmjs|conda\.anaconda"
    r"|artifactor[y]|index-ur[l]|find-link[s]"
)
# A person's folder on some machine, followed by a name.
HOME_PATH = re.compile(r"(?<![\w.}-])/(?:home|Users|root)/[\w.]")
# A folder of an image, which the compose file must name.
FOLDER_OF_TEMPORALS_UI = "/home/ui-server/config"


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def make(*arguments: str) -> "subprocess.CompletedProcess[str]":
    # Named, so that make does not start one Python after the other to find one.
    return subprocess.run(
        ["make", f"PYTHON={sys.executable}", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def targets_in_help() -> list[str]:
    return re.findall(r"^ +make ([a-z-]+) ", make("help").stdout, re.MULTILINE)


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_help_is_the_default_and_names_the_way_in() -> None:
    assert make().stdout == make("help").stdout
    assert {"setup", "demo", "test", "dev", "lint", "format", "clean"} <= set(targets_in_help())


def test_every_target_in_help_exists() -> None:
    planned = make("--dry-run", "--keep-going", *targets_in_help())

    assert planned.returncode == 0, planned.stderr


def test_the_python_that_is_set_up_is_an_optimized_one_where_there_is_one(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sort", "head", "cut"):
        (tools / name).symlink_to(str(shutil.which(name)))
    said = {
        "shim/python3.13": "echo 'no such version' >&2; exit 127",
        "built/python3.12": "echo 0 /built/python3.12",
        "system folder/python3": "echo '1 /system folder/python3'",
        "other/python": "echo 1 /other/python",
    }
    for name, script in said.items():
        program = tmp_path / name
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def find(*folders: str) -> str:
        path = os.pathsep.join(str(tmp_path / folder) for folder in (*folders, "tools"))
        return subprocess.run(
            ["/bin/sh", ROOT / "tools" / "find-python.sh"], env={"PATH": path}, capture_output=True, text=True
        ).stdout

    assert find("shim", "built", "other", "system folder") == "/system folder/python3\n"
    assert find("shim", "built") == "/built/python3.12\n"
    assert find("shim") == ""


def test_the_demo_installs_a_server_and_no_linters() -> None:
    planned = make("--dry-run", "--always-make", "demo").stdout

    assert "-e '.[worker,web,dev-server]'" in planned
    assert "[dev]" not in planned


def test_ci_runs_all_tests_and_make_test_needs_no_go() -> None:
    assert "make lint test test-farm" in (ROOT / ".ci" / "run").read_text()
    assert "deploy.production" not in make("--dry-run", "--always-make", "test").stdout
    assert "deploy.production --install" in make("--dry-run", "--always-make", "test-farm").stdout


def test_constraints_are_exact_and_name_no_index() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert "://" not in line
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.]+", line), line


def test_constraints_pin_every_package_of_the_dev_setup() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    waiting = [Requirement(line) for lines in extras.values() for line in lines]
    waiting += [Requirement(line) for line in distribution("longtake").requires or [] if "extra ==" not in line]
    seen: set[tuple[str, str]] = set()

    while waiting:
        requirement = waiting.pop()
        for extra in requirement.extras or {""}:
            key = (canonicalize_name(requirement.name), extra)
            if key in seen:
                continue
            seen.add(key)
            needs = map(Requirement, distribution(requirement.name).requires or [])
            waiting += [r for r in needs if r.marker is None or r.marker.evaluate({"extra": extra})]

    assert {name for name, _ in seen} - {"longtake"} <= set(pins())


def test_no_tracked_file_names_a_registry_or_a_machine_path() -> None:
    found = []
    for path in tracked_files():
        text = path.read_bytes().decode(errors="ignore").replace(FOLDER_OF_TEMPORALS_UI, "")
        # A short checkout path such as /app is a word like any other, in an image for one.
        here = [str(ROOT)] if len(ROOT.parts) > 2 and str(ROOT) in text else []
        found += [f"{path.relative_to(ROOT)}: {hit}" for hit in REGISTRY.findall(text) + HOME_PATH.findall(text) + here]

    assert found == []


def test_scripts_import_nothing_of_the_checkout_before_they_put_it_on_the_path() -> None:
    of_checkout = {path.stem for path in ROOT.iterdir()} | {"support"}
    scripts = [path for path in tracked_files() if path.suffix == ".py" and "\nsys.path" in path.read_text()]
    early = []
    for script in scripts:
        for node in ast.parse(script.read_text()).body:
            if ast.unparse(node).startswith("sys.path"):
                break
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            early += [f"{script.relative_to(ROOT)}: {name}" for name in names if name.split(".")[0] in of_checkout]

    assert len(scripts) > 3
    assert early == []
