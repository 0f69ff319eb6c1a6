"""Write what benchmarks have found: as Markdown, as JSON, and into a page."""

import json
import os
import platform
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("longtake", "temporalio")
_QUIET_LOAD = 0.5
# Of pages of this repository.
_COLUMNS = 120


@dataclass(frozen=True)
class Table:
    """Figures for people."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(_escape(cell) for cell in line)} |" for line in lines)


@dataclass(frozen=True)
class Part:
    """What one part of the benchmarks has found.

    Attributes:
        name: Its name on the command line.
        title: What it compares, in a sentence.
        table: The figures for people.
        figures: The same and more as data.
        versions: Programs besides ours that took part.
        notes: What belongs to the figures, a sentence each.
    """

    name: str
    title: str
    table: Table
    figures: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def to_markdown(self, machine: str) -> str:
        """Return the part with its machine and versions, as it stands in a page."""
        programs = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        told = " ".join([*self.notes, f"{machine}{'; ' + programs if programs else ''}."])
        return "\n\n".join([_wrap(self.title), self.table.to_markdown(), _wrap(told)])


def describe_machine(load: tuple[float, float, float] | None = None) -> str:
    """Describe the machine, what ran on it, when, and how busy it was when the run began."""
    busy = (load or os.getloadavg())[0]
    memory = psutil.virtual_memory().total / 2**30
    # Half a core's worth of others' work is seen in every figure.
    verdict = "; it was busy, so that only ratios of a round say something" if busy > _QUIET_LOAD else ""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.machine()}, load {busy:.1f} before the run{verdict}; Python {platform.python_version()}, {packages}"
    )


def write_json(path: Path, parts: Sequence[Part], *, machine: str, arguments: Mapping[str, object]) -> None:
    """Write all figures into a file."""
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "arguments": {name: value for name, value in arguments.items() if not isinstance(value, Path)},
        "parts": {
            part.name: {"figures": part.figures, "versions": part.versions, "notes": part.notes} for part in parts
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def write_into_page(page: Path, part: Part, machine: str) -> None:
    """Put a part into a page, between its two marks, in place of what an earlier run has written there.

    Raises:
        ValueError: The page has no such marks.
    """
    begin, end = (f"<!-- {word} of make bench, {part.name} -->" for word in ("begin", "end"))
    before, opened, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{page} has no place for {part.name}: {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{part.to_markdown(machine)}\n\n{end}{after}")


def _wrap(text: str) -> str:
    return textwrap.fill(text, _COLUMNS, break_long_words=False, break_on_hyphens=False)


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
