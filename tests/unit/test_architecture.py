"""Imports flow one way, workflows do no I/O, and modules say what they are for."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGTAKE = ROOT / "client" / "longtake"

# docs/architecture.md: worker -> workflows -> activities -> longtake. Each part, and the parts it may import.
MAY_IMPORT = {
    "longtake": {"longtake"},
    "activities": {"activities", "longtake"},
    "workflows": {"workflows", "activities", "longtake"},
    "remote": {"remote", "activities", "longtake"},
    "worker": {"workflows", "activities", "longtake", "devserver", "ports"},
    "devserver": {"longtake", "ports"},
    "deploy": {"deploy", "longtake", "devserver", "gobuild", "ports"},
    "gobuild": set(),
    "ports": set(),
}
OURS = {*MAY_IMPORT, "client", "tests", "examples", "benchmarks"}

# Clocks, chance, files, processes and the network: what a workflow must get from activities or from Temporal.
NOT_IN_WORKFLOWS = {
    "os", "io", "time", "random", "secrets", "uuid", "socket", "ssl", "subprocess", "multiprocessing", "threading",
    "concurrent", "shutil", "tempfile", "glob", "pathlib", "urllib", "http", "signal", "sys", "logging", "requests",
    "httpx", "aiohttp", "boto3", "av", "psutil", "yaml", "typer", "rich",
}  # fmt: skip


def parts() -> dict[str, list[Path]]:
    """The Python files of each part, as far as the part exists."""
    folders = {"longtake": LONGTAKE} | {name: ROOT / name for name in ("activities", "workflows", "remote", "deploy")}
    found = {name: sorted(folder.rglob("*.py")) for name, folder in folders.items() if folder.is_dir()}
    return found | {name: [ROOT / f"{name}.py"] for name in ("worker", "devserver", "gobuild", "ports")}


def files() -> list[Path]:
    return [path for paths in parts().values() for path in paths]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each imported module with the names taken from it, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{shown(path)}: relative imports hide the direction; name the module in full"
            yield node.module or "", tuple(alias.name for alias in node.names)


def top(module: str) -> str:
    return module.partition(".")[0]


def test_the_parts_are_all_there() -> None:
    assert {"longtake", "activities", "workflows", "worker"} <= parts().keys()
    assert all(parts().values())


@pytest.mark.parametrize("part", sorted(parts()))
def test_imports_flow_one_way(part: str) -> None:
    wrong = [
        f"{shown(path)} imports {module}"
        for path in parts()[part]
        for module, _ in imports(path)
        if top(module) in OURS - MAY_IMPORT[part]
    ]

    assert not wrong


@pytest.mark.parametrize("path", parts()["workflows"], ids=shown)
def test_a_workflow_takes_nothing_but_classes_from_activities(path: Path) -> None:
    taken = [(module, names) for module, names in imports(path) if top(module) == "activities"]

    assert all(names and all(name.endswith("Activities") for name in names) for _, names in taken), taken


@pytest.mark.parametrize("path", parts()["workflows"], ids=shown)
def test_a_workflow_imports_nothing_that_reaches_the_world(path: Path) -> None:
    assert not {top(module) for module, _ in imports(path)} & NOT_IN_WORKFLOWS


@pytest.mark.parametrize("path", sorted((ROOT / "activities" / "media").glob("*.py")), ids=shown)
def test_media_knows_nothing_of_jobs(path: Path) -> None:
    ours = {module for module, _ in imports(path) if top(module) in OURS}

    assert all(module.startswith("activities.media") for module in ours), ours


@pytest.mark.parametrize("path", [path for path in parts()["longtake"] if "cli" not in path.parts], ids=shown)
def test_the_contract_needs_temporal_and_pydantic_only(path: Path) -> None:
    foreign = {top(module) for module, _ in imports(path)} & NOT_IN_WORKFLOWS & {
        "httpx", "boto3", "av", "psutil", "yaml", "typer", "rich", "requests", "aiohttp"
    }  # fmt: skip
    allowed = {"yamltext.py": {"yaml"}, "__main__.py": {"typer", "rich"}}
    # Imported by `opening` alone, and only for jobs whose store is a bucket.
    of_buckets = {"boto3"} if path.parent.name == "stores" and path.name.startswith("s3") else set()

    assert foreign <= allowed.get(path.name, of_buckets)


def test_nothing_but_the_reader_of_yaml_texts_imports_it_at_once() -> None:
    eager = [
        shown(path)
        for path in parts()["longtake"]
        if "cli" not in path.parts
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module == "longtake.yamltext"
    ]

    assert eager == []


def test_client_is_a_source_root_and_tests_are_no_package() -> None:
    assert not (ROOT / "client" / "__init__.py").exists()
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_the_source_root_holds_longtake_only() -> None:
    assert [path.name for path in (ROOT / "client").iterdir() if path.suffix != ".egg-info"] == ["longtake"]


@pytest.mark.parametrize("path", files(), ids=shown)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", files(), ids=shown)
def test_no_module_is_named_for_leftovers(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "common", "misc", "base", "constants"}
