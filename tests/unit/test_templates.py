"""Templates and commands: what their words become, in Longtake and in renderers that read printf patterns."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import BadJobError
from longtake.templates import (
    COMMAND_PLACEHOLDERS,
    JOB_PLACEHOLDERS,
    PATH_PLACEHOLDERS,
    chunk_values,
    compile_template,
    escape_template,
    expand_template,
    fill_template,
    find_placeholders,
    printf_pattern,
    split_command,
)

# Paths have no control characters.
literals = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x01")).map(escape_template)
numbers = st.integers(min_value=0, max_value=2**31 - 1)
formats = st.sampled_from(["", ":", ":0", ":1", ":6", ":06", ":020"])
NUMBERS = tuple(word for word in PATH_PLACEHOLDERS if word not in ("view", *JOB_PLACEHOLDERS))
words = st.sampled_from(NUMBERS)
fields = st.builds(lambda word, width: f"{{{word}{width}}}", words, formats)
templates = st.lists(literals | fields).map("".join)
values = st.fixed_dictionaries(dict.fromkeys(NUMBERS, numbers))


@pytest.mark.parametrize(
    ("template", "expanded"),
    [
        ("chunks/{chunk:06}.mp4", "chunks/000007.mp4"),
        ("{start}-{last}", "70-79"),
        ("[{start}, {stop})", "[70, 80)"),
        ("-frames:v={count}", "-frames:v=10"),
        ("{chunk:3}|", "  7|"),
        ("{{chunk}} {{{chunk}}}", "{chunk} {7}"),
        ("geq=r='128*sin(X/{count})'", "geq=r='128*sin(X/10)'"),
        ("100%", "100%"),
        ("", ""),
    ],
)
def test_a_template_expands(template: str, expanded: str) -> None:
    assert expand_template(template, chunk_values(7, range(70, 80))) == expanded


@pytest.mark.parametrize(
    ("template", "pattern"),
    [
        ("f/f_{frame:06}.png", "f/f_%06d.png"),
        ("f/{frame}.png", "f/%d.png"),
        ("f/{chunk:03}/{frame:4}.png", "f/007/%4d.png"),
        ("50%/{frame}.png", "50%%/%d.png"),
        ("{{frame}}/{frame:06}.png", "{frame}/%06d.png"),
    ],
)
def test_an_image_sequence_is_a_printf_pattern(template: str, pattern: str) -> None:
    assert printf_pattern(template, chunk_values(7, range(70, 80))) == pattern


@given(templates, values)
def test_a_printf_pattern_names_the_files_that_are_published(template: str, values: dict[str, int]) -> None:
    others = {word: value for word, value in values.items() if word != "frame"}

    assert printf_pattern(template, others) % ((values["frame"],) * template_frames(template)) == expand_template(
        template, values
    )


def template_frames(template: str) -> int:
    """How often a template names {frame}."""
    return template.replace("{{", "").count("{frame")


@given(st.text())
def test_an_escaped_text_expands_to_itself(text: str) -> None:
    assert expand_template(escape_template(text), {}) == text
    assert find_placeholders(escape_template(text), field="command", allowed=()) == frozenset()


@given(templates, values)
def test_numbers_are_read_back_from_a_path(template: str, values: dict[str, int]) -> None:
    groups, pattern = compile_template(template)
    match = pattern.fullmatch(expand_template(template, values))

    assert match is not None
    assert set(groups) == find_placeholders(template, field="output", allowed=PATH_PLACEHOLDERS)


@given(st.text(), st.sampled_from([COMMAND_PLACEHOLDERS, PATH_PLACEHOLDERS, ()]))
def test_a_template_is_refused_when_it_is_read_or_never(template: str, allowed: tuple[str, ...]) -> None:
    known: dict[str, int | str] = dict.fromkeys(allowed, 7)
    try:
        find_placeholders(template, field="command", allowed=allowed)
    except BadJobError:
        with pytest.raises(BadJobError):
            expand_template(template, known)
    else:
        assert isinstance(expand_template(template, known), str)


def test_a_path_cannot_be_made_to_fill_memory() -> None:
    assert len(expand_template("{chunk:020}", {"chunk": 1})) == 20
    with pytest.raises(BadJobError, match="takes only a width"):
        find_placeholders("{chunk:99999999999}", field="chunk_output", allowed=PATH_PLACEHOLDERS)


@pytest.mark.parametrize(
    "template", ["{output.__class__}", "{output.__init__.__globals__}", "{output[0]}", "{0.__class__}"]
)
def test_objects_cannot_be_reached_into(template: str) -> None:
    with pytest.raises(BadJobError, match="is not known here"):
        expand_template(template, {"output": "film.mp4"})


def test_the_words_of_a_template_are_told() -> None:
    assert find_placeholders("{chunk:06}/{frame}{{stop}}", field="output", allowed=PATH_PLACEHOLDERS) == {
        "chunk",
        "frame",
    }


# How Helios 0.25.0 splits, as its own parser was seen to do: both sides are JSON.
VECTORS = r"""
"a b"  ->  ["a","b"]
"a\\ b c"  ->  ["a b","c"]
"'a\\'b' c"  ->  ["a'b","c"]
"a \"b c\"d e"  ->  ["a","b cd","e"]
"a 'b\\nc'"  ->  ["a","bnc"]
"a b\\"  ->  ["a","b"]
"a \"unterminated x y"  ->  ["a","unterminated x y"]
"a $HOME ~ *.txt"  ->  ["a","$HOME","~","*.txt"]
"a && b | c > d"  ->  ["a","&&","b","|","c",">","d"]
"\"\" x"  ->  ["","x"]
"''"  ->  [""]
"a\tb\nc"  ->  ["a","b","c"]
"a #c d"  ->  ["a","#c","d"]
"a \"x\\$y\" z"  ->  ["a","x$y","z"]
"\\"  ->  []
"a $(id)"  ->  ["a","$(id)"]
"C:\\tmp\\x.exe /q"  ->  ["C:tmpx.exe","/q"]
"a \"\" b"  ->  ["a","","b"]
"a\"\"b"  ->  ["ab"]
"a '\"' b"  ->  ["a","\"","b"]
"\u00e9\u00a0b c"  ->  ["\u00e9","b","c"]
"\"a b"  ->  ["a b"]
""".strip().splitlines()

JAVASCRIPT_SPACES = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)


def test_all_vectors_of_the_reference_are_here() -> None:
    assert len(VECTORS) == 22


@pytest.mark.parametrize("vector", VECTORS)
def test_a_vector_of_the_reference_holds(vector: str) -> None:
    line, arguments = vector.split("  ->  ")

    assert list(split_command(json.loads(line))) == json.loads(arguments)


@pytest.mark.parametrize("space", JAVASCRIPT_SPACES, ids=lambda space: f"U+{ord(space):04X}")
def test_what_javascript_calls_space_separates(space: str) -> None:
    assert split_command(f"{space}a{space}{space}b{space}") == ("a", "b")


@pytest.mark.parametrize("other", "\x1c\x1d\x1e\x1f\x85\u180e\u200b", ids=lambda other: f"U+{ord(other):04X}")
def test_what_javascript_calls_no_space_does_not_separate(other: str) -> None:
    assert split_command(f"a{other}b") == (f"a{other}b",)


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u00a0\ufeff"])
def test_a_blank_line_is_refused(blank: str) -> None:
    with pytest.raises(BadJobError, match="command: is empty; write the program and its arguments"):
        split_command(blank)


@given(st.text())
def test_any_other_text_is_split(line: str) -> None:
    if line.strip(JAVASCRIPT_SPACES):
        assert all(isinstance(argument, str) for argument in split_command(line))


@given(st.lists(st.tuples(st.text(), st.sampled_from("'\"")), min_size=1))
def test_quoted_arguments_come_back_as_they_were(arguments: list[tuple[str, str]]) -> None:
    escaped = [(text.replace("\\", "\\\\").replace(quote, f"\\{quote}"), quote) for text, quote in arguments]
    line = " ".join(f"{quote}{text}{quote}" for text, quote in escaped)

    assert split_command(line) == tuple(text for text, _ in arguments)


@given(st.lists(st.text(min_size=1), min_size=1))
def test_arguments_behind_backslashes_come_back_as_they_were(arguments: list[str]) -> None:
    line = " ".join("".join(f"\\{character}" for character in argument) for argument in arguments)

    assert split_command(line) == tuple(arguments)


JOB_VALUES = {"job": "film-1", "date": "2026-11-28", "time": "02-00-00"}


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{date}/{time}/{job}.mp4", "2026-11-28/02-00-00/film-1.mp4"),
        ("{date}/{chunk:06}-{frame}.png", "2026-11-28/{chunk:06}-{frame}.png"),
        ("{{date}}/{{{date}}}/50%", "{{date}}/{{2026-11-28}}/50%"),
        ("{date", "{date"),
        ("plain", "plain"),
    ],
)
def test_job_and_time_are_filled_in_and_nothing_else(template: str, filled: str) -> None:
    assert fill_template(template, JOB_VALUES) == filled


@given(templates, values)
def test_a_template_without_job_and_time_expands_as_before(template: str, values: dict[str, int]) -> None:
    assert expand_template(fill_template(template, JOB_VALUES), values) == expand_template(template, values)


@given(templates, values)
def test_each_word_of_job_and_time_becomes_its_value_within_any_template(template: str, values: dict[str, int]) -> None:
    before = expand_template(template, values)
    for word, value in JOB_VALUES.items():
        filled = fill_template(f"{template}{{{word}}}{template}", JOB_VALUES)
        assert expand_template(filled, values) == f"{before}{value}{before}"
