"""Define the base of all wire models, and the kinds of values that job files hold."""

import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from longtake.errors import BadJobError
from longtake.paths import has_control_characters
from longtake.templates import split_command
from longtake.text import escape_text, quote_value, suggest_key

# Largest limit of failures, because no job has more chunks.
_MOST_FAILURES = 1_000_000


def _as_arguments(value: object) -> object:
    if isinstance(value, str):
        try:
            return split_command(value)
        except BadJobError:
            # Empty arguments break a rule of `job_rules`, whose error names the field.
            return ()
    if isinstance(value, list):
        # Whole numbers need no quotes, as in `-crf, 18`. Others do, or 1.10 would become 1.1.
        return tuple(str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in value)
    return value


def _as_line(value: str) -> str:
    if has_control_characters(value) or not value.strip():
        raise ValueError(f"is {quote_value(value)}; write one line of text")
    return value


def _as_limit(value: object) -> object:
    count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_FAILURES
    share = isinstance(value, str) and re.fullmatch(r"(100|\d{1,2})(\.\d{1,4})?%", value, re.ASCII)
    if not count and not share:
        raise ValueError(f"is {quote_value(value)}; write a number of chunks, or a share such as 10%")
    return value


Arguments = Annotated[tuple[str, ...], BeforeValidator(_as_arguments)]
# Neither compiled nor tried here, which may take for ever: see `longtake.pattern_check`.
Pattern = Annotated[str, Field(max_length=1000)]
# Exit code of a program, or minus the signal that ended it, as in `subprocess`.
ProgramExitCode = Annotated[int, Field(ge=-64, le=255)]
FailureLimit = Annotated[int | str, BeforeValidator(_as_limit)]
Line = Annotated[str, AfterValidator(_as_line)]
Seconds = Annotated[float, Field(gt=0, le=60 * 60 * 24 * 365)]


class Contract(BaseModel):
    """Base of all frozen messages, which an older or a newer Longtake can still read.

    Unknown keys of what is decoded are ignored, because a newer peer may send more; callers in Python, job files and
    bodies of requests are read strictly. New fields always have defaults, and no field is ever renamed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    # What to write in place of keys that people expect here, where the nearest one that exists means something else.
    key_hints: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:  # type checkers know the fields of each constructor

        def __new__(cls, *args: object, **values: object) -> Self:
            """Refuse unknown keys of a caller in Python: pydantic passes none here when it decodes.

            Raises:
                BadJobError: The sentence names the key and the nearest one that exists.
            """
            for key in values:
                if key not in cls.model_fields:
                    raise BadJobError(f"{key}: is not a field of {cls.__name__}; {suggest_key(key, cls.model_fields)}")
            return super().__new__(cls)


def check_keys(document: Mapping[str, Any], model: type[BaseModel], where: str = "") -> None:
    """Refuse keys that a model and the models in its fields do not know.

    Args:
        document: Keys and values, as a person or a service wrote them.
        model: The model.
        where: Place of the document in a job, with a dot behind.

    Raises:
        BadJobError: The sentence names the key and the nearest one that exists.
    """
    keys = _models_of_keys(model)
    for key, value in document.items():
        if key not in keys or key == "contract":
            own = model.key_hints.get(str(key)) if issubclass(model, Contract) else None
            hint = own or suggest_key(str(key), keys, hidden=("contract", "rerender", "only"))
            raise BadJobError(f"{where}{escape_text(str(key)) or quote_value(key)}: is not a key of a job; {hint}")
        models = [inner for inner, listed in keys[key] if listed == isinstance(value, list | tuple)]
        for index, item in enumerate(value if isinstance(value, list | tuple) else [value]):
            place = f"{where}{key}[{index}]." if isinstance(value, list | tuple) else f"{where}{key}."
            if isinstance(item, dict) and models:
                check_keys(item, _select_model(item, models, place), place)


@cache
def _models_of_keys(model: type[BaseModel]) -> dict[str, tuple[tuple[type[BaseModel], bool], ...]]:
    """Return the keys of a model with the models that each may hold; looked up for each of thousands of chunks."""
    return {field.alias or name: tuple(_find_models(field.annotation)) for name, field in model.model_fields.items()}


def _select_model(item: Mapping[str, Any], models: Sequence[type[BaseModel]], place: str) -> type[BaseModel]:
    """Return the model of a section; of several models the one that its `type` names."""
    if len(models) == 1:
        return models[0]
    by_type = {model.model_fields["type"].default: model for model in models}
    given = item.get("type")
    if not isinstance(given, str) or given not in by_type:
        state = "is missing" if given is None else f"is {quote_value(given)}"
        raise BadJobError(f"{place}type: {state}; choose {' or '.join(by_type)}")
    return by_type[given]


def _find_models(annotation: object, *, listed: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """Yield the models that a field may hold, and whether it holds them in a list."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, listed
    elif origin in (Union, UnionType, Annotated, tuple):
        for part in get_args(annotation):
            yield from _find_models(part, listed=listed or origin is tuple)


def find_ntsc_rate(value: float) -> Fraction | None:
    """Return the exact NTSC rate (n * 1000/1001) that a number such as 29.97 rounds; None if there is none.

    Over a long film the rounding error would become audible.
    """
    if not 0 < value <= 1000 or value.is_integer():
        return None
    near = Fraction(round(value * 1.001) * 1000, 1001)
    return near if near and abs(near - Fraction(value)) < 0.01 else None


def _as_fraction(rate: float) -> Fraction:
    """Return a rate with few decimals, such as 12.5, as a fraction."""
    return Fraction(rate).limit_denominator(1001)


def _as_rate(value: object) -> object:
    """Convert a frame rate to its one spelling, `30` or `30000/1001`."""
    if value is None:
        return None
    if isinstance(value, float):
        near = find_ntsc_rate(value)
        fix = f"{int(value)}" if value.is_integer() else f'"{near or _as_fraction(value)}"'
        raise ValueError(f"write {fix} instead of {value}; a rounded rate drifts over a long film")
    if isinstance(value, str) and re.fullmatch(r"\d{1,4}\.\d{1,9}", value, re.ASCII):
        number = float(value)
        near = find_ntsc_rate(number)
        fix = f"{int(number)}" if number.is_integer() else f'"{near or _as_fraction(number)}"'
        reason = "" if number.is_integer() else ": a rounded rate drifts over a long film"
        raise ValueError(f"is {quote_value(value)}; write {fix}{reason}")
    spelled = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(spelled, str) or not re.fullmatch(r"[1-9]\d{0,8}(/[1-9]\d{0,8})?", spelled, re.ASCII):
        raise ValueError('must be a whole number such as 30 or a fraction such as "30000/1001"')
    rate = Fraction(spelled)
    if rate > 1000:
        raise ValueError("must be at most 1000 frames a second")
    return str(rate)


Rate = Annotated[str, BeforeValidator(_as_rate)]
