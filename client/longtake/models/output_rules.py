"""Check the rules on the outputs of chunks: each broken rule is one sentence with the fix in it."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from longtake.models.backends import RemoteProtocol
from longtake.models.job_fields import JobFields
from longtake.models.outputs import OutputTemplate, check_names, has_view
from longtake.paths import (
    FILM_SUFFIXES,
    OutputKind,
    check_glob,
    classify_output,
    fold_name,
    has_control_characters,
    is_bookkeeping,
    normalize_path,
)
from longtake.templates import JOB_PLACEHOLDERS, PATH_PLACEHOLDERS, escape_template, find_placeholders
from longtake.text import quote_value

_TELL_CHUNKS_APART = frozenset({"chunk", "start", "stop", "last", "frame"})


def check_outputs(job: JobFields) -> None:
    """Raise unless the outputs, views and further files of chunks can be told apart and fit together.

    Raises:
        ValueError: `field: what is wrong; the fix`, for the first rule that is broken.
    """
    if job.outputs:
        _check_alone(job)
    check_names(job.outputs, job.views)
    _check_views(job)
    for template in job.output_templates:
        _check_template(job, template)
    _check_kinds(job)
    _check_names_differ(job)
    _check_also(job)


def _check_alone(job: JobFields) -> None:
    if job.chunk_output is not None:
        raise ValueError("chunk_output: stands beside outputs; make it the first of them, or leave outputs out")
    for index, chunk in enumerate(job.inline_chunks):
        if chunk.output is not None:
            raise ValueError(
                f"chunks[{index}].output: stands beside outputs, which are those of all chunks; leave it out"
            )
    if job.remote is not None and job.remote.protocol is RemoteProtocol.HELIOS:
        raise ValueError("outputs: Helios' workers write one output a chunk; name that in chunk_output")


def _check_views(job: JobFields) -> None:
    paths: list[tuple[str, str | None]] = [("chunk_output", job.chunk_output)]
    paths += [(f"outputs[{index}]", output.path) for index, output in enumerate(job.outputs)]
    paths += [(f"chunks[{index}].output", chunk.output) for index, chunk in enumerate(job.inline_chunks)]
    asking = [field for field, path in paths if path is not None and has_view(path)]
    if asking and not job.views:
        raise ValueError(f"views: are missing, and {asking[0]} has {{view}}; name them, as in [left, right]")
    if job.views and not asking:
        raise ValueError(
            f"views: no output has {{view}}; write it into {job.output_field}, as in f_{{frame:04}}_{{view}}.png"
        )


def _check_template(job: JobFields, template: OutputTemplate) -> None:
    find_placeholders(template.path, field=template.field, allowed=PATH_PLACEHOLDERS)
    # Normalized, because a placeholder before `..` does not tell chunks apart.
    words = find_placeholders(normalize_path(template.path), field=template.field, allowed=PATH_PLACEHOLDERS)
    if "frame" in words and (suffix := PurePosixPath(template.path).suffix.lower()) in FILM_SUFFIXES:
        raise ValueError(
            f"{template.field}: has {{frame}}, one file of each frame, and a {suffix} holds all frames of a chunk; "
            "write {chunk:06} or {start:06} in its place, or end it as image files do, as in .png"
        )
    if job.frames is not None and job.chunk_count > 1 and not words & _TELL_CHUNKS_APART:
        raise ValueError(
            f"{template.field}: is the same for every chunk; add {{chunk}}, as in chunks/{{chunk:06}}.mp4, or {{frame}}"
        )


def _check_kinds(job: JobFields) -> None:
    """Raise unless all outputs hold images or none does: a part of a chunk could not make a file of the whole chunk."""
    kinds = {template.field: classify_output(template.path) for template in job.output_templates}
    images = [field for field, kind in kinds.items() if kind is OutputKind.FRAMES]
    others = [field for field, kind in kinds.items() if kind is not OutputKind.FRAMES]
    if images and others:
        raise ValueError(
            f"{others[0]}: is one file of a chunk, and {images[0]} one of each frame; write {{frame}} into it, or name "
            "it in also"
        )


def _check_names_differ(job: JobFields) -> None:
    """Raise if two outputs could write one file, whatever their numbers are."""
    taken: dict[str, OutputTemplate] = {}
    base = escape_template(job.base_dir or "")
    for template in job.output_templates:
        path = template.path if template.path.startswith("/") else f"{base}/{template.path}"
        # Digits beside a number may belong to it: `a1{frame}` and `a{frame}` both make `a11`.
        shape = fold_name(re.sub(r"\d*(?:\{[^{}]*\}\d*)+", "{}", normalize_path(path)))
        other = taken.setdefault(shape, template)
        if other is not template:
            raise ValueError(
                f"{template.field}: {quote_value(template.path)} and {other.field} would be files of one name; give "
                "each output a path of its own, with more than a number or the case of letters to tell them apart"
            )


def _check_also(job: JobFields) -> None:
    if not job.also:
        return
    for index, pattern in enumerate(job.also):
        check_pattern(f"also[{index}]", pattern, job.output_templates)
    if job.remote is not None and job.remote.protocol is RemoteProtocol.HELIOS:
        raise ValueError("also: Helios' workers write one output a chunk; leave it out")
    for template in job.output_templates:
        if _leads_out(job, template.path):
            raise ValueError(
                f"also: {template.field} leads out of base_dir, where files that nobody named cannot be published; "
                "write a path below base_dir, or leave also out"
            )


def check_pattern(field: str, pattern: str, templates: Sequence[OutputTemplate]) -> None:
    """Raise ValueError unless a pattern of `also` can name files below the folder of a job."""
    find_placeholders(pattern, field=field, allowed=list_also_words(templates))
    if not pattern.strip() or has_control_characters(pattern):
        raise ValueError(f"{field}: is {quote_value(pattern)}; write a pattern such as {{output_dir}}/**")
    try:
        check_glob(pattern)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error
    parts = pattern.split("/")
    if pattern.startswith(("/", "~")) or ".." in parts or any(map(is_bookkeeping, parts)):
        raise ValueError(
            f"{field}: {quote_value(pattern)} leads out of the folder of the job; write a pattern of paths below it, "
            "as in {output_dir}/**"
        )


def list_also_words(templates: Sequence[OutputTemplate]) -> tuple[str, ...]:
    """List the placeholders that patterns of `also` may have."""
    folders = (f"output_dir.{name}" for template in templates for name in template.names)
    return ("chunk", "start", "stop", "last", "count", "output_dir", *folders, *JOB_PLACEHOLDERS)


def _leads_out(job: JobFields, path: str) -> bool:
    path = normalize_path(path)
    if path.startswith("/"):
        return job.base_dir is None or not path.startswith(f"{normalize_path(job.base_dir)}/")
    return path.startswith("../") or path == ".."
