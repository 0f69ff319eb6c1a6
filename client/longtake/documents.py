"""Job files as plain values: JSON or YAML, and one sentence where they are neither."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from longtake.errors import BadJobError
from longtake.text import plainly

# A million Helios chunks are some 300 MB; a file beyond that is no job file.
LARGEST_FILE_BYTES = 512 * 1024 * 1024


def read_file(path: Path) -> bytes:
    """Return what a job file holds.

    Raises:
        BadJobError: It cannot be read, or is too large to be one.
    """
    shown = plainly(str(path), 200)
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


def parse(raw: bytes, name: str) -> dict[str, Any]:
    """Return the keys and values of a job file's bytes: JSON when its name ends so, else YAML.

    Raises:
        BadJobError: They are not UTF-8, not YAML or JSON, or not an object.
    """
    is_json, name = name.lower().endswith(".json"), plainly(name, 100)
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
        return json.loads(text, object_pairs_hook=_without_twins)
    except json.JSONDecodeError as error:
        problem = f"{error.msg[0].lower()}{error.msg[1:]}"
        raise ValueError(f"line {error.lineno}, column {error.colno}: {problem}; mend it there") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply; a job has three levels") from error
    except ValueError as error:
        if "digits" in str(error):
            raise ValueError("a number in it has thousands of digits; mend that number") from error
        raise


def _yaml(text: str) -> object:
    try:
        from longtake.jobfile.safe_yaml import load  # noqa: PLC0415  # an extra: services that pass models need no YAML
    except ImportError as error:
        raise BadJobError("PyYAML is not installed; install longtake[cli], or write the job as JSON") from error
    try:
        return load(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply; a job has three levels") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    together = dict(pairs)
    if len(together) < len(pairs):
        twin = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {plainly(twin)} stands twice in one object; keep one of them")
    return together
