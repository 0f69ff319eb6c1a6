"""Read the `job.json` of Helios, unmodified, as a Longtake job.

The format is that of Helios' `--emit-job` (packages/infrastructure 0.25.0): camelCase, chunk ids from 0, paths
relative to the file's folder, one command line a chunk and one to merge. Keys it adds are ignored, as its own
workers do.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

from longtake.errors import BadJobError
from longtake.models.fields import find_ntsc_rate
from longtake.paths import FILM_SUFFIXES, normalize_path
from longtake.templates import escape_template, split_command
from longtake.text import quote_value


def is_helios(document: Mapping[str, Any]) -> bool:
    """Tell whether a document is a Helios job rather than a Longtake job."""
    chunks = document.get("chunks")
    first = chunks[0] if isinstance(chunks, list) and chunks else None
    return {"mergeCommand", "metadata"} <= document.keys() or (isinstance(first, dict) and "startFrame" in first)


def convert_helios(document: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a Helios job to the keys of `RenderJobSpec`.

    Arguments of a command that name the chunk's output file become `{output}`, so that each attempt writes to a file of
    its own; all other arguments stay as they are.

    Raises:
        BadJobError: A key is missing or has another type than Helios writes.
    """
    if document.get("assetsUrl"):
        raise BadJobError("assetsUrl: asset bundles are not fetched; put the files beside the job file and remove it")
    metadata = _get(document, "metadata", dict, "metadata")
    listed = _get(document, "chunks", list, "chunks")
    job: dict[str, Any] = {
        "fps": _rate(metadata.get("fps")),
        "chunks": [convert_chunk(chunk, f"chunks[{index}]") for index, chunk in enumerate(listed)],
    }
    merge = document.get("mergeCommand")
    if merge:
        if not isinstance(merge, str):
            raise BadJobError("mergeCommand: must be text; write the command line that joins the chunks")
        job |= _merge(_split(merge, "mergeCommand"), [chunk["output"] for chunk in job["chunks"]])
    return job


def convert_chunk(chunk: object, field: str) -> dict[str, Any]:
    """Convert one chunk of a Helios job to the keys of `ChunkSpec`.

    Raises:
        BadJobError: A key is missing or has another type than Helios writes.
    """
    if not isinstance(chunk, dict):
        raise BadJobError(f"{field}: must be an object with id, startFrame, frameCount, outputFile and command")
    output = _get(chunk, "outputFile", str, f"{field}.outputFile")
    line = _get(chunk, "command", str, f"{field}.command")
    return {
        "id": _get(chunk, "id", int, f"{field}.id"),
        "start": _get(chunk, "startFrame", int, f"{field}.startFrame"),
        "count": _get(chunk, "frameCount", int, f"{field}.frameCount"),
        "output": escape_template(output),
        "command": [_as_output(token, output) for token in _split(line, f"{field}.command")],
    }


def _merge(command: tuple[str, ...], chunk_outputs: list[str]) -> dict[str, Any]:
    """Return the merge command, and the film if the form of the command names it."""
    film = _find_film(command, chunk_outputs)
    if film is None:
        return {"merge_command": [escape_template(token) for token in command]}
    return {"merge_command": [_as_output(token, film) for token in command], "output": escape_template(film)}


def _find_film(command: tuple[str, ...], chunk_outputs: list[str]) -> str | None:
    """Return the film of `helios merge FILM ...` or `ffmpeg ... FILM`, the two forms that Helios writes."""
    program = PurePosixPath(command[0]).name if command else ""
    if program == "helios" and len(command) > 2 and command[1] == "merge":
        return command[2]
    inputs = {normalize_path(output) for output in chunk_outputs}
    if program == "ffmpeg":
        files = [token for token in command[1:] if PurePosixPath(token).suffix.lower() in FILM_SUFFIXES]
        if files and not files[-1].startswith("concat:") and normalize_path(files[-1]) not in inputs:
            return files[-1]
    return None


def _as_output(token: str, output: str) -> str:
    return (
        "{output}"
        if token == output or normalize_path(token or ".") == normalize_path(output)
        else escape_template(token)
    )


def _rate(fps: object) -> object:
    """Return the exact frame rate; Helios writes whole numbers, other writers of its format may write roundings."""
    if not isinstance(fps, float) or not math.isfinite(fps):
        return fps
    return str(find_ntsc_rate(fps) or Fraction(fps).limit_denominator(1001))


def _split(line: str, field: str) -> tuple[str, ...]:
    try:
        return split_command(line)
    except BadJobError as error:
        raise BadJobError(f"{field}: is empty; write the program and its arguments") from error


def _get(holder: Mapping[str, Any], key: str, kind: type, field: str) -> Any:
    value = holder.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {dict: "an object", list: "a list", int: "a whole number", str: "text"}
        state = "is missing" if value is None else f"is {quote_value(value)}"
        raise BadJobError(f"{field}: {state}; a Helios job has {names[kind]} here")
    return value
