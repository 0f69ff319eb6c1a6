"""The rules for jobs that are rendered elsewhere, or publish elsewhere: each broken one is a sentence with the fix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from longtake.models.backends import LONGEST_CHUNK_SECONDS, BackendKind, CloudRunBackend, LambdaBackend, RemoteProtocol
from longtake.models.policies import Timeouts
from longtake.paths import BOOKKEEPING_FOLDER, holds_control, normal
from longtake.text import quoted

if TYPE_CHECKING:
    from longtake.models.job import RenderJobSpec

_SCHEME = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_FUNCTION = re.compile(r"[A-Za-z0-9:_$-]{1,256}", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)

# What people call the thing that lives so long, and for how many seconds.
_LIVES = {BackendKind.LAMBDA: ("a Lambda", 900), BackendKind.CLOUD_RUN: ("a Cloud Run request", 3600)}


def check_elsewhere(job: RenderJobSpec) -> None:
    """Pass a job whose backend, store and inputs fit together.

    Raises:
        ValueError: `field: what is wrong; the fix`, for the first rule that is broken.
    """
    _check_limit(job)
    _check_backend(job)
    _check_helios(job)
    if job.store is not None:
        _check_store(job.store)
        _check_what_reaches_a_bucket(job)
    _check_inputs(job)


def _check_limit(job: RenderJobSpec) -> None:
    longest, seconds = LONGEST_CHUNK_SECONDS.get(job.backend_kind), job.timeouts.chunk_seconds
    # The default is an hour, for hosts of one's own; elsewhere it means as long as may be.
    if longest is None or seconds <= longest or seconds == Timeouts().chunk_seconds:
        return
    what, lives = _LIVES[job.backend_kind]
    fewer = "frames.per_chunk" if job.frames is not None else "chunks[...].count"
    raise ValueError(
        f"timeouts.chunk_seconds: {seconds:g} s is longer than {what} lives ({lives} s, {lives - longest:g} of them "
        f"kept for publishing); set at most {longest:g}, and render fewer frames a chunk ({fewer})"
    )


def _check_backend(job: RenderJobSpec) -> None:
    match job.remote:
        case LambdaBackend(function=function, region=region):
            if function is not None and not _FUNCTION.fullmatch(function):
                raise ValueError(f"backend.function: {quoted(function)} is no function; write its name or its ARN")
            if region is not None and not _REGION.fullmatch(region):
                raise ValueError(f"backend.region: {quoted(region)} is no region; write one as in eu-central-1")
        case CloudRunBackend(url=url):
            if url is not None:
                _check_url("backend.url", url)


def _check_url(field: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_url = False
    if not is_url or holds_control(url) or " " in url:
        raise ValueError(f"{field}: {quoted(url)} is no absolute URL; write one that starts with https:// or http://")
    if "@" in parts.netloc:
        # Not shown: it may be a password.
        raise ValueError(
            f"{field}: holds a user name before the host, and job files are no place for such; leave it out"
        )


def _check_helios(job: RenderJobSpec) -> None:
    backend = job.remote
    if backend is None:
        return
    if backend.protocol is not RemoteProtocol.HELIOS:
        for field, value in (("job_url", backend.job_url), ("lenient", backend.lenient)):
            if value:
                raise ValueError(
                    f"backend.{field}: is for Helios' workers; set backend.protocol to helios, or leave it out"
                )
        return
    if backend.job_url is None:
        raise ValueError("backend.job_url: is missing; Helios' workers read their job.json from a URL, so give it here")
    _check_url("backend.job_url", backend.job_url)
    if job.store is not None:
        raise ValueError(
            "store: Helios' workers write to a folder that they share, and never to a bucket; leave store out, or set "
            "backend.protocol to longtake"
        )
    if job.env:
        raise ValueError("env: does not reach Helios' workers, which run what their job.json says; leave it out")


def _check_store(store: str) -> None:
    bucket, _, prefix = store.removeprefix(_SCHEME).partition("/")
    if "@" in bucket:
        # Not shown: it may be a key.
        raise ValueError("store: holds something before an @, and job files are no place for keys; leave it out")
    if not store.startswith(_SCHEME):
        raise ValueError(
            f"store: {quoted(store)} is no bucket; write s3://bucket/prefix, or name a folder in base_dir instead"
        )
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise ValueError(
            f"store: {quoted(bucket)} is no name of a bucket; write s3://bucket/prefix with 3 to 63 small letters, "
            "digits, . and -"
        )
    if "?" in prefix or "#" in prefix:
        raise ValueError(f"store: {quoted(store)} has a query; write s3://bucket/prefix and nothing behind it")
    if holds_control(prefix):
        raise ValueError("store: holds a control character such as NUL or a newline; take it out")
    names = prefix.rstrip("/").split("/") if prefix.rstrip("/") else []
    if any(name in ("", ".", "..") for name in names):
        raise ValueError(f"store: {quoted(store)} holds an empty name, . or ..; write the prefix without them")
    if BOOKKEEPING_FOLDER in names:
        raise ValueError(
            f"store: {quoted(store)} lies in {BOOKKEEPING_FOLDER}, which is Longtake's own; choose another"
        )
    if len(prefix.encode(errors="replace")) > 500:
        raise ValueError("store: has a prefix of more than 500 bytes, and keys have 1024 in all; shorten it")


def _check_what_reaches_a_bucket(job: RenderJobSpec) -> None:
    """Pass outputs that keys can name, and commands that write where their outputs are taken from."""
    outputs = {"output": job.output, "chunk_output": job.chunk_output}
    outputs |= {f"chunks[{index}].output": chunk.output for index, chunk in enumerate(job.inline_chunks)}
    for field, path in outputs.items():
        if path is not None and (normal(path).startswith(("/", "../")) or normal(path) == ".."):
            raise ValueError(f"{field}: {quoted(path)} leads out of the store; write a path below it, without / or ..")
    for field, command in _commands(job):
        if not any("{output" in part.replace("{{", "") for part in command):
            raise ValueError(
                f"{field}: writes its output in place, and nobody takes it from there to a bucket; put {{output}} "
                "where the renderer is told what to write, or leave store out"
            )
    if job.merge_command is not None and job.output is None:
        raise ValueError(
            "merge_command: makes a film that no output names, and nobody takes it to the bucket; add output, and put "
            "{output} where the program is told what to write"
        )


def _commands(job: RenderJobSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    if job.command is not None:
        yield "command", job.command
    for index, chunk in enumerate(job.inline_chunks):
        if chunk.command is not None:
            yield f"chunks[{index}].command", chunk.command


def _check_inputs(job: RenderJobSpec) -> None:
    if not isinstance(job.inputs, tuple):
        return
    seen: dict[str, int] = {}
    for index, name in enumerate(job.inputs):
        field = f"inputs[{index}]"
        if not name.strip():
            raise ValueError(f"{field}: is empty; name a file or a folder below base_dir")
        if holds_control(name):
            raise ValueError(f"{field}: holds a control character such as NUL or a newline; rename the file")
        if name.startswith("~"):
            raise ValueError(
                f"{field}: {quoted(name)} starts with ~, which only a shell expands; write the path in full"
            )
        if BOOKKEEPING_FOLDER in name.split("/"):
            raise ValueError(
                f"{field}: {quoted(name)} lies in {BOOKKEEPING_FOLDER}, which is Longtake's own; leave it out"
            )
        if (before := seen.setdefault(normal(name), index)) != index:
            raise ValueError(f"{field}: {quoted(name)} stands in inputs[{before}] already; leave it out")
