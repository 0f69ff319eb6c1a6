"""Model the outputs of each chunk: paths with placeholders, names and views."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field

from longtake.models.fields import Contract
from longtake.paths import fold_name
from longtake.templates import COMMAND_PLACEHOLDERS, OUTPUT_PLACEHOLDERS, escape_template, fill_template
from longtake.text import quote_value

# More than any renderer has passes; each of them is looked for in each frame.
MOST_OUTPUTS = 100
MOST_VIEWS = 16
MOST_ALSO = 32

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}", re.ASCII)
_VIEW = re.compile(r"[A-Za-z0-9_.-]{1,40}", re.ASCII)
_VIEW_WORD = re.compile(r"(?<!\{)\{view\}(?!\})")
# A view in the name of a file, with what parts it from the rest: Blender adds both.
_VIEW_SUFFIX = re.compile(rf"[_.-]?{_VIEW_WORD.pattern}")


class OutputSpec(Contract):
    """One output of each chunk."""

    path: str = Field(description="where it is published, with placeholders")
    name: str = Field(default="", description="how the command and the film name it")


def _as_outputs(value: object) -> object:
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) and name for name in value):
            raise ValueError(
                'has a name that is no text; write names with paths, as in beauty: "beauty/{frame:04}.exr"'
            )
        return tuple(_as_output(path, f"{name}: ", name) for name, path in value.items())
    if isinstance(value, list | tuple):
        return tuple(_as_output(item, f"the item {index} ") for index, item in enumerate(value))
    raise ValueError(f"is {quote_value(value)}; write a list of paths, or names with paths")


def _as_output(value: object, where: str, name: str = "") -> OutputSpec:
    if isinstance(value, OutputSpec):
        return value
    if isinstance(value, Mapping) and not name:
        path, name = value.get("path"), value.get("name", "")
    else:
        path = value
    if not isinstance(path, str) or not isinstance(name, str):
        raise ValueError(f"{where}is {quote_value(value)}; write a path with placeholders")
    return OutputSpec(path=path, name=name)


Outputs = Annotated[tuple[OutputSpec, ...], BeforeValidator(_as_outputs)]


@dataclass(frozen=True)
class OutputTemplate:
    """One output of a chunk, of one view.

    Args:
        field: Key of the job that names it, for errors.
        path: Its path, with placeholders other than `{view}`.
        names: Its names in placeholders such as `{output.depth}`, the shortest first; none for the only output.
        shared: The path without the view, which is what a renderer gets that adds views by itself.
    """

    field: str
    path: str
    names: tuple[str, ...] = ()
    shared: str = ""

    @property
    def label(self) -> str:
        """Name of the output for sentences; empty for the only one."""
        return self.names[-1] if self.names else ""


def expand_views(field: str, path: str, name: str, views: Sequence[str]) -> Iterator[OutputTemplate]:
    """Yield an output once for each view that its path asks for."""
    if not views or not _VIEW_WORD.search(path):
        yield OutputTemplate(field, path, (name,) if name else (), path)
        return
    folder, slash, file = path.rpartition("/")
    for number, view in enumerate(views):
        words = {"view": escape_template(view)}
        full = f"{name}.{view}" if name else view
        names = (name, full) if name and number == 0 else (full,)
        shared = f"{fill_template(folder, words)}{slash}{_VIEW_SUFFIX.sub('', file)}"
        yield OutputTemplate(field, fill_template(path, words), names, shared)


def list_outputs(
    outputs: Sequence[OutputSpec], chunk_output: str | None, views: Sequence[str]
) -> tuple[OutputTemplate, ...]:
    """List the outputs of each chunk in order; the first is the one that `{output}` names."""
    if not outputs:
        return tuple(expand_views("chunk_output", chunk_output, "", views)) if chunk_output is not None else ()
    return tuple(
        template
        for index, output in enumerate(outputs)
        for template in expand_views(_field(index, output), output.path, output.name, views)
    )


def _field(index: int, output: OutputSpec) -> str:
    return f"outputs.{output.name}" if output.name else f"outputs[{index}]"


def has_view(path: str) -> bool:
    """Tell whether a path has the placeholder `{view}`."""
    return _VIEW_WORD.search(path) is not None


def check_names(outputs: Sequence[OutputSpec], views: Sequence[str]) -> None:
    """Raise ValueError unless outputs and views have names that placeholders and files can have, each one its own."""
    for kind, names, pattern, rule in (
        (
            "outputs",
            [output.name for output in outputs if output.name],
            _NAME,
            "letters, digits, _ and -, a letter first",
        ),
        ("views", views, _VIEW, "letters, digits, _, . and -"),
    ):
        for number, name in enumerate(names):
            if not pattern.fullmatch(name) or name in (".", ".."):
                raise ValueError(f"{kind}: {quote_value(name)} is no name here; write {rule}, 40 at most")
            # Views are parts of names of files.
            if fold_name(name) in map(fold_name, names[:number]):
                raise ValueError(f"{kind}: {quote_value(name)} stands twice; give each its own name")


def list_command_words(templates: Iterable[OutputTemplate]) -> tuple[str, ...]:
    """List the placeholders that a command may have, those of named outputs included."""
    names = (name for template in templates for name in template.names)
    return (*COMMAND_PLACEHOLDERS, *(f"{word}.{name}" for name in names for word in OUTPUT_PLACEHOLDERS))
