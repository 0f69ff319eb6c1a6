"""Check and classify the output paths of a job."""

import re
import unicodedata
from enum import StrEnum
from fractions import Fraction
from pathlib import PurePosixPath

from longtake.text import quote_value

# Of video chunks, and of films.
FILM_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts", ".avi", ".mxf"})
# Frame rates of MXF files (SMPTE ST 326), as ffmpeg has them.
_MXF_NOMINAL_RATES = (24, 25, 30, 48, 50, 60, 72, 75, 90, 96, 100, 120)
MXF_RATES = frozenset(map(Fraction, _MXF_NOMINAL_RATES)) | {
    Fraction(rate * 1000, 1001) for rate in _MXF_NOMINAL_RATES if rate % 6 == 0
}

BOOKKEEPING_FOLDER = ".longtake"

# What other programs number frames by: printf's %04d, the #### of Blender and Nuke, the [####] of After Effects, the
# @@@@ of Shake and Silhouette, Houdini's $F4, Maya's <Frame>, 3ds Max's <F4>.
_FRAME_NUMBER = re.compile(
    r"%[-+ 0]*(\d+)[diu]|%\.(\d+)[diu]|%[diu](?![A-Za-z])|\[?(?<!#)(#{2,})(?!#)\]?|(?<!@)(@{2,})(?!@)"
    r"|\$\{?F(\d*)\b\}?|<[Ff](?:rame)?0?(\d*)>",
    re.ASCII,
)
# One # or @ is a number only where nothing else tells frames apart: f_#.png, and no shot#1.
_SHORT_NUMBER = re.compile(r"[#@](?=\.\w+$)", re.ASCII)
# Nuke's words for a view: left, right; and l, r.
_VIEW = re.compile(r"%[Vv](?![A-Za-z0-9])", re.ASCII)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+", re.ASCII)
_DRIVE = re.compile(r"[A-Za-z]:|\\\\", re.ASCII)
_VARIABLE = re.compile(
    r"\$\{?[A-Za-z_][A-Za-z0-9_]*\}?|\$\([^)]*\)?|`[^`]*`|%[A-Za-z_][A-Za-z0-9_]*(?::[^%/]*)?%", re.ASCII
)
# Words of Maya and Arnold, After Effects, and Nuke's expressions.
_TOKEN = re.compile(
    r"<(?:scene|(?:render)?layer|camera|(?:render)?pass(?:filegroup)?|aov|eye|version|extension|udim|uvtile|take)>"
    r"|\[(?:compName|projectName|outputModuleName|fileExtension)\]"
    r"|\[(?:value|file|getenv|python|expression|join|lindex|split|string)\s[^/]*\]",
    re.ASCII | re.IGNORECASE,
)
_QUOTED = re.compile(r"([\"'`]).*\1", re.DOTALL)


def is_bookkeeping(name: str) -> bool:
    """Tell whether a name is that of Longtake's own folder, on file systems too that do not tell letter cases apart."""
    return name.casefold() == BOOKKEEPING_FOLDER


def has_control_characters(text: str) -> bool:
    """Tell whether a text has control characters: NUL, newlines and others of the Unicode categories Cc, Zl and Zp."""
    return any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text)


class OutputKind(StrEnum):
    """Kinds of the output of a chunk, which decide how the output is checked."""

    VIDEO = "video"
    FRAMES = "frames"
    FILE = "file"


def classify_output(output: str) -> OutputKind:
    """Return the kind of an output by its name, which may be a path or a template."""
    if "{frame" in output.replace("{{", ""):
        return OutputKind.FRAMES
    if PurePosixPath(output).suffix.lower() in FILM_SUFFIXES:
        return OutputKind.VIDEO
    return OutputKind.FILE


def check_path(path: str) -> None:
    """Raise unless a path can name an output or input file.

    Raises:
        ValueError: What is wrong and the fix, without the field's name.
    """
    if not path.strip():
        raise ValueError("is empty; write a path or leave the key out")
    if has_control_characters(path):
        raise ValueError("holds a control character such as NUL or a newline; take it out")
    if path.rpartition("/")[2] in ("", ".", ".."):
        raise ValueError(f"{quote_value(path)} names a folder; add a file name")
    check_is_local(path)
    if path.startswith("~"):
        raise ValueError(f"{quote_value(path)} starts with ~, which only a shell expands; write the path in full")
    if len(path) > 1000 or any(len(part.encode()) > 255 for part in PurePosixPath(path).parts):
        raise ValueError("is longer than file systems allow; shorten it")
    if any(map(is_bookkeeping, PurePosixPath(path).parts)):
        raise ValueError(
            f"{quote_value(path)} lies in {BOOKKEEPING_FOLDER}, which is Longtake's own; choose another folder"
        )


def check_is_local(path: str) -> None:
    """Raise for a path of Windows that begins with a drive or a server, and for a URL: as paths they would be relative.

    Raises:
        ValueError: What is wrong and the fix, without the field's name.
    """
    if _DRIVE.match(path):
        raise ValueError(
            f"{quote_value(path)} is a path of Windows; write the one that workers see, or one "
            "from the job file's folder"
        )
    if (scheme := _URL.match(path)) is not None:
        fix = "name its bucket in store, and write the path below that" if path.startswith("s3:") else "write a path"
        raise ValueError(f"{quote_value(path)} is a URL, and {scheme[0]} would be a folder here; {fix}")


def check_output_path(path: str, *, is_film: bool = False) -> None:
    """Raise for a path of an output that is meant for another program or system, where it would name other files.

    Args:
        path: The path, with placeholders.
        is_film: Whether a film goes there, and no output of chunks.

    Raises:
        ValueError: What is wrong and the fix, without the field's name.
    """
    _check_slashes(path)
    if _QUOTED.fullmatch(path):
        raise ValueError(f"{quote_value(path)} has quotes around it, which would be part of names; take them out")
    if path != path.rstrip():
        raise ValueError(f"{quote_value(path)} ends with a blank, which would be part of the name; take it out")
    _check_numbers(path, is_film=is_film)
    if (view := _VIEW.search(path)) is not None:
        raise ValueError(
            f"{quote_value(path)} names views by {view[0]}; write {{view}} instead, and list them in views"
        )
    if (variable := _VARIABLE.search(path)) is not None:
        raise ValueError(f"{quote_value(path)} holds {variable[0]}, which only a shell expands; write the path in full")
    if (token := _TOKEN.search(path)) is not None:
        raise ValueError(
            f"{quote_value(path)} holds {token[0]}, which only another program expands; write the name in full, and "
            "each such file as one of outputs"
        )


def _check_slashes(path: str) -> None:
    if "\\" in path:
        fixed = quote_value(path.replace("\\", "/"))
        raise ValueError(f"{quote_value(path)} has a backslash, which is part of a name here; write {fixed}")


def _check_numbers(path: str, *, is_film: bool) -> None:
    """Raise for a number of frames as other programs write it; folders of chunks and films may be called so."""
    name = path.rpartition("/")[2]
    number = _FRAME_NUMBER.search(name if is_film or "{" in path else path)
    if number is None and not is_film and "{" not in path:
        number = _SHORT_NUMBER.search(name)
    if number is None:
        return
    if is_film:
        raise ValueError(f"{quote_value(path)} numbers frames by {number[0]}, and a film is one file; take it out")
    width = next((group for group in number.groups() if group), "") if number.re is _FRAME_NUMBER else ""
    word = "chunk" if PurePosixPath(path).suffix.lower() in FILM_SUFFIXES else "frame"
    digits = width if width.isdigit() else str(len(width) or "")
    placeholder = f"{{{word}:0{digits}}}" if digits else f"{{{word}}}"
    raise ValueError(f"{quote_value(path)} numbers frames by {number[0]}; write {placeholder} instead")


def check_glob(pattern: str) -> None:
    """Raise for a pattern of files that is written as other programs write patterns: here only `*`, `**` and `?` are.

    Raises:
        ValueError: What is wrong and the fix, without the field's name.
    """
    _check_slashes(pattern)
    if (number := _FRAME_NUMBER.search(pattern)) is not None:
        raise ValueError(f"{quote_value(pattern)} numbers frames by {number[0]}; write * in its place")


def fold_name(path: str) -> str:
    """Return a path as file systems compare it that tell neither letter cases nor forms of Unicode apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def normalize_path(path: str) -> str:
    """Return a path without `./`, `a/../` and doubled slashes; links are not resolved.

    By text: with `pathlib`, the outputs of the longest list of chunks took half of a workflow task's time.
    """
    root = "/" if path.startswith("/") else ""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and (root or parts) and parts[-1:] != [".."]:
            # The parent of the root is the root.
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return root + "/".join(parts) or "."
