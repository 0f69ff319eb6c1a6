"""Text of other people controls no terminal: every text field of a status, printed, logged and shown in the UI."""

import io
import logging
import re
import types
import typing
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel
from rich.console import RenderableType
from rich.table import Table
from temporalio.common import WorkflowIDReusePolicy

from longtake.cli.app import main
from longtake.cli.formatting import describe_end
from longtake.cli.status import make_status_table
from longtake.cli.terminal import PlainConsole
from longtake.cli.views import SpeedEstimate, describe_failure, make_headline, make_running_table, make_totals
from longtake.client import RenderClient
from longtake.models.status import JobState, JobStatus
from longtake.text import PlainFormatter, escape_markdown, escape_text, flatten_text, shorten_line, strip_controls
from workflows.status_board import _format_page

# Title of the window, cleared screen, text from right to left, marks of direction, and C1's CSI.
EVIL = "a\x1b]0;owned\x07b\x1b[2Jc\u202egpj.exe\u2066\u200f\u200e\u061c\x9b31m\r\u2028z"
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def fill(annotation: Any) -> Any:
    """Return a value for an annotation in which every text is the evil one."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return fill(next(part for part in parts if part is not type(None)))
    if origin is typing.Annotated:
        return fill(parts[0])
    if origin is tuple:
        return (fill(parts[0]),) if parts[-1] is Ellipsis else tuple(map(fill, parts))
    if not isinstance(annotation, type):
        return EVIL
    if issubclass(annotation, BaseModel):
        return annotation.model_construct(
            **{name: fill(field.annotation) for name, field in annotation.model_fields.items()}
        )
    if issubclass(annotation, StrEnum):
        return next(iter(annotation))
    return {str: EVIL, datetime: datetime(2024, 5, 1, tzinfo=UTC), bool: True, dict: {}}.get(annotation, 1)


def printed(*renderables: RenderableType) -> str:
    file = io.StringIO()
    console = PlainConsole(file=file, width=300, force_terminal=True, color_system=None, markup=False, emoji=False)
    for renderable in renderables:
        console.print(renderable)
    return file.getvalue()


@pytest.mark.parametrize("state", list(JobState))
def test_no_field_of_a_status_controls_a_terminal(state: JobState) -> None:
    status: JobStatus = fill(JobStatus).model_copy(update={"state": state, "fps": None})
    said = printed(
        make_status_table(status),
        make_headline(status),
        *make_totals(status, SpeedEstimate()),
        make_running_table(status.running, 5, width=None, whole=True),
        describe_end(status),
        *map(describe_failure, status.failures),
    )
    assert "gpj.exe" in said
    assert CONTROL.search(said) is None


def test_a_table_of_any_text_controls_no_terminal() -> None:
    table = Table(EVIL, title=EVIL, caption=EVIL)
    table.add_row(EVIL)
    assert CONTROL.search(printed(table, EVIL)) is None


def test_no_line_of_a_log_controls_a_terminal() -> None:
    record = logging.LogRecord(EVIL, logging.INFO, "file", 1, "%s", (EVIL,), None)
    assert CONTROL.search(PlainFormatter("%(name)s: %(message)s").format(record)) is None


CLEANERS = [strip_controls, flatten_text, escape_text, escape_markdown, lambda text: shorten_line(text, 50)]


@pytest.mark.parametrize("clean", CLEANERS)
def test_each_function_for_foreign_text_leaves_no_control(clean: Any) -> None:
    assert CONTROL.search(clean(EVIL)) is None


def test_the_page_in_the_temporal_ui_shows_text_as_it_is() -> None:
    status: JobStatus = fill(JobStatus).model_copy(
        update={"name": "![x](http://evil/)<img src=x>", "error": f"`a` [b](http://evil/)\n# c {EVIL}"}
    )
    page = _format_page(status)
    assert CONTROL.search(page) is None
    assert r"!\[x\]\(http://evil/\)\<img src=x\>" in page.replace(r"\!", "!")
    assert "\n#" not in page


@pytest.mark.parametrize(
    "words",
    [
        *([EVIL], [f"--{EVIL}"], ["status", f"--{EVIL}"], ["pause", "id", "--mode", EVIL], ["pause", "id", EVIL]),
        *(
            ["logs", "id", "--chunk", EVIL],
            ["submit", EVIL],
            ["plan", "file", "--set", EVIL],
            ["status", "id", "a", EVIL],
        ),
    ],
)
def test_no_error_of_usage_controls_a_terminal(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    # Commands that would look for a server are refused before.
    assert main(words) == 2
    said = capsys.readouterr()
    assert CONTROL.search(said.out + said.err) is None
    assert said.err.strip()


async def test_the_summary_of_a_job_in_the_temporal_ui_shows_its_name_as_it_is() -> None:
    started: dict[str, Any] = {}

    class Temporal:
        """Keeps what it is asked to start."""

        async def start_workflow(self, *_: object, **options: Any) -> None:
            started.update(options)

    client: Any = Temporal()
    await RenderClient(client)._start({}, "id", f"![x](http://evil/) {EVIL}", WorkflowIDReusePolicy.REJECT_DUPLICATE)

    assert CONTROL.search(started["static_summary"]) is None
    assert started["static_summary"].startswith(r"\!\[x\]\(http://evil/\) a")
