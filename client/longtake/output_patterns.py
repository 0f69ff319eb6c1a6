"""What `{output}` and its like stand for: paths and the patterns of printf, and those of Blender."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from longtake.templates import (
    OUTPUT_PLACEHOLDERS,
    escape_template,
    has_frame_number,
    make_hash_pattern,
    make_printf_pattern,
)

# Blender's options for the path of its output, before which its own name stands.
_BLENDER_OPTIONS = ("-o", "--render-output")
# Not of scripts that start Blender: what they make of `{output}` is theirs.
_BLENDER = re.compile(
    r"(org\.blender\.)?blender(-softwaregl|-launcher|[-_.]?\d[\w.-]*)?(\.exe)?", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True)
class OutputPlaces:
    """One output of a chunk in the place of an attempt, as a command may name it.

    Args:
        names: Its names in placeholders, as in `{output.depth}`.
        marked: Its path, with marks where numbers of frames belong.
        shared: The same without the view.
    """

    names: tuple[str, ...]
    marked: str
    shared: str

    @property
    def output(self) -> str:
        """Its path; of image files a pattern of printf."""
        return make_printf_pattern(self.marked) if has_frame_number(self.marked) else self.marked

    @property
    def output_dir(self) -> str:
        """The folder of that."""
        folder = self.marked.rpartition("/")[0]
        return make_printf_pattern(folder) if has_frame_number(folder) else folder

    @property
    def output_hashes(self) -> str:
        """Its pattern with `####`, without extension and view."""
        return make_hash_pattern(self.shared)

    @property
    def blender_output(self) -> str:
        """The same with its extension, which Blender adds only where it is missing."""
        return make_hash_pattern(self.shared, keeps_extension=True)

    @property
    def values(self) -> dict[str, str]:
        """What all placeholders of the output stand for: those without a name, and those with each of its names."""
        plain = dict(zip(OUTPUT_PLACEHOLDERS, (self.output, self.output_dir, self.output_hashes), strict=True))
        return plain | {f"{word}.{name}": value for name in self.names for word, value in plain.items()}


def is_blender(command: Sequence[str]) -> bool:
    """Tell whether a command runs Blender, maybe by way of another program."""
    return any(_BLENDER.fullmatch(PurePosixPath(part).name) for part in command[:4])


def find_blender_output(command: Sequence[str]) -> int | None:
    """Return which argument of a command is the path of Blender's output; None if there is none."""
    if not is_blender(command):
        return None
    options = (index for index, part in enumerate(command[:-1]) if part in _BLENDER_OPTIONS)
    return next((index + 1 for index in options), None)


def expand_for_blender(command: tuple[str, ...], places: Sequence[OutputPlaces]) -> tuple[str, ...]:
    """Replace `{output}` of image files behind Blender's `-o` by a pattern that Blender reads: it knows no `%04d`."""
    index = find_blender_output(command)
    if index is None or not has_frame_number(places[0].marked):
        return command
    found = re.fullmatch(r"\{output(?:\.([\w.-]+))?\}", command[index])
    if found is None:
        return command
    place = next((place for place in places if found[1] is None or found[1] in place.names), places[0])
    return (*command[:index], escape_template(place.blender_output), *command[index + 1 :])
