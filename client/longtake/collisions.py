"""No two outputs of a job may be one file: the one that is published first would count for both."""

from __future__ import annotations

from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from longtake.paths import OutputKind, normal
from longtake.templates import chunk_words, expand, printf_pattern, reader
from longtake.text import quoted

if TYPE_CHECKING:
    from longtake.models.job import RenderJobSpec

_FIX = "give each output a path of its own"


def check_outputs_differ(job: RenderJobSpec) -> None:
    """Pass a job whose chunks, film and sound are different files, however their paths are spelled.

    Raises:
        ValueError: `field: what is wrong; the fix`.
    """
    taken: dict[str, str] = {}
    for field, path in (("output", job.output and expand(job.output, {})), ("audio", job.audio)):
        if path:
            _take(taken, job, field, path)
    if job.frames is not None:
        for where, field in taken.items():
            writer = _chunk_that_writes(job, where)
            if writer is not None:
                raise ValueError(f"{field}: chunk {writer} writes this file too; {_FIX}")
    elif job.kind is OutputKind.FRAMES:
        _check_frames_of_list(job)
    else:
        for index, chunk in enumerate(job.inline_chunks):
            words = chunk_words(index, chunk.start, chunk.start + chunk.count)
            _take(taken, job, f"chunks[{index}].output", expand(chunk.output or job.chunk_output or "", words))


def _take(taken: dict[str, str], job: RenderJobSpec, field: str, path: str) -> None:
    where = _absolute(job, path)
    if where in taken:
        raise ValueError(f"{field}: {quoted(path)} is also {taken[where]}; {_FIX}")
    taken[where] = field


def _absolute(job: RenderJobSpec, path: str) -> str:
    return normal(str(PurePosixPath(job.base_dir or "") / path))


def _chunk_that_writes(job: RenderJobSpec, where: str) -> int | None:
    """Return the chunk that the template leads to this path, told by the numbers in the path."""
    frames = job.frames
    assert frames is not None  # lists are compared one by one
    template = _absolute(job, job.chunk_output or "")
    words, pattern = reader(template)
    match = pattern.fullmatch(where)
    for word, text in zip(words, match.groups() if match else (), strict=False):
        number = int(text)
        frame = number - 1 if word == "stop" else number
        chunk = number if word == "chunk" else (frame - frames.first) // frames.per_chunk
        start = frames.first + chunk * frames.per_chunk
        stop = min(start + frames.per_chunk, frames.first + frames.count)
        if 0 <= chunk < job.chunk_count and word != "count":
            values = {**chunk_words(chunk, start, stop), "frame": number}
            if expand(template, values) == where:
                return chunk
    return None


def _check_frames_of_list(job: RenderJobSpec) -> None:
    """Compare image sequences by their patterns: a list may have far more frames than chunks."""
    written: dict[str, list[tuple[int, int, int]]] = {}
    for index, chunk in enumerate(job.inline_chunks):
        stop = chunk.start + chunk.count
        template = _absolute(job, chunk.output or job.chunk_output or "")
        pattern = printf_pattern(template, chunk_words(index, chunk.start, stop))
        written.setdefault(pattern, []).append((chunk.start, stop, index))
    for sequences in written.values():
        for (_, stop, one), (start, _, other) in pairwise(sorted(sequences)):
            if start < stop:
                raise ValueError(
                    f"chunks[{other}]: writes frame {start} to the same file as chunks[{one}]; cut the chunks so "
                    "that none overlap"
                )
