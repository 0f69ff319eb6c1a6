"""Reading job files: YAML, JSON and Helios' `job.json`, strictly, with one sentence for what is wrong."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from longtake.errors import BadJobError
from longtake.helios import from_helios, is_helios
from longtake.job import LARGEST_INLINE_JOB_BYTES, ChunkList, ChunkSpec, RenderJobSpec
from longtake.sentences import sentence

# A million Helios chunks are some 300 MB; a file beyond that is no job file.
LARGEST_FILE_BYTES = 512 * 1024 * 1024


def load_job(path: Path, overrides: Mapping[str, Any] | None = None) -> RenderJobSpec:
    """Return the job that a file describes, with paths relative to the file's folder.

    A list of chunks too long to travel stays in the file: the job then refers to it by path and digest.

    Args:
        path: YAML, or JSON when it ends in `.json`.
        overrides: Values that win over the file's, by key; dots reach into sections (`retry.attempts`).

    Raises:
        BadJobError: The file cannot be read or is no job; the sentence names the field and the fix.
    """
    raw = _read(path)
    document = parse(raw, path.name)
    for key, value in (overrides or {}).items():
        _override(document, key, value)
    document.setdefault("base_dir", str(path.resolve().parent))
    document.setdefault("name", path.stem[:100])
    job = read_job(document)
    if job.inline_chunks and len(json.dumps(job.to_wire())) > LARGEST_INLINE_JOB_BYTES:
        return _referring(job, path, raw)
    return job


def read_job(document: object) -> RenderJobSpec:
    """Return the job that plain values describe: strictly what a person wrote, leniently what a client sent.

    Raises:
        BadJobError: One sentence that names the field and the fix.
    """
    if not isinstance(document, dict):
        raise BadJobError("job: must be an object of keys and values, such as name, frames, command and chunk_output")
    if is_helios(document):
        extra = {key: document[key] for key in ("base_dir", "name") if isinstance(document.get(key), str)}
        document = from_helios(document) | extra
    elif "contract" not in document:
        # A client says which contract it wrote; then keys unknown here are a newer client's, not a slip.
        _check_keys(document, RenderJobSpec, "")
    try:
        # JSON mode takes lists for tuples and text for enums, and still no "30" for 30.
        return RenderJobSpec.model_validate_json(json.dumps(document, allow_nan=False), strict=True)
    except ValidationError as error:
        raise BadJobError(sentence(error)) from error
    except (TypeError, ValueError) as error:
        raise BadJobError(f"job: holds a value that JSON cannot carry ({error}); write it as text or number") from error


def parse(raw: bytes, name: str) -> dict[str, Any]:
    """Return the keys and values of a job file's bytes.

    Raises:
        BadJobError: They are not UTF-8, not YAML or JSON, or not an object.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadJobError(f"{name}: is not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    if not text.strip():
        raise BadJobError(f"{name}: is empty; see examples/ for job files to start from")
    try:
        document = json.loads(text) if name.lower().endswith(".json") else _yaml(text)
    except (ValueError, RecursionError) as error:
        where = " ".join(str(error).split())
        raise BadJobError(f"{name}: cannot be read ({where}); mend the file there") from error
    if not isinstance(document, dict):
        raise BadJobError(f"{name}: holds no job; it must be an object with keys such as name, frames and command")
    return document


def read_chunk_list(raw: bytes, name: str) -> tuple[ChunkSpec, ...]:
    """Return the chunks of a job file that a job refers to by path and digest."""
    return read_job(parse(raw, name)).inline_chunks


def _yaml(text: str) -> object:
    try:
        import yaml  # noqa: PLC0415  # an extra: services that pass models need no YAML
    except ImportError as error:
        raise BadJobError("PyYAML is not installed; install longtake[cli], or write the job as JSON") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise BadJobError(f"{path}: is a folder; name the job file in it")
        size = path.stat().st_size
        if size > LARGEST_FILE_BYTES:
            raise BadJobError(
                f"{path}: has {size / 2**20:,.0f} MiB, and a job file at most {LARGEST_FILE_BYTES // 2**20}; use "
                "frames instead of a list"
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadJobError(f"{path}: there is no such job file; check the path") from error
    except OSError as error:
        raise BadJobError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _override(document: dict[str, Any], key: str, value: object) -> None:
    *sections, last = key.split(".")
    holder = document
    for section in sections:
        inner = holder.setdefault(section, {})
        if not isinstance(inner, dict):
            raise BadJobError(f"{key}: {section} has no keys of its own; set {section} as a whole")
        holder = inner
    holder[last] = value


def _referring(job: RenderJobSpec, path: Path, raw: bytes) -> RenderJobSpec:
    where = path.resolve()
    reference = ChunkList(path=str(where), sha256=hashlib.sha256(raw).hexdigest(), count=job.chunk_count)
    first = job.inline_chunks[0]
    # The job's own templates stay as they are read: they also tell the kind of output without the list.
    return RenderJobSpec.model_validate(
        {
            **job.model_dump(),
            "chunks": reference,
            "command": job.command or first.command,
            "chunk_output": job.chunk_output or first.output,
        }
    )


def _check_keys(document: Mapping[str, Any], model: type[BaseModel], where: str) -> None:
    for key, value in document.items():
        if key not in model.model_fields or key == "contract":
            nearest = get_close_matches(str(key), model.model_fields, n=1, cutoff=0.5)
            known = ", ".join(name for name in model.model_fields if name != "contract")
            hint = f"did you mean {nearest[0]}?" if nearest else f"known here: {known}"
            raise BadJobError(f"{where}{key}: is not a key of a job; {hint}")
        for inner in _models(model.model_fields[key].annotation):
            for index, item in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(item, dict):
                    at = f"{where}{key}[{index}]." if isinstance(value, list) else f"{where}{key}."
                    if isinstance(value, list) == (inner is ChunkSpec):
                        _check_keys(item, inner, at)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, Annotated, tuple):
        for part in get_args(annotation):
            yield from _models(part)
