"""What a job would cost elsewhere: the part of `plan` for remote backends."""

from collections.abc import Iterator, Mapping
from typing import Any

from longtake.chunks import ChunkPlan
from longtake.cli.formatting import duration, plural
from longtake.cli.remotely import money, place
from longtake.models.backends import CloudRunBackend, RemoteBackend, chunk_limit_seconds, frames_within
from longtake.models.job import RenderJobSpec
from longtake.prices import Prices


def remote_facts(
    job: RenderJobSpec, backend: RemoteBackend, chunks: ChunkPlan, chunk_seconds: float | None, prices: Prices
) -> dict[str, Any]:
    """Return where a job would be rendered, how long a chunk may take there, and what it costs.

    Args:
        job: The job.
        backend: Its backend.
        chunks: Its chunks.
        chunk_seconds: What a chunk takes on average, if somebody has measured it.
        prices: The price table.
    """
    limit, count = chunk_limit_seconds(job), len(chunks)
    facts: dict[str, Any] = {
        "backend": backend.type,
        "where": place(backend),
        "protocol": backend.protocol.value,
        "memory_mb": backend.memory_mb,
        "chunk_limit_seconds": limit,
        "most_usd": round(prices.cost(backend, limit * count, count), 6),
        "prices": prices.model_dump(),
        "prices_from": prices.source,
    }
    if isinstance(backend, CloudRunBackend):
        facts["vcpus"] = backend.vcpus
    if chunk_seconds is not None:
        facts["chunk_seconds"] = chunk_seconds
        facts["estimated_usd"] = round(prices.cost(backend, chunk_seconds * count, count), 6)
        if chunk_seconds > limit:
            facts["fitting_frames"] = _fitting(job, chunks, chunk_seconds, limit)
    return facts


def remote_rows(job: RenderJobSpec, facts: Mapping[str, Any], total_chunks: int) -> Iterator[tuple[str, str]]:
    """Yield the same as labels and words."""
    vcpus = f", {facts['vcpus']:g} vCPU" if "vcpus" in facts else ""
    helios = ", Helios' workers" if facts["protocol"] == "helios" else ""
    yield "rendered on", f"{facts['where']}{helios} ({facts['memory_mb']:,} MB{vcpus})"
    yield "time limit", f"{duration(facts['chunk_limit_seconds'])} a chunk"
    tries = job.retry.attempts
    again = f"; each of up to {tries} tries of a chunk is billed" if tries > 1 else ""
    chunks = plural(total_chunks, "chunk")
    if "estimated_usd" in facts:
        each = f"{facts['chunk_seconds']:g} s each"
        yield "cost", f"about {money(facts['estimated_usd'])}: {chunks} of {each}{again}"
    if "fitting_frames" in facts:
        yield "too long", _too_long(job, facts)
    yield "cost at most", f"{money(facts['most_usd'])}: {chunks} to their time limit{again}"
    yield "prices", facts["prices_from"]


def _fitting(job: RenderJobSpec, chunks: ChunkPlan, chunk_seconds: float, limit: float) -> int:
    # Of a list, the mean: nobody has said which chunk takes how long.
    frames = job.frames.per_chunk if job.frames is not None else max(1, chunks.frame_count // len(chunks))
    return frames_within(limit, frames=frames, seconds=chunk_seconds) if frames > 1 else 0


def _too_long(job: RenderJobSpec, facts: Mapping[str, Any]) -> str:
    late = f"{facts['chunk_seconds']:g} s are more than a chunk may take"
    if not facts["fitting_frames"]:
        return f"{late}, and one of a single frame cannot be cut; render it on hosts of your own"
    key = "frames.per_chunk" if job.frames is not None else "the count of each chunk"
    return f"{late}; set {key} to at most {facts['fitting_frames']:,}"
