"""Load job files in YAML, JSON or Helios' form, strictly: each mistake is one sentence that names the field."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from longtake.errors import BadJobError
from longtake.jobfile.helios import convert_helios, is_helios
from longtake.models.fields import check_keys
from longtake.models.frames import MOST_CHUNKS, ChunkList
from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import LARGEST_INLINE_JOB_BYTES, MOST_LISTED_CHUNKS
from longtake.pattern_check import check_patterns
from longtake.text import describe_invalid, describe_unserializable, escape_text

# 50,000 Helios chunks. A worker holds the text of a list in memory, for as long as it renders the job.
LARGEST_FILE_BYTES = 16 * 1024 * 1024


def read_file(path: Path) -> bytes:
    """Read the bytes of a job file.

    Raises:
        BadJobError: The file cannot be read, or is too large for a job file.
    """
    shown = escape_text(str(path), 200)
    try:
        if path.is_dir():
            raise BadJobError(f"{shown}: is a folder; name the job file in it")
        size = path.stat().st_size
        if size > LARGEST_FILE_BYTES:
            raise BadJobError(
                f"{shown}: has {size / 2**20:,.0f} MiB, and a job file at most {LARGEST_FILE_BYTES // 2**20}; use "
                "frames instead of a list"
            )
        if not path.is_file():
            raise BadJobError(f"{shown}: is no regular file; write the job into one")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadJobError(f"{shown}: there is no such job file; check the path") from error
    except OSError as error:
        raise BadJobError(f"{shown}: cannot be read ({error.strerror}); check its path and permissions") from error
    except ValueError as error:
        if isinstance(error, BadJobError):
            raise
        raise BadJobError(f"{shown}: is no path ({error}); check it") from error


def parse_document(raw: bytes, name: str) -> dict[str, Any]:
    """Parse the bytes of a job file into keys and values.

    Args:
        raw: The bytes.
        name: Name of the file: JSON if it ends in `.json`, else YAML.

    Raises:
        BadJobError: The bytes are not UTF-8, not YAML or JSON, or not an object.
    """
    is_json, name = name.lower().endswith(".json"), escape_text(name, 100)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadJobError(f"{name}: is not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    if not text.strip():
        raise BadJobError(f"{name}: is empty; see examples/ for job files to start from")
    try:
        document = _json(text) if is_json else _yaml(text)
    except BadJobError:
        raise
    except ValueError as error:
        raise BadJobError(f"{name}: cannot be read, {error}") from error
    if not isinstance(document, dict):
        raise BadJobError(f"{name}: holds no job; it must be an object with keys such as name, frames and command")
    return document


def _json(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_reject_duplicates)
    except json.JSONDecodeError as error:
        problem = f"{error.msg[0].lower()}{error.msg[1:]}"
        if text[error.pos :].startswith(("/*", "//", "#")):
            problem = "a comment, which JSON does not have"
        raise ValueError(f"line {error.lineno}, column {error.colno}: {problem}; mend it there") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply; a job has three levels") from error
    except ValueError as error:
        if "digits" in str(error):
            raise ValueError("a number in it has thousands of digits; mend that number") from error
        raise


def _yaml(text: str) -> object:
    try:
        from longtake.jobfile.safe_yaml import load_yaml  # noqa: PLC0415  # an extra: services that pass models need no YAML
    except ImportError as error:
        raise BadJobError("PyYAML is not installed; install longtake[cli], or write the job as JSON") from error
    try:
        return load_yaml(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply; a job has three levels") from error


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    together = dict(pairs)
    if len(together) < len(pairs):
        twin = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {escape_text(twin)} stands twice in one object; keep one of them")
    return together


def load_job(path: Path, overrides: Mapping[str, Any] | None = None) -> RenderJobSpec:
    """Load the job that a file describes, with paths relative to the file's folder.

    A chunk list that is too long for a message stays in the file; the job refers to the file by path and digest.

    Args:
        path: YAML, or JSON when it ends in `.json`.
        overrides: Values that win over the file's, by key; dots reach into sections (`retry.attempts`).

    Raises:
        BadJobError: The file cannot be read or holds no valid job; the sentence names the field and the fix.
    """
    raw = read_file(path)
    document = parse_document(raw, path.name)
    for key, value in (overrides or {}).items():
        set_value(document, key, value)
    document.setdefault("base_dir", str(path.resolve().parent))
    document.setdefault("name", "".join(filter(str.isprintable, path.stem)).strip()[:100] or "job")
    job = read_job(document)
    check_patterns(job)
    if job.wire_size_bytes() > LARGEST_INLINE_JOB_BYTES and job.inline_chunks:
        if any(key.startswith("chunks") for key in overrides or ()):
            raise BadJobError("chunks: are too many to be set from outside; write them into the job file")
        job = _refer_to_file(job, path, raw)
    size = job.wire_size_bytes()
    if size > LARGEST_INLINE_JOB_BYTES:
        raise BadJobError(
            f"job: takes {size:,} bytes beside its chunks, and {LARGEST_INLINE_JOB_BYTES:,} can travel; shorten env "
            "and command"
        )
    return job


def read_job(document: object) -> RenderJobSpec:
    """Read a job from plain values: strictly those that a person wrote, leniently those that a client sent.

    Raises:
        BadJobError: The values are no valid job; one sentence that names the field and the fix.
    """
    try:
        return _read_job(document)
    except BadJobError:
        raise
    except ValidationError as error:
        # Pydantic's parser rejects values outside of JSON as a whole, without naming the field.
        invalid = any(details["type"] == "json_invalid" for details in error.errors(include_url=False))
        raise BadJobError(describe_unserializable(document) if invalid else describe_invalid(error)) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise BadJobError(describe_unserializable(document)) from error


def _read_job(document: object) -> RenderJobSpec:
    if not isinstance(document, dict):
        raise BadJobError("job: must be an object of keys and values, such as name, frames, command and chunk_output")
    listed = document.get("chunks")
    if isinstance(listed, list) and len(listed) > MOST_CHUNKS:
        raise BadJobError(f"chunks: are {len(listed):,}, and a job has at most {MOST_CHUNKS:,}; make them longer")
    lenient = "contract" in document
    if is_helios(document):
        # Keys of Longtake may stand beside those of Helios, so that a file can be adapted without being rewritten.
        ours = {key: document[key] for key in RenderJobSpec.model_fields if key in document and key != "chunks"}
        document = convert_helios(document) | ours
    if not lenient:
        _refuse_foreign(document)
        # Documents of clients have the key `contract`; unknown keys there come from a newer client and are no mistake.
        check_keys(document, RenderJobSpec)
    # JSON mode takes lists for tuples and text for enums, and still no "30" for 30.
    text = json.dumps(document, allow_nan=False, ensure_ascii=False)
    return RenderJobSpec.from_json(text.encode(), strict=True)


# Keys by which job files of other programs are known.
_FOREIGN = {
    "Open Job Description": {"specificationVersion"},
    "Flamenco": {"type", "settings"},
    "nexrender": {"template", "actions"},
}


def _refuse_foreign(document: Mapping[str, Any]) -> None:
    for program, keys in _FOREIGN.items():
        if keys <= document.keys() and "command" not in document:
            raise BadJobError(
                f"job: is one of {program}, which is not read here; write frames, command and chunk_output, as in "
                "examples/blender/job.yaml"
            )


def set_value(document: dict[str, Any], key: str, value: object) -> None:
    """Set a value of a job by its key; dots reach into sections, which are made where there are none.

    Raises:
        BadJobError: What the key leads through is no section.
    """
    frames = document.get("frames")
    if key.startswith("frames.") and isinstance(frames, str | list):
        document["frames"] = {"range": frames}
    if key.startswith("audio.") and isinstance(audio := document.get("audio"), str):
        document["audio"] = {"file": audio}
    if key == "frames" and isinstance(frames, dict) and "per_chunk" in frames and isinstance(value, str | list):
        # Which frames to render says nothing of how they are cut.
        value = {"range": value, "per_chunk": frames["per_chunk"]}
    *sections, last = key.split(".")
    holder = document
    for section in sections:
        inner = holder.setdefault(section, {})
        if not isinstance(inner, dict):
            raise BadJobError(f"{key}: {section} has no keys of its own; set {section} as a whole")
        holder = inner
    holder[last] = value


def _refer_to_file(job: RenderJobSpec, path: Path, raw: bytes) -> RenderJobSpec:
    where = path.resolve()
    reference = ChunkList(path=str(where), sha256=hashlib.sha256(raw).hexdigest(), count=job.chunk_count)
    check_list_size(reference, len(raw))
    first = job.inline_chunks[0]
    # Templates of the first chunk stand in for missing ones of the job, because the kind of output is told by them.
    return RenderJobSpec.model_validate(
        {
            **job.model_dump(),
            "chunks": reference,
            "command": job.command or first.command,
            "chunk_output": job.chunk_output or first.output,
        }
    )


def check_list_size(reference: ChunkList, size_bytes: int) -> None:
    """Refuse a list that a worker should not read, before it is read.

    Raises:
        BadJobError: It has too many chunks or bytes.
    """
    if reference.count > MOST_LISTED_CHUNKS:
        raise BadJobError(
            f"chunks: are {reference.count:,}, and a list has at most {MOST_LISTED_CHUNKS:,}; make them longer, or use "
            "frames"
        )
    if size_bytes > LARGEST_FILE_BYTES:
        raise BadJobError(
            f"chunks.path: {reference.path} has {size_bytes / 2**20:,.0f} MiB, and a job file at most "
            f"{LARGEST_FILE_BYTES // 2**20}; make the chunks longer, or use frames"
        )
