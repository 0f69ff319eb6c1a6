"""The command `plan`: show the chunks, the first command and the cost of a job file without a server."""

import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from longtake.cli.formatting import format_count, format_duration, format_usd
from longtake.cli.submit import JobFile, Json, Values, read_job
from longtake.cli.terminal import print_json, print_renderable
from longtake.errors import BadJobError, LongtakeError
from longtake.frame_list import describe_frames
from longtake.job_facts import collect_remote_facts, plan_job
from longtake.models.job import RenderJobSpec
from longtake.prices import Prices
from longtake.text import format_bytes, strip_controls


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
    planned = plan_job(job)
    job, facts = planned.job, planned.facts
    if job.remote is not None:
        facts["remote"] = collect_remote_facts(job, job.remote, planned.chunks, chunk_seconds, _read_prices())
    elif chunk_seconds is not None:
        raise BadJobError("--chunk-seconds: is for what services bill, and this job renders on hosts of your own")
    if json:
        print_json(facts)
    else:
        table = _make_table(job, facts)
        if planned.placeholders is not None:
            now = "" if job.started_at else ", if it is started now"
            words = (f"{{{word}}} is {value}" for word, value in planned.placeholders.items())
            table.add_row("placeholders", ", ".join(words) + now)
        print_renderable(table)


def _read_prices() -> Prices:
    try:
        return Prices.from_environ(os.environ)
    except LongtakeError as error:
        # The table is input of this command, as the job file is: exit code 2.
        raise BadJobError(str(error)) from error


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
