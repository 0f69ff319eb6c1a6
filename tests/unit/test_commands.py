"""Command lines become arguments by the rules that Helios job files are written for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import BadJobError
from longtake.templates import split_command

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
