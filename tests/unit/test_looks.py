"""A report and the page show one state alike: the same words, and the same colours on light and dark paper."""

import json
import re
from importlib.resources import files

import pytest

from longtake.chunk_history import ChunkState
from longtake.render_timeline import BarKind
from longtake.report.looks import BAR_LOOKS, STATE_LOOKS

PAGE = files("longtake.web").joinpath("static")
STYLES = {
    "report": files("longtake.report").joinpath("style.css").read_text(encoding="utf-8"),
    "page": PAGE.joinpath("style.css").read_text(encoding="utf-8"),
}
CLASSES = sorted({look.css_class for look in (*STATE_LOOKS.values(), *BAR_LOOKS.values())})


def read_colours(style: str, name: str) -> list[str]:
    """Return a variable of a style sheet on light paper and on dark."""
    return re.findall(rf"--{name}: (#\w+)", style)


def test_everything_has_a_look() -> None:
    assert set(STATE_LOOKS) == set(ChunkState)
    assert set(BAR_LOOKS) == set(BarKind)


def test_the_page_calls_states_as_reports_do() -> None:
    script = PAGE.joinpath("format.js").read_text(encoding="utf-8")
    listed = re.search(r"CHUNK_STATES = .*?(\[.*?\])", script)
    words = re.search(r"CHUNK_WORDS = \{(.*?)\}", script, re.DOTALL)

    assert listed is not None
    assert json.loads(listed[1]) == [state.value for state in ChunkState], "in the order of columns"
    assert words is not None
    assert dict(re.findall(r'(\w+): "(.*?)"', words[1])) == {state: look.words for state, look in STATE_LOOKS.items()}


@pytest.mark.parametrize(
    "name", [*CLASSES, *(f"{name}-ink" for name in ("done", "run", "fail", "ice", "good", "wait"))]
)
def test_the_page_colours_states_as_reports_do(name: str) -> None:
    light, dark = read_colours(STYLES["report"], name)

    assert set(read_colours(STYLES["page"], name)) == {light, dark}


@pytest.mark.parametrize("name", CLASSES)
def test_the_style_sheet_of_reports_has_each_class(name: str) -> None:
    assert f".{name} {{ fill: var(--{name}) }}" in STYLES["report"]
