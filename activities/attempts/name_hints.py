"""Why a renderer wrote files of other names than its outputs have, and what mends it."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from longtake.chunks import Chunk
from longtake.models.outputs import OutputTemplate
from longtake.output_patterns import find_blender_output, is_blender
from longtake.paths import OutputKind

_PRINTF = re.compile(r"%0?\d*d")


def find_name_hint(chunk: Chunk, template: OutputTemplate, expected: str, written: Sequence[str]) -> str | None:
    """Return how the names of files came to be others than those of an output, and what mends it; None if unknown.

    Args:
        chunk: The chunk.
        template: The output of which no file was written.
        expected: Name of its first file.
        written: Names of files that the renderer wrote instead.
    """
    if (hint := _explain_command(chunk)) is not None:
        return hint
    if chunk.kind is not OutputKind.FRAMES:
        return None
    name = PurePosixPath(expected)
    explained = (
        _explain_pattern(written)
        or _explain_extension(chunk, name, written)
        or _explain_views(template, name, written)
        or _explain_number(chunk, template, name, written)
    )
    return explained


def _explain_command(chunk: Chunk) -> str | None:
    """Explain a path of Blender's that starts from the folder of its scene, where no attempt may write."""
    index = find_blender_output(chunk.command_template)
    if index is None or not chunk.command_template[index].startswith("//"):
        return None
    return (
        f"Blender writes {chunk.command_template[index]} beside its scene; write {{output}} behind -o, or "
        "{output_hashes}, so that the file comes into the place of this try"
    )


def _explain_pattern(written: Sequence[str]) -> str | None:
    """Explain a renderer that took a pattern for a name."""
    for name in written:
        if (found := _PRINTF.search(name)) is not None:
            return (
                f"the renderer does not read {found[0]} in {{output}}; write {{output_hashes}}, which has #### and no "
                "extension, as Blender wants it, or {output_dir} and a name of its own"
            )
        if (hashes := re.search(r"#+", name)) is not None:
            return (
                f"the renderer does not read {hashes[0]}; write {{output}}, which has %04d and the like, or "
                "{output_dir} and a name of its own"
            )
    return None


def _explain_extension(chunk: Chunk, expected: PurePosixPath, written: Sequence[str]) -> str | None:
    """Explain an extension that is missing, is there twice, or is another one."""
    if expected.stem in written:
        if is_blender(chunk.command_template):
            return f"Blender adds no {expected.suffix} because of -x 0; leave -x out, or write -x 1"
        return f"the renderer adds no {expected.suffix}; tell it the name with its extension, as {{output}} has it"
    for name in written:
        if name.startswith(expected.name):
            return (
                f"the renderer adds a number or an extension by itself, and made {name}; write {{output_hashes}}, "
                "which has #### and no extension, or {output_dir} and a name of its own"
            )
        other = PurePosixPath(name)
        if other.stem == expected.stem and other.suffix != expected.suffix:
            return (
                f"the renderer writes {other.suffix} files; end the path of the output in {other.suffix}, or have it "
                f"write {expected.suffix}"
            )
    return None


def _explain_views(template: OutputTemplate, expected: PurePosixPath, written: Sequence[str]) -> str | None:
    """Explain names to which something is added: views of a stereo picture, or a layer."""
    added = [
        other.stem.removeprefix(expected.stem)
        for other in map(PurePosixPath, written)
        if other.suffix == expected.suffix and other.stem.startswith(expected.stem)
    ]
    added = sorted({each for each in added if each and not each[0].isdigit()})
    if not added:
        return None
    path = PurePosixPath(template.path)
    separator = "_" if all(each.startswith("_") for each in added) else ""
    views = ", ".join(each.removeprefix(separator) for each in added)
    if len(added) == 1:
        return (
            f"the renderer adds {added[0]} to each name; write it into the path of the output, or have it leave it out"
        )
    return (
        f"the renderer writes views; write views: [{views}] and the path of the output as "
        f"{path.with_name(f'{path.stem}{separator}{{view}}{path.suffix}')}"
    )


def _explain_number(
    chunk: Chunk, template: OutputTemplate, expected: PurePosixPath, written: Sequence[str]
) -> str | None:
    """Explain numbers of another width, and those that do not begin where the chunk does."""
    number = re.search(rf"0*{chunk.start}(?!.*\d)", expected.name) or re.search(rf"0*{chunk.start}", expected.name)
    if number is None:
        return None
    shape = re.compile(rf"{re.escape(expected.name[: number.start()])}(\d+){re.escape(expected.name[number.end() :])}")
    found = [match[1] for match in map(shape.fullmatch, written) if match is not None]
    if not found:
        return None
    same = next((each for each in found if int(each) == chunk.start), None)
    if same is not None and len(same) != len(number[0]):
        width = f":0{len(same)}" if same.startswith("0") else ""
        return (
            f"the renderer writes frame {chunk.start} as {same}, and the output has {number[0]}; write "
            f"{{frame{width}}} in the path of the output, or have the renderer write {len(number[0])} digits"
        )
    first = min(map(int, found))
    if same is None and not chunk.start <= first < chunk.stop:
        return (
            f"the renderer numbers its files from {first}, and this chunk begins with {chunk.start}; tell it so, as "
            "ffmpeg by -start_number {start}"
        )
    return None
