"""The documents: what they show exists, what exists they show once, and what they quote is said."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import worker
from activities.processes.programs import build_render_environment
from activities.progress.formats import make_formats
from activities.settings import WorkerSettings
from agent.settings import AgentSettings
from longtake.cli.app import app, main
from longtake.cli.doctor import Check
from longtake.cli.session import ExitCode
from longtake.jobfile.loader import read_job
from longtake.jobfile.safe_yaml import load_yaml
from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import IfExists
from longtake.models.policies import PROGRESS_GROUPS, FailurePolicy, ProgressFormat, Verdict
from longtake.models.status import JobPhase, JobState, JobStatus, PauseMode
from longtake.paths import FILM_SUFFIXES, OutputKind
from longtake.prices import Prices
from longtake.templates import COMMAND_PLACEHOLDERS, PATH_PLACEHOLDERS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
JOB_FILE = DOCS / "job-file.md"
COMMAND_LINE = DOCS / "command-line.md"
WORKERS = DOCS / "workers.md"
ENCRYPTION = DOCS / "encryption.md"
REMOTE = DOCS / "remote.md"
STORES = DOCS / "stores.md"

# Not ours: what was built, installed or rendered lies in folders that begin with a dot, or in these.
NOT_OURS = {"build", "dist", "node_modules"}
PAGES = [
    page
    for page in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") or part in NOT_OURS for part in page.relative_to(ROOT).parts)
]

COMMANDS = typer.main.get_group(app).commands

# What may stand before the keys that a snippet shows, so that it is a job.
_JOB: dict[str, Any] = {
    "command": ["render", "{output}"],
    "chunk_output": "c/{chunk}.bin",
    "base_dir": "/films",
}


def shown(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def section(page: Path, title: str) -> str:
    """Return what stands below a title, up to the next one of its kind or of a higher one."""
    marks, text = re.split(rf"^(##+) {re.escape(title)}\n", page.read_text(), maxsplit=1, flags=re.MULTILINE)[1:]
    return re.split(rf"^#{{2,{len(marks)}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the rows of all tables, without their heads."""
    lines = [re.split(r"\s*\|\s*", line)[1:-1] for line in text.splitlines() if line[:1] == "|"]
    rules = [number for number, cells in enumerate(lines) if set("".join(cells)) <= set("-| ")]
    return [cells for number, cells in enumerate(lines) if number not in rules and number + 1 not in rules]


def words(cell: str) -> list[str]:
    """Return what a cell has in code: `a`, `b`."""
    return re.findall(r"`([^`]+)`", cell)


def names(text: str) -> list[str]:
    """Return what the first cells of all tables name in code."""
    return [word for cells in rows(text) for word in words(cells[0])]


def keys_of(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield all keys of a model and of those inside it: `retry.attempts`, `chunks[].start`."""
    for name, field in model.model_fields.items():
        key = before + (field.alias or name)
        yield key, field
        for inner, is_listed in _models(field.annotation):
            yield from keys_of(inner, f"{key}[]." if is_listed else f"{key}.")


def _models(annotation: Any, *, is_listed: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, is_listed
    for part in get_args(annotation):
        yield from _models(part, is_listed=is_listed or get_origin(annotation) is tuple)


def is_told(default: Any, cell: str) -> bool:
    """Tell whether the cell of a table says this default; one that is made on the way may be told in any words."""
    if isinstance(default, bool):
        return cell.startswith(str(default).lower())
    if isinstance(default, int | float):
        return re.split(r"[:;]", cell.replace(",", ""))[0] == f"{default:g}" or cell.startswith(str(default))
    if isinstance(default, str) and default:
        return f"`{default}`" in cell
    return bool(cell) or isinstance(default, BaseModel)


# --- The job file ---


def test_the_page_on_job_files_names_every_key_once() -> None:
    named = Counter(names(section(JOB_FILE, "Keys")))

    assert set(named) == {key for key, _ in keys_of(RenderJobSpec)}
    assert [key for key, times in named.items() if times > 1] == []


def test_the_page_on_job_files_tells_every_default() -> None:
    told = {words(cells[0])[0]: cells[3] for cells in rows(section(JOB_FILE, "Keys")) if len(cells) == 4}
    # Files are named after themselves.
    known = dict(keys_of(RenderJobSpec))
    defaults = {key: known[key] for key in told if key not in ("name", "backend.type")}

    wrong = {
        key: told[key]
        for key, field in defaults.items()
        if not ("must be given" in told[key] if field.is_required() else is_told(field.default, told[key]))
    }
    assert wrong == {}


def test_the_page_on_job_files_tells_what_the_values_mean() -> None:
    def first(title: str) -> set[str]:
        return set(names(section(JOB_FILE, title)))

    assert first("Placeholders") == {f"{{{word}}}" for word in {*COMMAND_PLACEHOLDERS, *PATH_PLACEHOLDERS}}
    assert first("Files that are in the way") == set(IfExists)
    assert first("When a chunk fails") == set(Verdict)
    assert {cells[0] for cells in rows(section(JOB_FILE, "Kinds of output"))} == set(OutputKind)
    assert {re.sub(r"\(\?P<(\w+)>.*", r"\1", group) for group in first("Progress")} == set(PROGRESS_GROUPS)
    assert set(re.findall(r"^- `(\w+)`:", section(JOB_FILE, "When a chunk fails"), re.MULTILINE)) == set(FailurePolicy)


def test_the_page_on_job_files_tells_which_placeholder_goes_where() -> None:
    table = {words(cells[0])[0].strip("{}"): cells[2:] for cells in rows(section(JOB_FILE, "Placeholders"))}

    assert {word for word, (command, _) in table.items() if command == "yes"} == set(COMMAND_PLACEHOLDERS)
    assert {word for word, (_, path) in table.items() if path == "yes"} == set(PATH_PLACEHOLDERS)


def test_the_page_on_job_files_names_the_endings_of_videos_and_films() -> None:
    (video,) = [cells for cells in rows(section(JOB_FILE, "Kinds of output")) if cells[0] == "video"]

    assert set(words(video[1])) == FILM_SUFFIXES
    assert set(words(section(JOB_FILE, "The film").partition(", and is made")[0])) == {"output", *FILM_SUFFIXES}


def test_the_page_on_job_files_names_every_format_of_progress() -> None:
    (row,) = [cells for cells in rows(section(JOB_FILE, "Reading progress")) if "`progress.format`" in cells[0]]

    assert set(words(row[2])) == set(ProgressFormat)
    assert all(make_formats(known) for known in ProgressFormat if known is not ProgressFormat.NONE)


@pytest.mark.parametrize("page", [README, JOB_FILE, REMOTE, STORES], ids=shown)
def test_keys_of_jobs_that_are_shown_are_known(page: Path) -> None:
    found = blocks(page, "yaml")

    assert found
    for block in found:
        keys = load_yaml(block.replace("...", "x"))
        assert isinstance(keys, dict)
        frames = {} if "chunks" in keys else {"frames": {"count": 2}}
        alone = {key: value for key, value in _JOB.items() if key != "chunk_output" or "outputs" not in keys}
        read_job({**alone, **frames, **keys})


# --- The command line ---


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_on_the_command_line_tells_every_option_of_a_command(name: str) -> None:
    parameters = COMMANDS[name].params
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    title = " ".join(
        ["longtake", name, *(f"{p.metavar}" if p.required else f"[{p.metavar}]" for p in arguments)],
    )
    options = {o for p in parameters if p.param_type_name == "option" for o in (*p.opts, *p.secondary_opts)}

    told = Counter(word.split()[0] for word in names(section(COMMAND_LINE, title)))

    assert told == Counter(options)


def test_the_page_on_the_command_line_names_no_other_command() -> None:
    text = section(COMMAND_LINE, "Commands")

    titles = re.findall(r"^### longtake ([\w-]+)", text, re.MULTILINE)
    linked = re.findall(r"\| \[([\w-]+)\]|(?<= )\[([\w-]+)\]\(#longtake", text)
    assert sorted(titles) == sorted(COMMANDS)
    assert {one or other for one, other in linked} == set(COMMANDS)


def test_the_page_on_the_command_line_tells_the_options_of_every_command() -> None:
    group = typer.main.get_group(app)
    known = {option for parameter in group.params for option in parameter.opts} | {"--help", "-h"}

    assert {word.split()[0] for word in names(section(COMMAND_LINE, "Options of every command"))} == known


def test_the_page_on_the_command_line_tells_exit_codes_modes_states_and_phases() -> None:
    status = section(COMMAND_LINE, "JSON")
    told = {words(cells[0])[0]: set(words(cells[1])) for cells in rows(status)}

    assert [int(cells[0]) for cells in rows(section(COMMAND_LINE, "Exit codes"))] == [*ExitCode]
    assert names(section(COMMAND_LINE, "Pause modes")) == [*PauseMode]
    assert told["state"] == set(JobState)
    assert told["phase"] == set(JobPhase)
    assert told["pause_mode"] == set(PauseMode)


def json_keys(kind: str) -> set[str]:
    """Return the keys that one table of the section on JSON names."""
    table = section(COMMAND_LINE, "JSON").partition(f"| key of {kind} |")[2].partition("\n\n")[0]
    return set(names(table))


def test_the_page_on_the_command_line_tells_every_key_of_a_status() -> None:
    keys = {key for key, _ in keys_of(JobStatus)}
    leaves = {key for key in keys if not any(other.startswith((f"{key}.", f"{key}[].")) for other in keys)}

    assert leaves <= json_keys("a status") <= keys


def test_the_page_on_the_command_line_tells_every_key_of_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    job = str(ROOT / "examples/anywhere/job.yaml")
    elsewhere = ("--set", "store=s3://films/a", "--chunk-seconds", "5000")
    seen = set[str]()
    for options in (
        ("--set", "name=night of {date}"),
        ("--set", "backend=lambda", *elsewhere),
        ("--set", "backend=cloud_run", *elsewhere),
    ):
        assert main(["plan", job, "--json", *options]) == ExitCode.FINE
        # Of two chunks, one is told; prices have a table of their own.
        seen |= {key for key in _flat(json.loads(capsys.readouterr().out)) if not key.startswith("last_chunk.")}

    assert json_keys("a plan") == seen


def _flat(value: Any, before: str = "") -> Iterator[str]:
    for key, inner in value.items():
        yield f"{before}{key}"
        if isinstance(inner, dict) and key != "prices":
            yield from _flat(inner, f"{before}{key}.")


def test_the_page_on_the_command_line_tells_every_key_of_the_doctor() -> None:
    assert json_keys("`doctor`") == {"ok", *(f"checks[].{field.name}" for field in fields(Check))}


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_commands_that_are_shown_have_the_options_they_show(page: Path) -> None:
    everywhere = {option for parameter in typer.main.get_group(app).params for option in parameter.opts}
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]

    for line in filter(re.compile(r"(\.venv/bin/)?longtake ").match, lines):
        _, name, *given = shlex.split(line, comments=True)
        command: Any = COMMANDS[name]
        while given and given[0] in getattr(command, "commands", {}):
            command = command.commands[given.pop(0)]
        parameters = command.params
        known = {option for p in parameters for option in (*p.opts, *p.secondary_opts)} | everywhere
        assert {word for word in given if word.startswith("--")} <= known, (name, given)


# --- Settings ---


def settings_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {f"LONGTAKE_{name.upper()}": field for name, field in model.model_fields.items()}


def variables(page: Path) -> Counter[str]:
    """Return which variables the tables of a page tell of, and how often."""
    return Counter(word for word in names(page.read_text()) if re.fullmatch(r"LONGTAKE_[A-Z_]+", word))


def test_every_variable_that_the_code_knows_is_told_once() -> None:
    code = "".join(path.read_text() for path in sources())
    known = set(re.findall(r"\bLONGTAKE_[A-Z]+(?:_[A-Z]+)*\b(?!_)", code))
    told = variables(WORKERS) + variables(REMOTE) + variables(COMMAND_LINE) + variables(ENCRYPTION)
    # Workers and agents are told of the same things, each on its page.
    shared = settings_of(WorkerSettings).keys() & settings_of(AgentSettings).keys()

    assert set(told) == known | settings_of(WorkerSettings).keys() | settings_of(AgentSettings).keys()
    assert {name: times for name, times in told.items() if times != (2 if name in shared else 1)} == {}


@pytest.mark.parametrize(("page", "model"), [(WORKERS, WorkerSettings), (REMOTE, AgentSettings)], ids=["w", "a"])
def test_a_page_on_settings_has_all_of_them_with_their_defaults(page: Path, model: type[BaseModel]) -> None:
    told = {word: cells[2] for cells in rows(page.read_text()) if len(cells) == 3 for word in words(cells[0])}

    assert settings_of(model).keys() <= told.keys()
    # As many slots as the host has cores, says the worker's environment.
    wrong = {
        name: told[name]
        for name, field in settings_of(model).items()
        if name != "LONGTAKE_SLOTS" and not field.is_required() and not is_told(field.default, told[name])
    }
    assert wrong == {}


def test_the_page_on_workers_tells_the_options_of_the_worker(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        worker.main(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out.partition("options:")[2])) - {"--help"}

    assert {word.split()[0] for word in names(section(WORKERS, "Start one"))} == known


def test_the_page_on_workers_tells_what_a_render_sees() -> None:
    text = section(WORKERS, "What a render sees")
    told = set(re.findall(r"`([A-Z_]+)`", text.partition("those that")[0]))
    # Whatever the allow list lets through, of all names that might be on it.
    possible = dict.fromkeys({*told, "PWD", "AWS_SECRET_ACCESS_KEY", "LONGTAKE_REMOTE_SECRET", "PYTHONPATH"}, "x")

    assert build_render_environment(possible, {}, tag={}).keys() == told
    assert "`LC_*`" in text


def test_the_page_on_remote_work_names_every_price_and_what_it_is() -> None:
    told = {words(cells[0])[0]: float(cells[1]) for cells in rows(section(REMOTE, "Cost"))}

    assert told == pytest.approx(Prices().model_dump())


# --- Code, errors and links ---


def sources() -> list[Path]:
    """Return the program itself: all Python but tests, examples and measurements."""
    others = {"tests", "examples", "benchmarks", "docs", "tools", *NOT_OURS}
    folders = [f for f in ROOT.iterdir() if f.is_dir() and not f.name.startswith(".") and f.name not in others]
    return sorted([*ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))])


def test_the_python_in_the_readme_compiles() -> None:
    assert blocks(README, "python")
    for block in blocks(README, "python"):
        compile(block, "README.md", "exec")


@pytest.mark.parametrize("page", [REMOTE, STORES], ids=shown)
def test_errors_that_are_explained_are_those_that_are_told(page: Path) -> None:
    # Sentences are written over several lines: a quote, the line's end, a quote.
    code = re.sub(r'"\s*f?"', "", "".join(path.read_text() for path in sources()))
    explained = re.findall(r"^\| `([^|]+)` \|", section(page, "When something is wrong"), re.MULTILINE)

    assert explained
    for sentence in explained:
        for part in sentence.split("..."):
            assert part.strip() in code, sentence


def prose(page: Path) -> str:
    """Return a page without its code blocks, whose comments are no titles and whose brackets are no links."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return what `#...` may name: titles in small letters, without punctuation; a second one alike gets a number."""
    found: Counter[str] = Counter()
    found_names = set()
    for title in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        found_names.add(f"{anchor}-{found[anchor]}" if found[anchor] else anchor)
        found[anchor] += 1
    return found_names


def links(page: Path) -> list[tuple[str, str]]:
    """Return where the links of a page lead inside of the repository: path and anchor."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    inside = [link.partition("#") for link in found if not re.match(r"[a-z]+:", link)]
    return [(path, anchor) for path, _, anchor in inside]


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page: Path) -> None:
    def leads_somewhere(path: str, anchor: str) -> bool:
        there = page.parent / path if path else page
        return there.exists() and (not anchor or anchor in anchors(there))

    assert [link for link in links(page) if not leads_somewhere(*link)] == []


def test_the_readme_leads_to_every_page_in_one_click() -> None:
    pages = {shown(page) for page in DOCS.glob("*.md")}

    assert pages <= {path for path, _ in links(README)}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=shown)
def test_a_page_says_what_it_is_for_and_lists_its_sections(page: Path) -> None:
    head, *sections = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
    title, *paragraphs = head.strip().split("\n\n")

    assert title.startswith("# ")
    assert len(paragraphs) >= 1
    assert len(re.findall(r"\]\(#", head)) >= len(sections)


def test_the_word_of_each_question_finds_the_file_that_answers_it() -> None:
    table = re.findall(
        r"^\| [^|]+\? \| `(\w+)` \| `([\w/.]+)` \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )

    assert len(table) >= 10
    assert [(word, file) for word, file in table if word.lower() not in (ROOT / file).read_text().lower()] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=shown)
def test_queries_by_our_state_name_the_state_of_temporal_too(page: Path) -> None:
    """A job that was terminated in Temporal keeps its last state of ours."""
    queries = re.findall(r"--query '([^']*LongtakeState=[^']*)'", page.read_text())

    assert [query for query in queries if "ExecutionStatus=" not in query] == []
