"""The documents: what they show exists, and what they quote is said."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from activities.settings import WorkerSettings
from agent.settings import AgentSettings
from longtake.cli.app import app
from longtake.jobfile.loader import read_job
from longtake.jobfile.safe_yaml import load
from longtake.prices import Prices

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
REMOTE = ROOT / "docs/remote.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "deploy/README.md", ROOT / "examples/README.md"]

# What may stand before the key that a snippet shows, so that it is a job.
_JOB: dict[str, Any] = {
    "frames": {"count": 2},
    "command": ["render", "{output}"],
    "chunk_output": "c/{chunk}.bin",
    "base_dir": "/films",
}


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def section(page: Path, title: str) -> str:
    """Return what stands below a title, up to the next one of its kind."""
    return page.read_text().split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def settings(text: str) -> set[str]:
    return set(re.findall(r"^\| `(LONGTAKE_[A-Z_]+)`", text, re.MULTILINE))


def test_the_readme_names_every_setting_of_a_worker() -> None:
    known = {f"LONGTAKE_{name.upper()}" for name in WorkerSettings.model_fields}

    assert settings(README.read_text()) == known | {"LONGTAKE_CACHE"}


def test_the_page_on_remote_work_names_every_setting_of_an_agent() -> None:
    known = {f"LONGTAKE_{name.upper()}" for name in AgentSettings.model_fields}

    assert settings(section(REMOTE, "Settings of the agent")) == known


def test_the_page_on_remote_work_names_every_price_and_what_it_is() -> None:
    told = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", section(REMOTE, "Cost"), re.MULTILINE)

    assert {name: float(usd) for name, usd in told} == pytest.approx(Prices().model_dump())


def test_the_python_in_the_readme_compiles() -> None:
    assert blocks(README, "python")
    for block in blocks(README, "python"):
        compile(block, "README.md", "exec")


def test_the_table_of_commands_in_the_readme_is_the_command_line() -> None:
    table = set(re.findall(r"^\| `longtake ([a-z]+)", README.read_text(), re.MULTILINE))

    assert table == set(typer.main.get_group(app).commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_shown_have_the_options_they_show(page: Path) -> None:
    group = typer.main.get_group(app)
    lines = [shlex.split(line, comments=True) for block in blocks(page, "sh") for line in block.splitlines()]
    shown = [line[1:] for line in lines if line and line[0] in ("longtake", ".venv/bin/longtake")]

    for name, *words in shown:
        known = {option for parameter in group.commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, (name, words)


@pytest.mark.parametrize("page", [REMOTE, ROOT / "docs/stores.md"], ids=lambda page: page.name)
def test_keys_of_jobs_that_are_shown_are_known(page: Path) -> None:
    shown = blocks(page, "yaml")

    assert shown
    for block in shown:
        keys = load(block.replace("...", "x"))
        assert isinstance(keys, dict)
        read_job({**_JOB, **keys})


@pytest.mark.parametrize("page", [REMOTE, ROOT / "docs/stores.md"], ids=lambda page: page.name)
def test_errors_that_are_explained_are_those_that_are_told(page: Path) -> None:
    # Sentences are written over several lines: a quote, the line's end, a quote.
    code = re.sub(r'"\s*f?"', "", "".join(path.read_text() for path in _sources()))
    explained = re.findall(r"^\| `([^|]+)` \|", section(page, "When something is wrong"), re.MULTILINE)

    assert explained
    for sentence in explained:
        for part in sentence.split("..."):
            assert part.strip() in code, sentence


def _sources() -> list[Path]:
    folders = ("activities", "agent", "client/longtake")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_links_in_the_documents_lead_somewhere() -> None:
    documents = [*PAGES, *sorted((ROOT / "docs/adr").glob("*.md")), ROOT / "CONTRIBUTING.md"]
    broken = [
        (document.name, target)
        for document in documents
        for target, anchor in re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", document.read_text())
        if not _leads_somewhere(document, target, anchor)
    ]

    assert broken == []


def _leads_somewhere(document: Path, target: str, anchor: str) -> bool:
    there = document.parent / target if target else document
    if not there.exists():
        return False
    titles = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE) if anchor else []
    return not anchor or anchor[1:] in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
