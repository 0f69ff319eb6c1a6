"""Why a renderer wrote files of other names than its outputs have, and what mends it."""

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from activities.attempts.output_files import OtherFiles
from activities.errors import AttemptError
from longtake.chunks import Chunk
from longtake.models.outputs import OutputTemplate
from longtake.output_patterns import find_blender_output, is_blender
from longtake.paths import FILM_SUFFIXES, OutputKind, fold_name

_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}")
_PRINTF = re.compile(r"%0?\d*d")
# Blender's options that take numbers of frames.
_BLENDER_FRAMES = frozenset({"-s", "--frame-start", "-e", "--frame-end", "-f", "--render-frame"})
_NUMBERED_FOLDER = re.compile(r"\{frame[^{}]*\}[^/]*/")


def explain_names(
    error: AttemptError, chunk: Chunk, made: Sequence[Path], others: OtherFiles, output_field: str
) -> None:
    """Add how the names of files came to be others than those of the outputs, where that is why the try failed.

    Args:
        error: Says that an output is missing.
        chunk: The chunk.
        made: Its outputs, in order.
        others: The files that the renderer wrote besides.
        output_field: What the job calls its outputs.
    """
    each = chunk.files_per_output
    groups = (made[first : first + each] for first in range(0, len(made), each))
    for number, files in enumerate(groups):
        missing = next((index for index, file in enumerate(files) if not os.path.lexists(file)), None)
        if missing is None:
            continue
        # A renderer that ended well and wrote not all files of this output, or none.
        is_partial = any(map(os.path.lexists, files))
        hint = find_name_hint(
            chunk, chunk.templates[number], files[missing].name, others.names, frame=missing, is_partial=is_partial
        )
        if hint is None and not is_partial and others.has_kind(files[0].suffix):
            hint = f"it would be the same again, so change the command or {output_field}"
        if hint is not None:
            error.add_sentence(hint)
            error.needs_change = error.fatal = True
        elif step := _find_scene_step(chunk, files):
            # Another try renders the gaps alone, and may well make them.
            error.add_sentence(
                f"one of every {step} frames was made: the scene may have a step of its own; set frames.step if "
                "that is meant, or tell the renderer to make each frame, as with Blender's --frame-jump 1"
            )
        return


def _find_scene_step(chunk: Chunk, files: Sequence[Path]) -> int | None:
    """Return the step of the frames that are there, where a renderer has left out all between them."""
    if chunk.kind is not OutputKind.FRAMES or len(files) < 2:
        return None
    there = [number for number, file in enumerate(files) if os.path.lexists(file)]
    step = there[1] - there[0] if len(there) > 1 else len(files)
    # One frame of a few is no pattern, but the usual one where a chunk of Blender has two.
    is_known = len(there) > 1 or Path(chunk.command_template[0]).name.startswith("blender")
    return step if step > 1 and is_known and there == list(range(0, len(files), step)) else None


def find_name_hint(
    chunk: Chunk,
    template: OutputTemplate,
    expected: str,
    written: Sequence[str],
    *,
    frame: int = 0,
    is_partial: bool = False,
) -> str | None:
    """Return how the names of files came to be others than those of an output, and what mends it; None if unknown.

    Args:
        chunk: The chunk.
        template: The output of which a file was not written.
        expected: Name of that file.
        written: Names of files that the renderer wrote instead.
        frame: Which frame of the chunk it is of, counted from 0.
        is_partial: Whether files of other frames were written: then only their numbers can tell anything.
    """
    if (hint := _explain_command(chunk) or _explain_folder(chunk, template)) is not None:
        return hint
    if chunk.kind is not OutputKind.FRAMES:
        return None
    name = PurePosixPath(expected)
    if is_partial:
        return _explain_width(chunk, name, written, frame) or _explain_start(chunk, name, written, frame)
    return (
        _explain_film(name, written)
        or _explain_spelling(chunk, template, name, written)
        or _explain_pattern(written)
        or _explain_extension(chunk, name, written)
        or _explain_views(template, name, written)
        or _explain_width(chunk, name, written, frame)
        or _explain_start(chunk, name, written)
    )


def _explain_command(chunk: Chunk) -> str | None:
    """Explain words of Blender's: a path in the folder of its scene, where no attempt may write, a frame below 0."""
    index = find_blender_output(chunk.command_template)
    if chunk.start < 0 and is_blender(chunk.command_template):
        found = next((part for part in chunk.command_template if part in _BLENDER_FRAMES), None)
        if found is not None:
            return (
                f"Blender takes a number below 0 behind {found} for so many frames from those of its scene; render "
                "such frames in a script, by scene.frame_set and bpy.ops.render.render"
            )
    if index is None or not chunk.command_template[index].startswith("//"):
        return None
    return (
        f"Blender writes {chunk.command_template[index]} beside its scene; write {{output}} behind -o, or "
        "{output_hashes}, so that the file comes into the place of this try"
    )


def _explain_folder(chunk: Chunk, template: OutputTemplate) -> str | None:
    """Explain numbers in names of folders, which Blender does not fill in."""
    if find_blender_output(chunk.command_template) is None or not _NUMBERED_FOLDER.search(template.path):
        return None
    path = PurePosixPath(_NUMBERED_FOLDER.sub("", template.path))
    if "{frame" not in path.name:
        path = path.with_name(f"{path.stem}_{{frame:04}}{path.suffix}")
    return f"Blender numbers files and no folders; write the path of the output as {path}"


def _explain_film(expected: PurePosixPath, written: Sequence[str]) -> str | None:
    """Explain a renderer that wrote a film in place of image files."""
    film = next((name for name in written if PurePosixPath(name).suffix.lower() in FILM_SUFFIXES), None)
    if film is None or expected.suffix.lower() in FILM_SUFFIXES:
        return None
    suffix = PurePosixPath(film).suffix
    return (
        f"the renderer wrote a film, {film}; have it write {expected.suffix} files, as by Blender's -F PNG, or write "
        f"the path of the output as of one film a chunk, as chunks/{{chunk:06}}{suffix}"
    )


def _explain_spelling(
    chunk: Chunk, template: OutputTemplate, expected: PurePosixPath, written: Sequence[str]
) -> str | None:
    """Explain names that differ by the case of letters or by the form of Unicode alone, which look the same."""
    other = next((name for name in written if fold_name(name) == fold_name(expected.name)), None)
    if other is None or other == expected.name:
        return None
    if unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", expected.name):
        form = "NFD" if unicodedata.is_normalized("NFD", other) else "NFC"
        return (
            f"{other!a} and {expected.name!a} look alike; write the path of the output as the renderer "
            f"writes it, in Unicode's form {form}"
        )
    return f"the renderer writes {other}, with letters of another case; write the path of the output so"


def _explain_pattern(written: Sequence[str]) -> str | None:
    """Explain a renderer that took a pattern for a name, or a path of Windows."""
    for name in written:
        if "\\" in name:
            return f"a backslash is part of the name {name!a} here; write / in the command"
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
    if expected.stem in written and expected.suffix:
        if is_blender(chunk.command_template):
            return f"Blender adds no {expected.suffix} because of -x 0; leave -x out, or write -x 1"
        return f"the renderer adds no {expected.suffix}; tell it the name with its extension, as {{output}} has it"
    for name in written:
        added = name.removeprefix(expected.name) if name.startswith(expected.name) else ""
        if _EXTENSION.fullmatch(added) and not _EXTENSION.fullmatch(expected.suffix):
            return f"the renderer adds {added}; end the path of the output in {added}"
        if added:
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


def _explain_width(chunk: Chunk, expected: PurePosixPath, written: Sequence[str], frame: int) -> str | None:
    """Explain numbers that have another width."""
    number, found = _find_numbers(chunk.frames[frame], expected, written)
    same = next((each for each in found if int(each) == chunk.frames[frame]), None)
    if same is None or same == number:
        return None
    width = f":0{len(same)}" if same.lstrip("-").startswith("0") else ""
    return (
        f"the renderer writes frame {chunk.frames[frame]} as {same}, and the output has {number}; write "
        f"{{frame{width}}} in the path of the output, or have the renderer write {len(number)} digits"
    )


def _explain_start(chunk: Chunk, expected: PurePosixPath, written: Sequence[str], frame: int = 0) -> str | None:
    """Explain numbers that do not begin where the chunk does."""
    _, found = _find_numbers(chunk.frames[frame], expected, written)
    first = min(map(int, found), default=chunk.start)
    if chunk.start <= first < chunk.stop:
        return None
    return (
        f"the renderer numbers its files from {first}, and this chunk begins with {chunk.start}; tell it so, as ffmpeg "
        "by -start_number {start}"
    )


def _find_numbers(frame: int, expected: PurePosixPath, written: Sequence[str]) -> tuple[str, list[str]]:
    """Return the number of a frame as the name of its file has it, and what stands there in names that were written."""
    # The last one: names of shots have numbers before.
    # Without a zero before the width, numbers are filled up with blanks; -0005 has one more digit than -005.
    digits = rf"[0 ]*{frame}" if frame >= 0 else rf" *-0*{-frame}"
    number = re.search(rf"{digits}(?!.*\d)", expected.name) or re.search(digits, expected.name)
    if number is None:
        return "", []
    before, after = expected.name[: number.start()], expected.name[number.end() :]
    shape = re.compile(rf"{re.escape(before)}( *-?\d+){re.escape(after)}")
    return number[0], [match[1] for match in map(shape.fullmatch, written) if match is not None]
