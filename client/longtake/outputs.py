"""Where chunks and films are written: kinds of output, and the paths that a job may name."""

from enum import StrEnum
from pathlib import PurePosixPath

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts", ".avi", ".mxf"})
FILM_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts"})

BOOKKEEPING_FOLDER = ".longtake"


class OutputKind(StrEnum):
    """What a chunk writes, and so how it is checked."""

    VIDEO = "video"
    FRAMES = "frames"
    FILE = "file"


def kind_of(output: str) -> OutputKind:
    """Return how an output of this name, a template or a path, is checked."""
    if "{frame" in output.replace("{{", ""):
        return OutputKind.FRAMES
    if PurePosixPath(output).suffix.lower() in VIDEO_SUFFIXES:
        return OutputKind.VIDEO
    return OutputKind.FILE


def check_path(path: str) -> None:
    """Pass a path that can name an output or input file.

    Raises:
        ValueError: What is wrong with it and the fix, without the field's name.
    """
    if not path.strip():
        raise ValueError("is empty; write a path or leave the key out")
    if any(character in path for character in "\0\n\r"):
        raise ValueError("holds a NUL or newline character; take it out")
    if path.endswith("/") or PurePosixPath(path).name in ("", ".", ".."):
        raise ValueError(f"{path!r} names a folder; add a file name")
    if path.startswith("~"):
        raise ValueError(f"{path!r} starts with ~, which only a shell expands; write the path in full")
    if len(path) > 1000 or any(len(part.encode()) > 255 for part in PurePosixPath(path).parts):
        raise ValueError("is longer than file systems allow; shorten it")
    if BOOKKEEPING_FOLDER in PurePosixPath(path).parts:
        raise ValueError(f"{path!r} lies in {BOOKKEEPING_FOLDER}, which is Longtake's own; choose another folder")


def normal(path: str) -> str:
    """Return one spelling for paths that differ in `./` and `a/../` only; links are a worker's to resolve."""
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part == ".." and parts and parts[-1] not in ("..", "/"):
            parts.pop()
        else:
            parts.append(part)
    return str(PurePosixPath(*parts))
