"""Expand the `{...}` placeholders of job files, and split command lines by the rules of Helios."""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import lru_cache
from string import Formatter

from longtake.errors import BadJobError
from longtake.text import escape_text, quote_value

# What a job is and when it was started: filled in once, when the job is accepted; see `fill_template`.
JOB_PLACEHOLDERS = ("job", "date", "time")
# Each also with the name of an output, as in {output.depth}.
OUTPUT_PLACEHOLDERS = ("output", "output_dir", "output_hashes")
COMMAND_PLACEHOLDERS = ("chunk", "start", "stop", "last", "step", "count", *OUTPUT_PLACEHOLDERS, *JOB_PLACEHOLDERS)
PATH_PLACEHOLDERS = ("chunk", "start", "stop", "last", "count", "frame", "view", *JOB_PLACEHOLDERS)

_NUMBERS = frozenset({"chunk", "start", "stop", "last", "step", "count", "frame"})
# A width of more than 20 digits is a typing error, and without a bound it could fill the memory.
_WIDTH = re.compile(r"0?(1?\d|20)?", re.ASCII)


def chunk_values(index: int, frames: range) -> dict[str, int | str]:
    """Return the values of a chunk's placeholders, without those of outputs."""
    first, last = frames[0], frames[-1]
    return {
        "chunk": index,
        "start": first,
        "stop": last + 1,
        "last": last,
        "step": frames.step,
        "count": len(frames),
    }


def is_divisible(placeholders: Collection[str]) -> bool:
    """Tell whether a command with these placeholders says where it begins, and where it ends."""
    return "start" in placeholders and any(word in placeholders for word in ("stop", "last", "count"))


def find_placeholders(template: str, *, field: str, allowed: tuple[str, ...]) -> frozenset[str]:
    """Return the names of the placeholders in a template.

    Args:
        template: The template.
        field: Key of the job that holds the template, for errors.
        allowed: Names that the field may use.

    Raises:
        BadJobError: A brace is unmatched, or a name or its format is not known here.
    """
    return frozenset(word for _, word, _ in _parts(template, field, allowed) if word)


def expand_template(template: str, values: Mapping[str, int | str]) -> str:
    """Return a template with its placeholders replaced; `{{` and `}}` become single braces."""
    text = []
    for literal, word, width in _parts(template, "template", tuple(values)):
        text.append(literal)
        if word:
            text.append(format(values[word], width))
    return "".join(text)


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Return a template with some placeholders replaced, and everything else in it as it was.

    Args:
        template: The template; a broken one is returned unchanged.
        values: The replacements by their placeholders, as templates themselves.
    """
    if not any(f"{{{word}" in template for word in values):
        return template
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        return template
    text = []
    for literal, word, width, conversion in parts:
        text.append(escape_template(literal))
        if word is not None and word in values and not width and not conversion:
            text.append(values[word])
        elif word is not None:
            text.append(f"{{{word}{f'!{conversion}' if conversion else ''}{f':{width}' if width else ''}}}")
    return "".join(text)


def fill_path(path: str | None, values: Mapping[str, str]) -> str | None:
    """Return a path with some placeholders replaced, as `fill_template` does; None for none."""
    return None if path is None else fill_template(path, values)


def fill_command(command: tuple[str, ...] | None, values: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return a command with some placeholders replaced, as `fill_template` does; None for none."""
    return None if command is None else tuple(fill_template(part, values) for part in command)


def escape_template(text: str) -> str:
    """Return a template that expands to exactly this text."""
    return text.replace("{", "{{").replace("}", "}}")


# Stands before the width and the `d` of a frame's number; paths of jobs have no control characters (`check_path`).
_FRAME_MARK = "\x01"
_MARKED = re.compile(rf"{_FRAME_MARK}0?([0-9]*)d")


def mark_frame_numbers(template: str, values: Mapping[str, int | str]) -> str:
    """Return a template with marks where numbers of frames belong, and the rest replaced; see `make_printf_pattern`."""
    text = []
    for literal, word, width in _parts(template, "template", (*values, "frame")):
        text.append(literal)
        if word == "frame":
            text.append(f"{_FRAME_MARK}{width}d")
        elif word:
            text.append(format(values[word], width))
    return "".join(text)


def has_frame_number(path: str) -> bool:
    """Tell whether a path has the mark of a frame's number."""
    return _FRAME_MARK in path


def make_printf_pattern(path: str) -> str:
    """Return a marked path as the pattern that ffmpeg and most renderers read, with %06d and %% for a percent sign.

    Made of the whole path, folders above the job included: in `/films/50%d/f_%04d.png` ffmpeg would take the first for
    a number, too.
    """
    return path.replace("%", "%%").replace(_FRAME_MARK, "%")


def make_hash_pattern(path: str, *, keeps_extension: bool = False) -> str:
    """Return a marked path as the pattern of Blender and Nuke: `####` for the number, and no extension by default."""
    stem, dot, extension = path.rpartition(".")
    is_extension = bool(dot and stem.rpartition("/")[2]) and not has_frame_number(extension) and "/" not in extension
    return _MARKED.sub(_make_hashes, stem if is_extension and not keeps_extension else path)


def _make_hashes(mark: re.Match[str]) -> str:
    return "#" * max(1, int(mark[1] or 0))


def printf_pattern(template: str, values: Mapping[str, int | str]) -> str:
    """Return a template with `{frame:06}` as `%06d`, and the rest replaced."""
    return make_printf_pattern(mark_frame_numbers(template, values))


_GLOBS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
# Stand for the characters of patterns where a value has them.
_LITERALS = str.maketrans("*?", "\x02\x03")


def compile_glob(template: str, values: Mapping[str, int | str]) -> re.Pattern[str]:
    """Return a pattern that matches the paths which a template with `*`, `**` and `?` names.

    Args:
        template: The template.
        values: Values of its placeholders; of text each character stands for itself, and a mark for any number.
    """
    text = ""
    for literal, word, width in _parts(template, "template", tuple(values)):
        text += literal
        if word:
            text += format(values[word], width).translate(_LITERALS)
    pattern = ""
    for part in re.split(rf"(\*\*/|\*\*|\*|\?|{_FRAME_MARK}[0-9]*d)", text.removeprefix("/")):
        if part.startswith(_FRAME_MARK):
            pattern += " *-?[0-9]+"
        elif part is not None:
            pattern += _GLOBS.get(part) or re.escape(part.translate({2: "*", 3: "?"}))
    return re.compile(pattern, re.DOTALL)


def compile_template(template: str) -> tuple[tuple[str, ...], re.Pattern[str]]:
    """Return the placeholder of each group, and a pattern that matches the texts which a template makes of numbers."""
    words, pattern = [], ""
    for literal, word, _ in _parts(template, "template", PATH_PLACEHOLDERS):
        pattern += re.escape(literal)
        if word:
            words.append(word)
            # A negative number may be wider: -0005.
            pattern += "( *-?[0-9]{1,20})"
    return tuple(words), re.compile(pattern)


# A job's templates are parsed once, and not once a frame.
@lru_cache(maxsize=256)
def _parts(template: str, field: str, allowed: tuple[str, ...]) -> tuple[tuple[str, str, str], ...]:
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise BadJobError(
            f"{field}: a single brace stands in {quote_value(template)}; write {{{{ or }}}} for a literal brace"
        ) from error
    found = []
    for literal, word, width, conversion in parts:
        if word is not None:
            _check_word(word, field, allowed)
            if conversion or (width and not (word in _NUMBERS and _WIDTH.fullmatch(width))):
                raise BadJobError(
                    f"{field}: {{{word}}} takes only a width such as {{frame:06}}, for numbers; "
                    f"take the rest out of {quote_value(template)}"
                )
        found.append((literal, word or "", width or ""))
    return tuple(found)


def _check_word(word: str, field: str, allowed: tuple[str, ...]) -> None:
    if word in allowed:
        return
    nearest = get_close_matches(word[:60], allowed, n=1)
    hint = "write {{ for a literal brace"
    if nearest:
        hint = f"did you mean {{{nearest[0]}}}?"
    elif allowed:
        hint = "it can hold " + ", ".join(f"{{{name}}}" for name in allowed)
    raise BadJobError(f"{field}: the placeholder {{{escape_text(word)}}} is not known here; {hint}")


# Characters of JavaScript's `\s`, by which Helios splits. Python's str.isspace differs: it has U+001C to U+001F and
# U+0085, and lacks U+FEFF.
_SPACES = frozenset(
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)


def split_command(text: str) -> tuple[str, ...]:
    r"""Split a command line into its arguments, without a shell and without expanding anything.

    A backslash makes the next character literal everywhere, inside quotes too; quotes only group; an unterminated
    quote reaches to the end. `shlex.split` decides each of these differently, and job files written for
    Helios rely on them.

    Raises:
        BadJobError: The text is empty or blank.
    """
    arguments: list[str] = []
    token: list[str] = []
    quote = ""
    in_token = escaped = False
    for character in text:
        if escaped:
            token.append(character)
            escaped = False
            in_token = True
        elif character == "\\":
            escaped = True
        elif quote:
            if character == quote:
                quote = ""
            else:
                token.append(character)
        elif character in "'\"":
            quote = character
            in_token = True
        elif character in _SPACES:
            if in_token:
                arguments.append("".join(token))
                token, in_token = [], False
        else:
            token.append(character)
            in_token = True
    if in_token:
        arguments.append("".join(token))
    if not text.strip("".join(_SPACES)):
        raise BadJobError("command: is empty; write the program and its arguments")
    return tuple(arguments)
