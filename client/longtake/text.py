"""Format text for people: pydantic's errors as sentences, foreign text without control characters or secrets, sizes."""

import json
import logging
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

# Parts of pydantic's error locations that are not keys of the file: tags of unions and markers of dict keys.
_NOT_FIELDS = frozenset({"list", "file", "track", "section", "bundle", "lambda", "cloud_run", "[name]", "[key]"})

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "an object of keys and values",
    "model_type": "an object of keys and values",
    "model_attributes_type": "an object of keys and values",
}

_BOUNDS = {
    "greater_than_equal": ("make it at least {}", "ge"),
    "greater_than": ("make it more than {}", "gt"),
    "less_than_equal": ("make it at most {}", "le"),
    "less_than": ("make it less than {}", "lt"),
    "string_too_short": ("write at least {} characters", "min_length"),
    "string_too_long": ("shorten it to {} characters", "max_length"),
    "string_pattern_mismatch": ("write what matches {}", "pattern"),
}

# Spelling of job files for values that Python spells differently.
_SPELLED = {"None": "null", "True": "true", "False": "false"}


# Deepest nesting: more than any job has, less than breaks the parsers of Python and pydantic.
_DEEPEST = 20

_TOO_LARGE = 10**100


def describe_invalid(error: ValidationError) -> str:
    """Describe the first error of a validation, as `field: what is wrong; the fix`."""
    field, problem = list_invalid(error)[0]
    return f"{field}: {problem}" if field else problem


def list_invalid(error: ValidationError) -> list[tuple[str, str]]:
    """Return each error of a validation: the field, empty where it is the whole, and what is wrong, with the fix."""
    return [(_field(details), _problem(details)) for details in error.errors(include_url=False)]


def escape_text(text: str, most: int = 60) -> str:
    """Return text of others for use in a sentence: shortened, control characters escaped.

    Args:
        text: The text.
        most: Largest number of characters to keep.
    """
    cut = text if len(text) <= most else f"{text[: most - 3]}..."
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in cut)


def quote_value(value: object, most: int = 60) -> str:
    """Return a value of a job file for use in a sentence, in the spelling of job files."""
    spelled = repr(value)
    return _SPELLED.get(spelled) or escape_text(spelled, most)


def describe_unserializable(value: object, field: str = "") -> str:
    """Describe the first value of a document that neither JSON nor a job can hold, in one sentence.

    Args:
        value: The document.
        field: Name of the document's own place; empty for a whole job.
    """
    return next(_unfit(value, field), "job: cannot be written as JSON; use text, numbers, lists and objects only")


def _unfit(value: object, field: str) -> Iterator[str]:
    where = field or "job"
    if field.count(".") + field.count("[") > _DEEPEST:
        yield f"{escape_text(where)}: is nested too deeply; a job has three levels"
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str | int | float | None):
                yield f"{where}: the key {quote_value(key)} is no text; put it in quotes"
            name = escape_text(str(key))
            yield from _unfit(inner, f"{field}.{name}" if field else name)
            yield from _unfit_text(str(key), f"{where}: the key")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _unfit(inner, f"{field}[{index}]")
    elif isinstance(value, str):
        yield from _unfit_text(value, f"{where}:")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{where}: is {value}; write a finite number"
    elif isinstance(value, int) and abs(value) >= _TOO_LARGE:
        yield f"{where}: is a number of more digits than anything here can have; write a smaller one"
    elif not isinstance(value, int | float | None):
        yield f"{where}: is {quote_value(value)}, which JSON cannot carry; write it as text or number"


def _unfit_text(text: str, start: str) -> Iterator[str]:
    if any("\ud800" <= character <= "\udfff" for character in text):
        yield f"{start} {quote_value(text)} holds half a character; write it anew, in UTF-8"


def suggest_key(key: str, known: Iterable[str], *, hidden: Collection[str] = ()) -> str:
    """Return the fix for a key that does not exist: the nearest one that does, or all of them.

    Args:
        key: The key that somebody wrote.
        known: The keys that exist.
        hidden: Those that are not listed.
    """
    names = list(known)
    nearest = get_close_matches(key[:60], names, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]}?" if nearest else f"known here: {', '.join(n for n in names if n not in hidden)}"


def _field(details: ErrorDetails) -> str:
    text = ""
    for part in details["loc"]:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in _NOT_FIELDS:
            text += f".{escape_text(part)}" if text else escape_text(part)
    return text


def _problem(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    got = quote_value(details["input"])
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if kind == "missing":
        return "is missing; add it"
    if kind == "string_type" and isinstance(details["input"], bool):
        words = "yes, on and true" if details["input"] else "no, off and false"
        return f'is {got}; write text in quotes, as in "{words.partition(",")[0]}": without them YAML reads {words} so'
    if kind == "string_type" and isinstance(details["input"], int | float):
        return f'is {got}; write text, as in "{got}"'
    if kind in _EXPECTED:
        return f"is {got}; write {_EXPECTED[kind]}"
    if kind in ("literal_error", "enum"):
        return f"is {got}; choose {context['expected']}"
    if kind == "too_long":
        return f"has {context['actual_length']} entries; keep {context['max_length']} of them"
    if kind == "too_short":
        return f"has {context['actual_length']} entries; write at least {context['min_length']}"
    if kind in _BOUNDS:
        fix, key = _BOUNDS[kind]
        bound = context[key]
        return f"is {got}; {fix.format(int(bound) if isinstance(bound, float) and bound.is_integer() else bound)}"
    return f"is {got}; {details['msg'][0].lower()}{details['msg'][1:]}"


# Escape sequences first (CSI, OSC and other strings, two-character ones), then single control characters.
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)|\x1b[ -/]*[0-~]?"
    r"|\x9b[0-?]*[ -/]*[@-~]|[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

# Characters by which text becomes links, images, code or HTML.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#!|~&])")

_REDACTED_ENV = re.compile(r"(\s*\"?openjd_redacted_env:\s*)(.*)", re.DOTALL)
_MASK = "********"
# Stands where a line was cut.
_CUT = " ... "
# Shorter values are not masked, because they would match by chance in many lines.
_SHORTEST_SECRET = 4
# A bound, so that a program that declares secrets without end cannot fill the memory.
_MOST_SECRETS = 256


def strip_controls(text: str) -> str:
    """Return a line without escape sequences and control characters, which could control a terminal; tabs stay."""
    return text if text.isascii() and text.isprintable() else _CONTROL.sub("", text)


def escape_markdown(text: str) -> str:
    """Return text of others for a page of Markdown: one line, which is shown as it is."""
    return _MARKDOWN.sub(r"\\\1", flatten_text(text))


class PlainFormatter(logging.Formatter):
    """Format log records without escape sequences and control characters: logs are read in terminals too."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text whose lines control no terminal."""
        return "\n".join(map(strip_controls, super().format(record).split("\n")))


def flatten_text(text: str) -> str:
    """Return text of any shape as one line without control characters, with single spaces between its words."""
    return strip_controls(" ".join(text.split()))


def cut_middle(text: str, most: int) -> str:
    """Return text of at most `most` characters: of longer text one third from its beginning, the rest from its end.

    The beginning of an error says what failed, and its end why, mostly in more words.
    """
    if len(text) <= most:
        return text
    head = (most - len(_CUT)) // 3
    return f"{text[:head]}{_CUT}{text[len(text) - (most - len(_CUT) - head) :]}"


def shorten_line(text: str, most: int) -> str:
    """Return text as one plain line of at most `most` characters, cut in its middle."""
    return cut_middle(flatten_text(text), most)


def list_first(texts: Sequence[str], most: int) -> str:
    """List the first of some texts, and how many more there are."""
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def format_bytes(count: float) -> str:
    """Return a number of bytes in two or three digits: `812 MiB`, `1.2 GiB`."""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        # 999.5 would be shown as 1000.
        if amount < 999.5:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if amount >= 9.95 or unit == "B" else f"{amount:.1f} {unit}"


def cut_to_bytes(text: str, most: int) -> str:
    """Return text of at most this many bytes in UTF-8, cut in its middle: both ends say what went wrong."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= most:
        return text
    mark = " ... "
    head = (most - len(mark)) // 2
    tail = most - len(mark) - head
    return raw[:head].decode("utf-8", "ignore") + mark + raw[len(raw) - tail :].decode("utf-8", "ignore")


class Redactor:
    """Mask secrets in printed lines, once the program declares them with OpenJD's `openjd_redacted_env: NAME=VALUE`."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    @property
    def secrets(self) -> frozenset[str]:
        """The secrets that were declared so far."""
        return frozenset(self._secrets)

    def mask(self, line: str) -> str:
        """Return a plain line with all known secrets masked; learn the secret that the line declares, if any."""
        if "openjd_redacted_env:" in line and (declared := _REDACTED_ENV.fullmatch(line)):
            name, equals, value = _declaration(declared[2]).partition("=")
            self._learn(value)
            return f"{declared[1]}{name}={_MASK}" if equals else f"{declared[1]}{_MASK}"
        for secret in self._secrets:
            line = line.replace(secret, _MASK)
        return line

    def _learn(self, value: str) -> None:
        for part in (value, *value.splitlines()):
            if len(part := strip_controls(part).strip()) >= _SHORTEST_SECRET and len(self._secrets) < _MOST_SECRETS:
                self._secrets.add(part)


def _declaration(text: str) -> str:
    """Return the declared `NAME=VALUE`, which may be written as a JSON string."""
    try:
        decoded = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return decoded if isinstance(decoded, str) else text
