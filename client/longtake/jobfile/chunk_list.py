"""Read the chunk list of a job file chunk by chunk: a long list takes the memory of its text, and no more."""

import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

from pydantic import ValidationError

from longtake.errors import BadJobError
from longtake.jobfile.helios import convert_chunk
from longtake.jobfile.loader import parse_document
from longtake.models.frames import ChunkSpec
from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import LARGEST_INLINE_JOB_BYTES
from longtake.models.job_rules import check_job
from longtake.text import describe_invalid

_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
# What decides where an object or a list ends.
_BRACKET = re.compile(_STRING.pattern + rb"|[\[\]{}]", re.DOTALL)
_SCALAR = re.compile(rb"[^\s,:\[\]{}\"]+")

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ListedChunks(Sequence[ChunkSpec]):
    """The chunks of a list, each decoded when it is asked for.

    Args:
        records: The chunks as JSON, one after the other.
        ends: Offset behind each of them.
    """

    def __init__(self, records: bytes | bytearray, ends: "array[int]") -> None:
        self._records = records
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> ChunkSpec: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[ChunkSpec, ...]: ...

    def __getitem__(self, index: int | slice) -> ChunkSpec | tuple[ChunkSpec, ...]:
        if isinstance(index, slice):
            return tuple(self[each] for each in range(*index.indices(len(self))))
        end = self._ends[index]
        start = self._ends[index - 1] if index % len(self) else 0
        return ChunkSpec.model_validate_json(self._records[start:end])


def read_chunk_list(raw: bytes, name: str, values: Mapping[str, str]) -> ListedChunks:
    """Read the chunk list of a job file that a job refers to, and ignore the rest of the file.

    Args:
        raw: Bytes of the file.
        name: Name of the file.
        values: What `{job}`, `{date}` and `{time}` stand for.

    Raises:
        BadJobError: The file holds no list of chunks.
    """
    try:
        listed = _read_json(raw, values)
    except _NoJson:
        document = parse_document(raw, Path(name).with_suffix(".yaml").name)
        try:
            listed = _read_json(json.dumps(document).encode(), values)
        except _NoJson as error:
            raise BadJobError("chunks: is no list; write one chunk after the other") from error
    if not listed:
        raise BadJobError("chunks: is empty; list at least one chunk")
    # Fields that the chunks leave out come from the job later; here the chunks are only checked by the rules of lists.
    any_chunk = (ChunkSpec(start=0, count=1),)
    job = RenderJobSpec.model_validate({"chunks": any_chunk, "fps": 1, "command": ("-",), "chunk_output": "{chunk}"})
    try:
        check_job(job.model_copy(update={"chunks": listed}))
    except ValueError as error:
        raise BadJobError(str(error)) from error
    return listed


class _NoJson(Exception):
    """The text is no JSON object with a list of chunks."""


def _read_json(raw: bytes, values: Mapping[str, str]) -> ListedChunks:
    start, is_helios = _find_list(raw)
    records, ends = bytearray(), array("Q")
    for index, element in enumerate(_iter_elements(raw, start)):
        field = f"chunks[{index}]"
        if len(element) > LARGEST_INLINE_JOB_BYTES:
            raise BadJobError(f"{field}: has {len(element):,} bytes; shorten its command")
        if index == 0:
            is_helios = is_helios or b'"startFrame"' in element
        chunk = _read_chunk(element, field, is_helios).fill_placeholders(values)
        records += chunk.model_dump_json(exclude_defaults=True).encode()
        ends.append(len(records))
    return ListedChunks(records, ends)


def _read_chunk(element: bytes, field: str, is_helios: bool) -> ChunkSpec:
    try:
        if is_helios:
            element = json.dumps(convert_chunk(json.loads(element), field), ensure_ascii=False).encode()
        return ChunkSpec.model_validate_json(element, strict=True)
    except BadJobError:
        raise
    except ValidationError as error:
        dot = "." if error.errors(include_url=False)[0]["loc"] else ": "
        raise BadJobError(f"{field}{dot}{describe_invalid(error)}") from error
    except (ValueError, RecursionError) as error:
        raise BadJobError(f"{field}: is no chunk ({error}); write its start and count") from error


def _find_list(raw: bytes) -> tuple[int, bool]:
    """Return the position of the first chunk, and whether the keys beside the list are those of Helios."""
    at = _skip_space(raw, len(_BYTE_ORDER_MARK) if raw.startswith(_BYTE_ORDER_MARK) else 0)
    start, keys = None, set()
    at = _skip_space(raw, _skip_sign(raw, at, b"{"))
    while raw[at : at + 1] != b"}":
        end = _skip_value(raw, at)
        key = raw[at + 1 : end - 1]
        keys.add(key)
        at = _skip_space(raw, _skip_sign(raw, _skip_space(raw, end), b":"))
        if key == b"chunks":
            start = _skip_sign(raw, at, b"[")
        at = _skip_space(raw, _skip_value(raw, at))
        if raw[at : at + 1] != b"}":
            at = _skip_space(raw, _skip_sign(raw, at, b","))
    if start is None:
        raise _NoJson
    return start, {b"mergeCommand", b"metadata"} <= keys


def _iter_elements(raw: bytes, at: int) -> Iterator[bytes]:
    at = _skip_space(raw, at)
    while raw[at : at + 1] != b"]":
        end = _skip_value(raw, at)
        yield raw[at:end]
        at = _skip_space(raw, end)
        if raw[at : at + 1] != b"]":
            at = _skip_space(raw, _skip_sign(raw, at, b","))


def _skip_space(raw: bytes, at: int) -> int:
    found = _SPACE.match(raw, at)
    return found.end() if found else at


def _skip_sign(raw: bytes, at: int, sign: bytes) -> int:
    if raw[at : at + 1] != sign:
        raise _NoJson
    return at + 1


def _skip_value(raw: bytes, at: int) -> int:
    """Return the position behind a value, which is not decoded."""
    if raw[at : at + 1] in (b"{", b"["):
        depth = 0
        for found in _BRACKET.finditer(raw, at):
            sign = found[0][:1]
            depth += (sign in b"{[") - (sign in b"}]")
            if depth == 0:
                return found.end()
        raise _NoJson
    found_one = (_STRING if raw[at : at + 1] == b'"' else _SCALAR).match(raw, at)
    if found_one is None:
        raise _NoJson
    return found_one.end()
