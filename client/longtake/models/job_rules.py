"""The rules that join the fields of a job: each broken one is a sentence with the fix in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from longtake.collisions import check_outputs_differ
from longtake.models.inputs import InputBundle, content_path
from longtake.paths import FILM_SUFFIXES, OutputKind, check_path, holds_control, kind_of, normal
from longtake.remote_rules import check_elsewhere
from longtake.templates import COMMAND_WORDS, PATH_WORDS, used
from longtake.text import quoted

if TYPE_CHECKING:
    from longtake.models.job import RenderJobSpec


# ffmpeg, printf patterns and most renderers count frames in a signed 32-bit number.
LARGEST_FRAME = 2**31 - 1


def check_job(job: RenderJobSpec) -> None:
    """Pass a job whose fields fit together.

    Raises:
        ValueError: `field: what is wrong; the fix`, for the first rule that is broken.
    """
    _check_work(job)
    _check_failure_limit(job)
    _check_rate(job)
    _check_commands(job)
    _check_paths(job)
    _check_film(job)
    check_outputs_differ(job)
    check_elsewhere(job)
    _check_environment(job.env)


def _check_work(job: RenderJobSpec) -> None:
    if job.frames is None and job.chunks is None:
        raise ValueError("frames: is missing; give frames to cut into chunks, or an explicit list of chunks")
    if job.frames is not None and job.chunks is not None:
        raise ValueError("chunks: stands beside frames; give one of the two")
    if job.chunks == ():
        raise ValueError("chunks: is empty; list at least one chunk")
    if job.command is None and (not job.inline_chunks or any(c.command is None for c in job.inline_chunks)):
        raise ValueError("command: is missing; write the program and arguments that render one chunk")
    if job.chunk_output is None and (not job.inline_chunks or any(c.output is None for c in job.inline_chunks)):
        raise ValueError("chunk_output: is missing; say where a chunk's output goes, as in chunks/{chunk:06}.mp4")
    seen: set[int] = set()
    for index, chunk in enumerate(job.inline_chunks):
        if chunk.id in seen:
            raise ValueError(f"chunks[{index}].id: {chunk.id} stands twice; give each chunk an id of its own")
        if chunk.id is not None:
            seen.add(chunk.id)
        if chunk.start + chunk.count > LARGEST_FRAME:
            raise ValueError(f"chunks[{index}]: its frames end beyond {LARGEST_FRAME}; lower start or count")


def _check_failure_limit(job: RenderJobSpec) -> None:
    if job.max_failed_chunks is not None and job.on_chunk_failure != "continue":
        raise ValueError(
            "max_failed_chunks: is for jobs that go on after a failed chunk; set on_chunk_failure to continue, or "
            "leave it out"
        )


def _check_rate(job: RenderJobSpec) -> None:
    needs_rate = job.kind is OutputKind.VIDEO or (job.output is not None and job.merge_command is None)
    if job.fps is None and needs_rate:
        raise ValueError('fps: is missing; write the frame rate, as in 30 or "30000/1001"')


def _check_commands(job: RenderJobSpec) -> None:
    for field, arguments, words in _commands(job):
        if not arguments or not arguments[0].strip():
            raise ValueError(f"{field}: is empty; write the program and its arguments")
        if any("\0" in argument for argument in arguments):
            raise ValueError(f"{field}: holds a NUL character; take it out")
        known: set[str] = set()
        for argument in arguments:
            known |= used(argument, field=field, allowed=words)
        # Chunks of a list may have fixed outputs, as Helios files do; then the renderer writes in place.
        if field == "command" and job.frames is not None and not known & {"output", "output_dir"}:
            raise ValueError(
                "command: has no {output} or {output_dir}, so that two tries would write one file; put {output} "
                "where the renderer is told what to write"
            )


def _commands(job: RenderJobSpec) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    if job.command is not None:
        yield "command", job.command, COMMAND_WORDS
    if job.merge_command is not None:
        yield "merge_command", job.merge_command, ("output",)
    if job.check is not None:
        yield "check", job.check, COMMAND_WORDS
    for index, chunk in enumerate(job.inline_chunks):
        if chunk.command is not None:
            yield f"chunks[{index}].command", chunk.command, COMMAND_WORDS


def _check_paths(job: RenderJobSpec) -> None:
    for field, path in _paths(job):
        try:
            check_path(path)
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from error
    if job.output is not None:
        used(job.output, field="output", allowed=())
    if isinstance(job.inputs, InputBundle) and job.store is None:
        raise ValueError("inputs: are a bundle, which lies in a bucket; name the bucket in store, or list the files")
    if job.base_dir is not None and holds_control(job.base_dir):
        raise ValueError("base_dir: holds a control character such as NUL or a newline; take it out")
    if job.base_dir is not None and not job.base_dir.startswith("/"):
        raise ValueError(f"base_dir: {quoted(job.base_dir)} is no folder from the root; write one that starts with /")
    if job.chunk_output is not None:
        used(job.chunk_output, field="chunk_output", allowed=PATH_WORDS)
        # What `..` takes back tells no chunks apart.
        words = used(normal(job.chunk_output), field="chunk_output", allowed=PATH_WORDS)
        if job.frames is not None and job.chunk_count > 1 and not words & {"chunk", "start", "stop", "last", "frame"}:
            raise ValueError(
                "chunk_output: is the same for every chunk; add {chunk}, as in chunks/{chunk:06}.mp4, or {frame}"
            )
    for index, chunk in enumerate(job.inline_chunks):
        if chunk.output is not None:
            used(chunk.output, field=f"chunks[{index}].output", allowed=PATH_WORDS)
            if kind_of(chunk.output) is not job.kind:
                raise ValueError(
                    f"chunks[{index}].output: is {quoted(chunk.output)}, of the kind {kind_of(chunk.output)}, and "
                    f"chunks[0] writes {job.kind}; let all chunks write one kind"
                )


def _paths(job: RenderJobSpec) -> Iterator[tuple[str, str]]:
    named = {"output": job.output, "chunk_output": job.chunk_output, "audio": job.audio}
    named |= {f"chunks[{index}].output": chunk.output for index, chunk in enumerate(job.inline_chunks)}
    if job.chunk_list is not None and job.chunk_list.path != content_path(job.chunk_list.sha256):
        named["chunks.path"] = job.chunk_list.path
    for field, path in named.items():
        if path is not None:
            yield field, path


def _check_film(job: RenderJobSpec) -> None:
    if job.merge_command is not None:
        _check_merge(job)
    elif job.output is None:
        for field, value in (("audio", job.audio), ("encode", job.encode)):
            if value:
                raise ValueError(f"{field}: there is no film it could go into; add output")
    else:
        _check_join(job, job.output)


def _check_merge(job: RenderJobSpec) -> None:
    """Pass a job whose own program makes the film, of whatever kind, and nothing else would have a say in it."""
    for field, value in (("audio", job.audio), ("encode", job.encode)):
        if value:
            raise ValueError(f"{field}: is not for a merge_command, which makes the film alone; leave one of them out")
    words: set[str] = set()
    for argument in job.merge_command or ():
        words |= used(argument, field="merge_command", allowed=("output",))
    if job.output is None and words:
        raise ValueError("output: is missing, and merge_command names {output}; say where the film goes")
    if job.output is not None and not words:
        raise ValueError("merge_command: has no {output}; put it where the program is told what to write")


def _check_join(job: RenderJobSpec, output: str) -> None:
    suffix = PurePosixPath(output).suffix.lower()
    if suffix not in FILM_SUFFIXES:
        raise ValueError(f"output: {quoted(output)} is no film; end it in one of {', '.join(sorted(FILM_SUFFIXES))}")
    if job.kind is OutputKind.FILE:
        raise ValueError(
            "output: no film can be made of chunks that are neither video nor {frame} images; name them so, give a "
            "merge_command, or leave output out"
        )
    if job.encode and job.kind is not OutputKind.FRAMES:
        raise ValueError("encode: is for films of {frame} images, and video is joined as it is; leave it out")


def _check_environment(env: dict[str, str]) -> None:
    for name, value in env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII) or "\0" in value:
            raise ValueError(
                f"env: {quoted(name)} cannot be set; use a name of letters, digits and _, a value without NUL"
            )
