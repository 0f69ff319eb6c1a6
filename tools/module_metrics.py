"""Print the size and the import structure of the source modules: `python tools/module_metrics.py`.

Tests, benchmarks and examples are left out. An import counts wherever in a file it stands.
"""

import ast
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Each part of the house, with the folder or file that holds it.
PARTS = {
    "longtake": ROOT / "client" / "longtake",
    "activities": ROOT / "activities",
    "workflows": ROOT / "workflows",
    "agent": ROOT / "agent",
    "deploy": ROOT / "deploy",
    "worker": ROOT / "worker.py",
    "devserver": ROOT / "devserver.py",
    "ports": ROOT / "ports.py",
}
# Below this a module needs a reason: an optional import, a process of its own, a public contract.
SHORT_LINES = 80


@dataclass(frozen=True)
class Module:
    """One source file.

    Args:
        name: As it is imported.
        path: Where it lies.
    """

    name: str
    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.path.read_text(encoding="utf-8"), str(self.path))

    @cached_property
    def lines(self) -> int:
        """How many lines it has."""
        return len(self.path.read_text(encoding="utf-8").splitlines())

    @property
    def is_package(self) -> bool:
        """Whether it is the `__init__.py` of a folder."""
        return self.path.name == "__init__.py"

    @cached_property
    def imports(self) -> list[tuple[str, tuple[str, ...]]]:
        """Each imported module with the names taken from it, wherever in the file."""
        found: list[tuple[str, tuple[str, ...]]] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found.extend((alias.name, ()) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.append(("." * node.level + (node.module or ""), tuple(alias.name for alias in node.names)))
        return found


def modules() -> dict[str, Module]:
    """Return all source modules by name."""
    found = {}
    for part, place in PARTS.items():
        for path in [place] if place.suffix else sorted(place.rglob("*.py")):
            relative = path.relative_to(place.parent).with_suffix("")
            name = ".".join(relative.parts[:-1] if relative.name == "__init__" else relative.parts)
            assert name.partition(".")[0] == part
            found[name] = Module(name, path)
    return found


def import_graph(found: Mapping[str, Module]) -> dict[str, set[str]]:
    """Return for each module the source modules that it imports."""
    graph: dict[str, set[str]] = {}
    for module in found.values():
        taken = set()
        for name, parts in module.imports:
            submodules = {f"{name}.{part}" for part in parts} & found.keys()
            taken |= submodules
            if name in found and len(submodules) < max(len(parts), 1):
                taken.add(name)
        graph[module.name] = taken - {module.name}
    return graph


def import_circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the modules of one import circle, the first of them at both ends; nothing where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def main() -> int:
    """Print the table; return the exit code."""
    found = modules()
    graph = import_graph(found)
    files = [module for module in found.values() if not module.is_package]
    sizes = sorted(module.lines for module in files)
    short = [module for module in files if module.lines < SHORT_LINES]
    importers = {name: [other for other, taken in graph.items() if name in taken] for name in found}
    rows = {
        "source files": str(len(files)),
        "median lines": f"{statistics.median(sizes):g}",
        "75th percentile": f"{statistics.quantiles(sizes, n=4)[2]:g}",
        "largest": str(sizes[-1]),
        f"under {SHORT_LINES} lines": f"{len(short)} ({len(short) / len(files):.0%})",
        "import circles": " -> ".join(import_circle(graph)) or "none",
        "modules with one importer": str(sum(len(importers[module.name]) == 1 for module in files)),
    }
    for label, value in rows.items():
        print(f"{label:28}{value}")
    print("\nshort modules:")
    for module in sorted(short, key=lambda module: module.lines):
        print(f"{module.lines:6}  {module.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
