"""Pydantic's errors as sentences that name the field and the fix."""

from pydantic import ValidationError
from pydantic_core import ErrorDetails

# Tags of unions and markers of dict keys: words of ours and pydantic's, not of the file.
_NOT_FIELDS = frozenset({"list", "file", "[key]"})

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


def sentence(error: ValidationError) -> str:
    """Return the first thing that is wrong, as `field: what is wrong; the fix`."""
    details = error.errors(include_url=False)[0]
    field = _field(details)
    problem = _problem(details)
    return f"{field}: {problem}" if field else problem


def _field(details: ErrorDetails) -> str:
    text = ""
    for part in details["loc"]:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in _NOT_FIELDS:
            text += f".{part}" if text else part
    return text


def _problem(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    got = repr(details["input"])
    got = got if len(got) <= 60 else f"{got[:57]}..."
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if kind == "missing":
        return "is missing; add it"
    if kind in _EXPECTED:
        return f"is {got}; write {_EXPECTED[kind]}"
    if kind in ("literal_error", "enum"):
        return f"is {got}; choose {context['expected']}"
    bounds = {
        "greater_than_equal": ("at least", "ge"), "greater_than": ("more than", "gt"),
        "less_than_equal": ("at most", "le"), "less_than": ("less than", "lt"),
    }  # fmt: skip
    if kind in bounds:
        words, key = bounds[kind]
        return f"is {got}; make it {words} {context[key]}"
    return f"is {got}; {details['msg'][0].lower()}{details['msg'][1:]}"
