"""The command `plan`: show the chunks, the first command and the cost of a job file without a server."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from longtake.chunks import Chunk, ChunkPlan
from longtake.cli.formatting import describe_backend, format_count, format_duration, format_usd
from longtake.cli.submit import JobFile, Json, Values, read_job
from longtake.cli.terminal import print_json, print_renderable
from longtake.errors import BadJobError, LongtakeError
from longtake.frame_list import describe_frames
from longtake.jobfile.chunk_list import read_chunk_list
from longtake.models.backends import CloudRunBackend, RemoteBackend, count_frames_within
from longtake.models.frames import ChunkSpec
from longtake.models.job import RenderJobSpec
from longtake.names import find_job_values, make_job_id
from longtake.prices import Prices
from longtake.text import format_bytes, strip_controls
from longtake.transfer.upload_inputs import measure_inputs


def plan(
    file: JobFile,
    values: Values = None,
    chunk_seconds: Annotated[
        float | None,
        typer.Option("--chunk-seconds", min=0.001, help="What a chunk takes, for an estimate of cost.", metavar="N"),
    ] = None,
    json: Json = False,
) -> None:
    """Show the chunks of a job file, its first command and its cost; nothing is started, no server is needed.

    Prices are those of LONGTAKE_PRICES, and else of the services' lists.

    Example: longtake plan film.yaml --set backend=lambda --chunk-seconds 90
    """
    job = read_job(file, values)
    template, stand_for = job, _find_placeholders(job)
    job = template.fill_placeholders(stand_for)
    chunks = ChunkPlan(job, _read_chunk_list(job, stand_for))
    facts = _collect_facts(job, chunks) | {"placeholders": None if job == template else stand_for}
    if job.remote is not None:
        facts["remote"] = collect_remote_facts(job, job.remote, chunks, chunk_seconds, _read_prices())
    elif chunk_seconds is not None:
        raise BadJobError("--chunk-seconds: is for what services bill, and this job renders on hosts of your own")
    if json:
        print_json(facts)
    else:
        table = _make_table(job, facts)
        if job != template:
            now = "" if job.started_at else ", if it is started now"
            words = (f"{{{word}}} is {value}" for word, value in stand_for.items())
            table.add_row("placeholders", ", ".join(words) + now)
        print_renderable(table)


def _read_prices() -> Prices:
    try:
        return Prices.from_environ(os.environ)
    except LongtakeError as error:
        # The table is input of this command, as the job file is: exit code 2.
        raise BadJobError(str(error)) from error


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
        "command": list(_expand_command(first, place)),
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


def _expand_command(chunk: Chunk, base: str) -> tuple[str, ...]:
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


def format_remote_facts(job: RenderJobSpec, facts: Mapping[str, Any], total_chunks: int) -> Iterator[tuple[str, str]]:
    """Yield labels and texts for a table of the result of `collect_remote_facts`."""
    vcpus = f", {facts['vcpus']:g} vCPU" if "vcpus" in facts else ""
    helios = ", Helios' workers" if facts["protocol"] == "helios" else ""
    yield "rendered on", f"{facts['where']}{helios} ({facts['memory_mb']:,} MB{vcpus})"
    yield "time limit", f"{format_duration(facts['chunk_limit_seconds'])} a chunk"
    tries = job.retry.attempts
    again = f"; each of up to {tries} tries of a chunk is billed" if tries > 1 else ""
    chunks = format_count(total_chunks, "chunk")
    if "estimated_usd" in facts:
        each = f"{facts['chunk_seconds']:g} s each"
        yield "cost", f"about {format_usd(facts['estimated_usd'])}: {chunks} of {each}{again}"
    if "fitting_frames" in facts:
        yield "too long", _describe_too_long(job, facts)
    yield "cost at most", f"{format_usd(facts['most_usd'])}: {chunks} to their time limit{again}"
    yield "prices", facts["prices_from"]


def _count_fitting_frames(job: RenderJobSpec, chunks: ChunkPlan, chunk_seconds: float, limit: float) -> int:
    # Chunks of a list differ in length, and only their average time is known: their average length goes with it.
    frames = job.frames.per_chunk if job.frames is not None else max(1, chunks.frame_count // len(chunks))
    return count_frames_within(limit, frames=frames, seconds=chunk_seconds) if frames > 1 else 0


def _describe_too_long(job: RenderJobSpec, facts: Mapping[str, Any]) -> str:
    problem = f"{facts['chunk_seconds']:g} s are more than a chunk may take"
    if not facts["fitting_frames"]:
        return f"{problem}, and one of a single frame cannot be cut; render it on hosts of your own"
    key = "frames.per_chunk" if job.frames is not None else "the count of each chunk"
    return f"{problem}; set {key} to at most {facts['fitting_frames']:,}"


def _make_table(job: RenderJobSpec, facts: dict[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("name", strip_controls(job.name))
    grid.add_row("folder", strip_controls(facts["base_dir"]))
    if job.store is not None:
        grid.add_row("store", strip_controls(job.store))
    if facts["inputs"] and facts["inputs"]["files"]:
        inputs = f"{format_count(facts['inputs']['files'], 'file')} ({format_bytes(facts['inputs']['size_bytes'])})"
        grid.add_row("inputs", f"{inputs}, of which the store gets what it lacks")
    rate = f" at {job.fps} a second" if job.fps else ""
    grid.add_row("frames", f"{facts['total_frames']:,}{rate}")
    grid.add_row("chunks", f"{facts['total_chunks']:,}, at most {job.max_parallel:,} at once")
    for label, chunk in (("first chunk", facts["first_chunk"]), ("last chunk", facts["last_chunk"])):
        if label == "last chunk" and facts["total_chunks"] == 1:
            continue
        frames = range(chunk["start"], chunk["stop"], chunk["step"])
        count = format_count(len(frames), "frame")
        outputs = ", ".join(
            output["first"] if output["first"] == output["last"] else f"{output['first']} to {output['last']}"
            for output in chunk.get("outputs", [{"first": chunk["first_output"], "last": chunk["last_output"]}])
        )
        numbers = describe_frames(frames) if len(frames) > 1 else f"{frames[0]}-{frames[0]}"
        grid.add_row(label, strip_controls(f"{chunk['chunk']}: frames {numbers} ({count}), {outputs}"))
    joined = " (joined by merge_command)" if job.merge_command else ""
    films = ", ".join(facts.get("films", [facts["output"]])) if facts["output"] else ""
    grid.add_row("film", strip_controls(films) + joined if films else "none: the chunks stay as they are")
    grid.add_row("command", strip_controls(shlex.join(facts["command"])))
    if "remote" in facts:
        for label, text in format_remote_facts(job, facts["remote"], facts["total_chunks"]):
            grid.add_row(label, text)
    return grid
