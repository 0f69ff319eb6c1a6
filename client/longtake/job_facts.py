"""Collect what a job will do, before it is started: its chunks, its first command, its films and what it may cost."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from longtake.chunks import Chunk, ChunkPlan
from longtake.errors import BadJobError
from longtake.jobfile.chunk_list import read_chunk_list
from longtake.models.backends import BackendKind, CloudRunBackend, RemoteBackend, count_frames_within
from longtake.models.frames import ChunkSpec
from longtake.models.job import RenderJobSpec
from longtake.names import find_job_values, make_job_id
from longtake.prices import Prices
from longtake.text import strip_controls
from longtake.transfer.upload_inputs import measure_inputs

PLATFORMS = {BackendKind.LOCAL: "hosts of your own", BackendKind.LAMBDA: "Lambda", BackendKind.CLOUD_RUN: "Cloud Run"}


@dataclass(frozen=True)
class PlannedJob:
    """A job as it would be if it were started now.

    Args:
        job: The job, with its placeholders filled.
        chunks: Its chunks.
        placeholders: What placeholders of jobs and times stand for; None where the job has none.
        facts: What it will do, with the keys of `longtake plan --json`.
    """

    job: RenderJobSpec
    chunks: ChunkPlan
    placeholders: dict[str, str] | None
    facts: dict[str, Any]


def plan_job(template: RenderJobSpec) -> PlannedJob:
    """Plan a job as if it were started now. Blocking: it reads its chunk list, and the sizes of its inputs.

    Raises:
        BadJobError: Its chunk list cannot be read, or it has no chunk.
    """
    stand_for = _find_placeholders(template)
    job = template.fill_placeholders(stand_for)
    chunks = ChunkPlan(job, _read_chunk_list(job, stand_for))
    placeholders = None if job == template else stand_for
    return PlannedJob(job, chunks, placeholders, _collect_facts(job, chunks) | {"placeholders": placeholders})


def _find_placeholders(job: RenderJobSpec) -> dict[str, str]:
    """Return what the placeholders of jobs and times would stand for, if the job were started now."""
    started_at = job.started_at or datetime.now(UTC)
    name = job.fill_name({**find_job_values("", started_at), "job": ""})
    return find_job_values(make_job_id(name), started_at)


def _read_chunk_list(job: RenderJobSpec, values: Mapping[str, str]) -> Sequence[ChunkSpec]:
    if job.chunk_list is None:
        return ()
    path = Path(job.base_dir or ".") / job.chunk_list.path
    try:
        return read_chunk_list(path.read_bytes(), path.name, values)
    except OSError as error:
        raise BadJobError(f"chunks.path: {path} cannot be read ({error.strerror}); mend the path") from error


def _collect_facts(job: RenderJobSpec, chunks: ChunkPlan) -> dict[str, Any]:
    base = job.base_dir or os.getcwd()
    first, last = chunks[0], chunks[len(chunks) - 1]
    # In a bucket outputs are keys, and renders write to the scratch folder of their host.
    place = base if job.store is None else ""
    films = [os.path.normpath(Path(place) / path) for _, path in job.film_outputs]
    films = films if job.store is None else [f"{job.store.rstrip('/')}/{film}" for film in films]
    return {
        "name": job.name,
        "base_dir": base,
        "store": job.store or base,
        "kind": job.kind.value,
        "fps": job.fps,
        "total_chunks": len(chunks),
        "total_frames": chunks.frame_count,
        "max_parallel": job.max_parallel,
        "first_chunk": _collect_chunk_facts(first),
        "last_chunk": _collect_chunk_facts(last),
        "output": films[0] if films else None,
        **({"films": films} if len(films) > 1 else {}),
        "inputs": _measure_inputs(job),
        "command": list(expand_command(first, place)),
    }


def _measure_inputs(job: RenderJobSpec) -> dict[str, int] | None:
    """Return number and size of the inputs of a bucket job; None where renders read their inputs in place."""
    if job.store is None:
        return None
    files, size_bytes = measure_inputs(job)
    return {"files": files, "size_bytes": size_bytes}


def _collect_chunk_facts(chunk: Chunk) -> dict[str, Any]:
    files, each = chunk.outputs(), chunk.files_per_output
    outputs = [{"first": files[first], "last": files[first + each - 1]} for first in range(0, len(files), each)]
    facts = {
        "chunk": chunk.index,
        "start": chunk.start,
        "stop": chunk.stop,
        "step": chunk.frames.step,
        "first_output": files[0],
        "last_output": files[each - 1],
    }
    return facts if len(outputs) == 1 else {**facts, "outputs": outputs}


def expand_command(chunk: Chunk, base: str) -> tuple[str, ...]:
    """Return the command of a chunk, with the final places of its outputs.

    Args:
        chunk: The chunk.
        base: Folder of its outputs; empty where they go to a bucket.
    """
    places = chunk.place_outputs(lambda path: os.path.normpath(Path(base) / path))
    return chunk.expand_command(chunk.command_template, places)


def collect_remote_facts(
    job: RenderJobSpec, backend: RemoteBackend, chunks: ChunkPlan, chunk_seconds: float | None, prices: Prices
) -> dict[str, Any]:
    """Return the service that would render a job, the time limit of a chunk, and the cost, with the keys of `--json`.

    Args:
        job: The job.
        backend: Its backend.
        chunks: Its chunks.
        chunk_seconds: Average time that a chunk renders, for an estimate; None when not known.
        prices: The price table.
    """
    limit, count = job.chunk_limit_seconds, len(chunks)
    facts: dict[str, Any] = {
        "backend": backend.type,
        "where": describe_backend(backend),
        "protocol": backend.protocol.value,
        "memory_mb": backend.memory_mb,
        "chunk_limit_seconds": limit,
        "most_usd": round(prices.compute_cost(backend, limit * count, count), 6),
        "prices": prices.model_dump(),
        "prices_from": prices.source,
    }
    if isinstance(backend, CloudRunBackend):
        facts["vcpus"] = backend.vcpus
    if chunk_seconds is not None:
        facts["chunk_seconds"] = chunk_seconds
        facts["estimated_usd"] = round(prices.compute_cost(backend, chunk_seconds * count, count), 6)
        if chunk_seconds > limit:
            facts["fitting_frames"] = _count_fitting_frames(job, chunks, chunk_seconds, limit)
    return facts


def _count_fitting_frames(job: RenderJobSpec, chunks: ChunkPlan, chunk_seconds: float, limit: float) -> int:
    # Chunks of a list differ in length, and only their average time is known: their average length goes with it.
    frames = job.frames.per_chunk if job.frames is not None else max(1, chunks.frame_count // len(chunks))
    return count_frames_within(limit, frames=frames, seconds=chunk_seconds) if frames > 1 else 0


def describe_backend(backend: RemoteBackend) -> str:
    """Return the service that renders a job: `Lambda, function render in eu-central-1`."""
    platform = PLATFORMS[BackendKind(backend.type)]
    if backend.type == "lambda":
        place = f"function {backend.function}" if backend.function else "the first function that its workers may call"
        place += f" in {backend.region}" if backend.region else ""
    else:
        place = backend.url or "the first service that its workers may call"
    return f"{platform}, {strip_controls(place)}"
