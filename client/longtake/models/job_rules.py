"""Check the rules between the fields of a job: each broken rule is one sentence with the fix in it."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from longtake.frame_list import LARGEST_FRAME
from longtake.models.backends import LONGEST_CHUNK_SECONDS, BackendKind, CloudRunBackend, LambdaBackend, RemoteProtocol
from longtake.models.film_rules import check_films
from longtake.models.inputs import InputBundle, content_path
from longtake.models.job_fields import MOST_IMAGES, MOST_IMAGES_OF_CHUNK, JobFields
from longtake.models.output_rules import check_outputs
from longtake.models.outputs import OutputTemplate, list_command_words
from longtake.models.policies import Timeouts
from longtake.models.sessions import check_session
from longtake.paths import (
    BOOKKEEPING_FOLDER,
    OutputKind,
    check_is_local,
    check_output_path,
    check_path,
    classify_output,
    has_control_characters,
    is_bookkeeping,
    normalize_path,
)
from longtake.templates import (
    JOB_PLACEHOLDERS,
    PATH_PLACEHOLDERS,
    chunk_values,
    compile_template,
    escape_template,
    expand_template,
    find_placeholders,
    is_divisible,
    printf_pattern,
)
from longtake.text import quote_value

_SCHEME = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_FUNCTION = re.compile(r"[A-Za-z0-9:_$-]{1,256}", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)

# What a backend's calls are called in errors, and their longest lifetime in seconds.
_LIFETIMES = {BackendKind.LAMBDA: ("a Lambda", 900), BackendKind.CLOUD_RUN: ("a Cloud Run request", 3600)}


def check_remote_rules(job: JobFields) -> None:
    """Raise unless backend, store and inputs of a job fit together.

    Raises:
        ValueError: `field: what is wrong; the fix`, for the first rule that is broken.
    """
    _check_limit(job)
    _check_backend(job)
    _check_helios(job)
    if job.store is not None:
        _check_store(job.store)
        _check_bucket_outputs(job)
    _check_inputs(job)


def _check_limit(job: JobFields) -> None:
    longest, seconds = LONGEST_CHUNK_SECONDS.get(job.backend_kind), job.timeouts.chunk_seconds
    # The default, an hour, is for own hosts; for other backends it means the longest lifetime.
    if longest is None or seconds <= longest or seconds == Timeouts().chunk_seconds:
        return
    what, lives = _LIFETIMES[job.backend_kind]
    fewer = "frames.per_chunk" if job.frames is not None else "chunks[...].count"
    raise ValueError(
        f"timeouts.chunk_seconds: {seconds:g} s is longer than {what} lives ({lives} s, {lives - longest:g} of them "
        f"kept for publishing); set at most {longest:g}, and render fewer frames a chunk ({fewer})"
    )


def _check_backend(job: JobFields) -> None:
    match job.remote:
        case LambdaBackend(function=function, region=region):
            if function is not None and not _FUNCTION.fullmatch(function):
                raise ValueError(f"backend.function: {quote_value(function)} is no function; write its name or its ARN")
            if region is not None and not _REGION.fullmatch(region):
                raise ValueError(f"backend.region: {quote_value(region)} is no region; write one as in eu-central-1")
        case CloudRunBackend(url=url):
            if url is not None:
                _check_url("backend.url", url)


def _check_url(field: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_url = False
    if not is_url or has_control_characters(url) or " " in url:
        raise ValueError(
            f"{field}: {quote_value(url)} is no absolute URL; write one that starts with https:// or http://"
        )
    if "@" in parts.netloc:
        # The URL is not shown, because it may hold a password.
        raise ValueError(
            f"{field}: holds a user name before the host, and job files are no place for such; leave it out"
        )


def _check_helios(job: JobFields) -> None:
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
        # The text is not shown, because it may hold a key.
        raise ValueError("store: holds something before an @, and job files are no place for keys; leave it out")
    if not store.startswith(_SCHEME):
        raise ValueError(
            f"store: {quote_value(store)} is no bucket; write s3://bucket/prefix, or name a folder in base_dir instead"
        )
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise ValueError(
            f"store: {quote_value(bucket)} is no name of a bucket; write s3://bucket/prefix with 3 to 63 small "
            "letters, digits, . and -"
        )
    if "?" in prefix or "#" in prefix:
        raise ValueError(f"store: {quote_value(store)} has a query; write s3://bucket/prefix and nothing behind it")
    if has_control_characters(prefix):
        raise ValueError("store: holds a control character such as NUL or a newline; take it out")
    names = prefix.rstrip("/").split("/") if prefix.rstrip("/") else []
    if any(name in ("", ".", "..") for name in names):
        raise ValueError(f"store: {quote_value(store)} holds an empty name, . or ..; write the prefix without them")
    if any(map(is_bookkeeping, names)):
        raise ValueError(
            f"store: {quote_value(store)} lies in {BOOKKEEPING_FOLDER}, which is Longtake's own; choose another"
        )
    if len(prefix.encode(errors="replace")) > 500:
        raise ValueError("store: has a prefix of more than 500 bytes, and keys have 1024 in all; shorten it")


def _check_bucket_outputs(job: JobFields) -> None:
    """Raise unless outputs can be named by keys, and commands write to `{output}`, from where outputs are uploaded."""
    outputs: dict[str, str | None] = dict(job.film_outputs)
    outputs |= {template.field: template.path for template in job.output_templates}
    outputs |= {f"chunks[{index}].output": chunk.output for index, chunk in enumerate(job.inline_chunks)}
    for field, path in outputs.items():
        if path is not None and (normalize_path(path).startswith(("/", "../")) or normalize_path(path) == ".."):
            raise ValueError(
                f"{field}: {quote_value(path)} leads out of the store; write a path below it, without / or .."
            )
    for field, command in _chunk_commands(job):
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


def _chunk_commands(job: JobFields) -> Iterator[tuple[str, tuple[str, ...]]]:
    if job.command is not None:
        yield "command", job.command
    for index, chunk in enumerate(job.inline_chunks):
        if chunk.command is not None:
            yield f"chunks[{index}].command", chunk.command


def _check_inputs(job: JobFields) -> None:
    if not isinstance(job.inputs, tuple):
        return
    seen: dict[str, int] = {}
    for index, name in enumerate(job.inputs):
        field = f"inputs[{index}]"
        if not name.strip():
            raise ValueError(f"{field}: is empty; name a file or a folder below base_dir")
        if has_control_characters(name):
            raise ValueError(f"{field}: holds a control character such as NUL or a newline; rename the file")
        try:
            check_is_local(name)
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from error
        if name.startswith("~"):
            raise ValueError(
                f"{field}: {quote_value(name)} starts with ~, which only a shell expands; write the path in full"
            )
        if any(map(is_bookkeeping, name.split("/"))):
            raise ValueError(
                f"{field}: {quote_value(name)} lies in {BOOKKEEPING_FOLDER}, which is Longtake's own; leave it out"
            )
        if (before := seen.setdefault(normalize_path(name), index)) != index:
            raise ValueError(f"{field}: {quote_value(name)} stands in inputs[{before}] already; leave it out")


_FIX = "give each output a path of its own"

# What jobs and times stand for is not known yet: each placeholder stands for itself, as text.
_STAND_INS = {word: f"{{{{{word}}}}}" for word in JOB_PLACEHOLDERS}


def check_outputs_differ(job: JobFields) -> None:
    """Raise unless chunks, film and sound of a job are different files, however their paths are spelled.

    Raises:
        ValueError: `field: what is wrong; the fix`.
    """
    job = job.fill_placeholders(_STAND_INS)
    taken: dict[str, str] = {}
    for field, path in job.film_outputs:
        if path:
            _claim_path(taken, job, field, expand_template(path, {}))
    films = frozenset(taken)
    for field, path in job.audio_files:
        # Two tracks may be made of one file.
        if path and ((where := _absolute(job, path)) in films or where not in taken):
            _claim_path(taken, job, field, path)
    if job.frames is not None:
        for where, field in taken.items():
            writer = _find_writer(job, where)
            if writer is not None:
                raise ValueError(f"{field}: chunk {writer} writes this file too; {_FIX}")
    elif job.kind is OutputKind.FRAMES:
        _check_frames_of_list(job)
    else:
        for index, chunk in enumerate(job.inline_chunks):
            words = chunk_values(index, chunk.frames)
            for template in job.templates_of(chunk):
                _claim_path(taken, job, f"chunks[{index}].output", expand_template(template.path, words))


def _claim_path(taken: dict[str, str], job: JobFields, field: str, path: str) -> None:
    where = _absolute(job, path)
    if where in taken:
        raise ValueError(f"{field}: {quote_value(path)} is also {taken[where]}; {_FIX}")
    taken[where] = field


def _absolute(job: JobFields, path: str) -> str:
    return normalize_path(path if path.startswith("/") or not job.base_dir else f"{job.base_dir}/{path}")


def _absolute_template(job: JobFields, template: str) -> str:
    """Return a template below the job's folder, whose own braces are no placeholders."""
    return normalize_path(str(PurePosixPath(escape_template(job.base_dir or "")) / template))


def _find_writer(job: JobFields, where: str) -> int | None:
    """Return the number of the chunk one of whose outputs has this path; None if none has."""
    writers = (_find_chunk(job, template, where) for template in job.output_templates)
    return next((writer for writer in writers if writer is not None), None)


def _find_chunk(job: JobFields, output: OutputTemplate, where: str) -> int | None:
    """Return the number of the chunk whose output has this path, by the numbers in the path; None if none has."""
    frames = job.frames
    assert frames is not None  # lists are compared one by one
    template = _absolute_template(job, output.path)
    words, pattern = compile_template(template)
    match = pattern.fullmatch(where)
    for word, text in zip(words, match.groups() if match else (), strict=False):
        number = int(text)
        chunk = number if word == "chunk" else frames.chunks.find_chunk(number - 1 if word == "stop" else number)
        if chunk is not None and 0 <= chunk < job.chunk_count and word != "count":
            values = {**chunk_values(chunk, frames.chunks[chunk]), "frame": number}
            if expand_template(template, values) == where:
                return chunk
    return None


def _check_frames_of_list(job: JobFields) -> None:
    """Compare image sequences by their patterns, because a list may have far more frames than chunks."""
    written: dict[str, list[tuple[int, int, int]]] = {}
    for index, chunk in enumerate(job.inline_chunks):
        stop = chunk.start + chunk.count
        for output in job.templates_of(chunk):
            template = _absolute_template(job, output.path)
            pattern = printf_pattern(template, chunk_values(index, chunk.frames))
            written.setdefault(pattern, []).append((chunk.start, stop, index))
    for sequences in written.values():
        for (_, stop, one), (start, _, other) in pairwise(sorted(sequences)):
            if start < stop:
                raise ValueError(
                    f"chunks[{other}]: writes frame {start} to the same file as chunks[{one}]; cut the chunks so "
                    "that none overlap"
                )


def check_job(job: JobFields) -> None:
    """Raise unless all fields of a job fit together.

    Raises:
        ValueError: `field: what is wrong; the fix`, for the first rule that is broken.
    """
    _check_work(job)
    _check_image_counts(job)
    _check_failure_limit(job)
    _check_rate(job)
    _check_commands(job)
    check_session(job)
    _check_paths(job)
    check_outputs(job)
    check_films(job)
    check_outputs_differ(job)
    check_remote_rules(job)
    _check_environment(job.env)


def _check_work(job: JobFields) -> None:
    if job.frames is None and job.chunks is None:
        raise ValueError("frames: is missing; give frames to cut into chunks, or an explicit list of chunks")
    if job.frames is not None and job.chunks is not None:
        raise ValueError("chunks: stands beside frames; give one of the two")
    if job.chunks == ():
        raise ValueError("chunks: is empty; list at least one chunk")
    if job.command is None and (not job.inline_chunks or any(c.command is None for c in job.inline_chunks)):
        raise ValueError("command: is missing; write the program and arguments that render one chunk")
    if (
        not job.outputs
        and job.chunk_output is None
        and (not job.inline_chunks or any(c.output is None for c in job.inline_chunks))
    ):
        raise ValueError("chunk_output: is missing; say where a chunk's output goes, as in chunks/{chunk:06}.mp4")
    seen: set[int] = set()
    for index, chunk in enumerate(job.inline_chunks):
        if chunk.id in seen:
            raise ValueError(f"chunks[{index}].id: {chunk.id} stands twice; give each chunk an id of its own")
        if chunk.id is not None:
            seen.add(chunk.id)
        if chunk.start + chunk.count > LARGEST_FRAME:
            raise ValueError(f"chunks[{index}]: its frames end beyond {LARGEST_FRAME}; lower start or count")


def _check_image_counts(job: JobFields) -> None:
    if job.kind is not OutputKind.FRAMES:
        return
    if job.frames is not None:
        per_chunk, each = min(job.frames.per_chunk, job.frames.count), len(job.output_templates)
        check_image_count("frames.per_chunk", each * per_chunk, each * job.frames.count)
        return
    total = 0
    for index, chunk in enumerate(job.inline_chunks):
        images = chunk.count * len(job.templates_of(chunk))
        total += images
        check_image_count(f"chunks[{index}].count", images, total)


def check_image_count(field: str, of_chunk: int, of_job: int) -> None:
    """Raise if a chunk, or a job as far as it was counted, has more image files than a worker can name.

    Raises:
        ValueError: `field: what is wrong; the fix`.
    """
    if of_chunk > MOST_IMAGES_OF_CHUNK:
        raise ValueError(
            f"{field}: makes {of_chunk:,} image files in one chunk, and a chunk has at most {MOST_IMAGES_OF_CHUNK:,}; "
            "make chunks shorter"
        )
    if of_job > MOST_IMAGES:
        raise ValueError(
            f"{field.partition('.')[0]}: make more than {MOST_IMAGES:,} image files; split the job, or render video"
        )


def _check_failure_limit(job: JobFields) -> None:
    if job.max_failed_chunks is not None and job.on_chunk_failure != "continue":
        raise ValueError(
            "max_failed_chunks: is for jobs that go on after a failed chunk; set on_chunk_failure to continue, or "
            "leave it out"
        )


def _check_rate(job: JobFields) -> None:
    kinds = {job.kind, *(classify_output(output.path) for output in job.outputs)}
    needs_rate = OutputKind.VIDEO in kinds or (bool(job.films) and job.merge_command is None)
    if job.fps is None and needs_rate:
        raise ValueError('fps: is missing; write the frame rate, as in 30 or "30000/1001"')


def _check_commands(job: JobFields) -> None:
    for field, arguments, words in _all_commands(job):
        if not arguments or not arguments[0].strip():
            raise ValueError(f"{field}: is empty; write the program and its arguments")
        if any("\0" in argument for argument in arguments):
            raise ValueError(f"{field}: holds a NUL character; take it out")
        known: set[str] = set()
        for argument in arguments:
            known |= find_placeholders(argument, field=field, allowed=words)
        # Listed chunks may have fixed outputs, as in Helios files, to which the renderer writes in place.
        if field == "command" and job.frames is not None and not any(word.startswith("output") for word in known):
            raise ValueError(
                "command: has no {output} or {output_dir}, so that two tries would write one file; put {output} "
                "where the renderer is told what to write"
            )
    if job.frames is not None and job.frames.has_steps and job.command is not None:
        _check_steps(job, job.command)


def _check_steps(job: JobFields, command: tuple[str, ...]) -> None:
    """Raise unless a command renders frames with a step: it is told of it, or can render each frame alone."""
    allowed = list_command_words(job.output_templates)
    known = frozenset[str]().union(*(find_placeholders(part, field="command", allowed=allowed) for part in command))
    if "step" in known or (job.kind is OutputKind.FRAMES and is_divisible(known)):
        return
    raise ValueError(
        "command: has no {step}, and would render the frames between those of frames as well; put {step} where the "
        "renderer is told of it, or set frames.per_chunk to 1"
    )


def _all_commands(job: JobFields) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    words = list_command_words(job.output_templates)
    if job.command is not None:
        yield "command", job.command, words
    if job.merge_command is not None:
        yield "merge_command", job.merge_command, ("output", *JOB_PLACEHOLDERS)
    if job.check is not None:
        yield "check", job.check, words
    for index, chunk in enumerate(job.inline_chunks):
        if chunk.command is not None:
            yield f"chunks[{index}].command", chunk.command, words


def _check_paths(job: JobFields) -> None:
    for field, path in _paths(job):
        try:
            check_path(path)
            if field.endswith("output") or field.startswith("outputs"):
                check_output_path(path, is_film=field == "output" or field.startswith("film"))
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from error
    for field, path in job.film_outputs:
        find_placeholders(path, field=field, allowed=JOB_PLACEHOLDERS)
    if isinstance(job.inputs, InputBundle) and job.store is None:
        raise ValueError("inputs: are a bundle, which lies in a bucket; name the bucket in store, or list the files")
    if job.base_dir is not None and has_control_characters(job.base_dir):
        raise ValueError("base_dir: holds a control character such as NUL or a newline; take it out")
    if job.base_dir is not None and not job.base_dir.startswith("/"):
        raise ValueError(
            f"base_dir: {quote_value(job.base_dir)} is no folder from the root; write one that starts with /"
        )
    # Once, and not for each chunk of a long list.
    kind_of_first = job.kind
    for index, chunk in enumerate(job.inline_chunks):
        if chunk.output is not None:
            find_placeholders(chunk.output, field=f"chunks[{index}].output", allowed=PATH_PLACEHOLDERS)
            if (kind := classify_output(chunk.output)) is not kind_of_first:
                raise ValueError(
                    f"chunks[{index}].output: is {quote_value(chunk.output)}, of the kind {kind}, and "
                    f"chunks[0] writes {kind_of_first}; let all chunks write one kind"
                )


def _paths(job: JobFields) -> Iterator[tuple[str, str]]:
    named: dict[str, str | None] = {"output": job.output, "chunk_output": job.chunk_output, **dict(job.film_outputs)}
    named |= {**dict(job.audio_files), **dict(job.colour_files)}
    yield from ((template.field, template.path) for template in job.output_templates if job.outputs)
    named |= {f"chunks[{index}].output": chunk.output for index, chunk in enumerate(job.inline_chunks)}
    if job.chunk_list is not None and job.chunk_list.path != content_path(job.chunk_list.sha256):
        named["chunks.path"] = job.chunk_list.path
    for field, path in named.items():
        if path is not None:
            yield field, path


def _check_environment(env: dict[str, str]) -> None:
    for name, value in env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII) or "\0" in value:
            raise ValueError(
                f"env: {quote_value(name)} cannot be set; use a name of letters, digits and _, a value without NUL"
            )
