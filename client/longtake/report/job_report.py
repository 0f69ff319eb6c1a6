"""Gather all that a report of a job tells, from its records in the store and from its status."""

import hashlib
import platform
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pydantic import Field

from longtake.chunk_history import ChunkColumns, ChunkHistory, ChunkState, HistoryReader
from longtake.errors import LongtakeError
from longtake.failure_causes import FailureCause, group_failures
from longtake.models.fields import Contract
from longtake.models.status import FilmResult, JobStatus
from longtake.names import find_job_values
from longtake.render_timeline import (
    FrameTimes,
    HostWork,
    TimelineBar,
    make_timeline,
    measure_frame_times,
    sum_up_hosts,
)
from longtake.stores.factory import open_client_store
from longtake.stores.job_layout import find_film_number
from longtake.stores.job_records import JobRecords
from longtake.stores.publications import Record
from longtake.stores.store import OversizedFileError, map_parallel
from longtake.stores.try_records import read_tries
from longtake.text import strip_controls

# Pictures in a report: enough to see the film, and a file that mail takes.
_MOST_PICTURES = 48
_MOST_PICTURE_BYTES = 256 * 1024
_PICTURE_NAME = re.compile(r"(\d{6,9})-(-?\d{1,10})\.(?:jpe?g|webp|png)", re.ASCII)
_KINDS = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG", "image/png"), (b"RIFF", "image/webp"))

# Outputs that are told one by one, and those whose list has a digest: of more, the list itself takes too much memory.
_MOST_LISTED = 60
_MOST_DIGESTED = 200_000

# What renderers say of themselves stands in their first lines.
_HEAD_BYTES = 16 * 1024
_VERSION = re.compile(r"^\s*((?:[A-Za-z][\w.+-]*\s+){1,4}v?\d+\.\d+[^\s,]*(?: \([^)]{1,60}\))?)", re.MULTILINE)


class FilmProof(Contract):
    """A film, and what proves it."""

    path: str
    sha256: str = ""
    size_bytes: int = 0
    frames: int = 0
    duration_seconds: float | None = None
    proof: str = Field(default="", description="which pictures of it were decoded and compared")
    notes: tuple[str, ...] = Field(default=(), description="what of it could not be proven, or was lost")


class OutputFile(Contract):
    """A published file of a chunk."""

    path: str = Field(description="below the store, where it is there")
    sha256: str
    size_bytes: int
    chunk: int


class OutputProof(Contract):
    """The published files of all chunks."""

    files: int = 0
    size_bytes: int = 0
    list_sha256: str = Field(
        default="",
        description="digest of what `sha256sum` prints of all of them, sorted by path; empty where they are many",
    )
    first: tuple[OutputFile, ...] = Field(default=(), description="the first of them, by path")


class ReportPicture(Contract):
    """A small picture of a chunk."""

    chunk: int
    frame: int
    name: str
    kind: str = Field(default="", description="media type")
    data: bytes = Field(default=b"", exclude=True)


class JobReport(Contract):
    """All that a report of a job tells."""

    id: str
    name: str = ""
    made_at: datetime
    longtake: str = Field(default="", description="version of Longtake that has made the report")
    python: str = ""
    temporal_sdk: str = ""
    renderer: str = Field(default="", description="what the renderer says of itself in a log")
    store: str = ""
    folder: str = Field(default="", description="location of the job's records")
    status: JobStatus | None = Field(
        default=None, description="as Temporal tells it; none where it has forgotten the job"
    )
    state: str = Field(default="", description="state of the job; `unknown` where Temporal has forgotten the job")
    began: datetime | None = None
    ended: datetime | None = Field(default=None, description="when it ended, or the last chunk was published")
    job: dict[str, Any] = Field(default={}, description="the job as it was accepted, its defaults left out")
    job_digest: str = Field(default="", description="digest of all that decides the outputs")
    record_sha256: str = Field(default="", description="digest of job.json in the store")
    command: tuple[str, ...] = Field(default=(), description="command, with placeholders")
    outputs_named: tuple[str, ...] = Field(default=(), description="outputs of a chunk, with placeholders")
    backend: str = ""
    counts: dict[str, int] = Field(default={}, description="chunks by state")
    total_frames: int = 0
    done_frames: int = 0
    render_seconds: float = Field(default=0, description="time in tries that succeeded")
    cpu_seconds: float = 0
    peak_memory_bytes: int = 0
    failed_seconds: float = Field(default=0, description="time in tries that failed")
    failed_tries: int = 0
    chunks: ChunkColumns
    times: FrameTimes = FrameTimes()
    hosts: tuple[HostWork, ...] = ()
    timeline: tuple[TimelineBar, ...] = ()
    failures: tuple[FailureCause, ...] = ()
    films: tuple[FilmProof, ...] = ()
    outputs: OutputProof = OutputProof()
    pictures: tuple[ReportPicture, ...] = ()


@dataclass(frozen=True)
class GatheredReport:
    """A report, and the history that its pictures are drawn from.

    Args:
        report: The report.
        history: What became of each chunk.
    """

    report: JobReport
    history: ChunkHistory


def gather_stored_report(
    url: str, job_id: str, status: JobStatus | None, stop: threading.Event | None = None
) -> GatheredReport:
    """Gather the report of a job in the store at a URL; blocking.

    Raises:
        StoreUnusableError: The store cannot be read.
        LongtakeError: There is no such job in the store.
    """
    with open_client_store(url, stop) as store:
        return gather_report(JobRecords(store, job_id), status)


def gather_report(
    records: JobRecords, status: JobStatus | None, *, history: ChunkHistory | None = None, now: datetime | None = None
) -> GatheredReport:
    """Gather the report of a job that is finished, has failed, still runs, or is forgotten by Temporal; blocking.

    Args:
        records: Records of the job.
        status: Its status; None where Temporal has forgotten the job.
        history: What became of its chunks, where that was read before.
        now: When the status was read.

    Raises:
        LongtakeError: There is no such job in the store.
        OSError: The store cannot be read.
    """
    job = records.find_job()
    if job is None:
        raise LongtakeError(
            f"{records.path} has no record of a job that can be read; look whether {records.job_id} is in this store"
        )
    now = now or datetime.now(UTC)
    history = history or HistoryReader(records, job).refresh(status)
    tries = read_tries(records)
    films, outputs = _read_outputs(records, status)
    frames, columns = history.frames, history.columns()
    report = JobReport(
        id=status.id if status is not None else records.job_id,
        name=status.name if status is not None else job.fill_name(find_job_values(records.job_id, job.started_at)),
        made_at=now,
        longtake=version("longtake"),
        python=platform.python_version(),
        temporal_sdk=version("temporalio"),
        renderer=_find_renderer(records, history),
        store=records.store.url,
        folder=records.path,
        status=status,
        state=status.state.value if status is not None else "unknown",
        began=(status.started_at or status.created_at) if status is not None else job.started_at,
        ended=_find_end(status, history),
        job=job.to_wire(),
        job_digest=job.digest(),
        record_sha256=hashlib.sha256(records.store.read(records.job_file)).hexdigest(),
        command=job.command or (),
        outputs_named=tuple(template.path for template in job.output_templates),
        backend=job.backend_kind.value,
        counts={state.value: count for state, count in history.count_states().items()},
        total_frames=columns.total_frames,
        done_frames=sum(len(frames(chunk)) for chunk in history.find(ChunkState.DONE)),
        render_seconds=round(sum(history.facts.render_seconds), 3),
        cpu_seconds=round(sum(history.facts.cpu_seconds), 3),
        peak_memory_bytes=int(max(history.facts.peak_memory_bytes, default=0)),
        failed_seconds=round(
            sum((each.ended - each.began).total_seconds() for each in tries if each.began and each.ended), 3
        ),
        failed_tries=len(tries),
        chunks=columns,
        times=measure_frame_times(history),
        hosts=tuple(sum_up_hosts(history, tries)),
        timeline=tuple(make_timeline(history, tries, status, now=now)),
        failures=tuple(
            group_failures(
                tries,
                status.failures if status is not None else (),
                is_done=lambda chunk: history.state(chunk) is ChunkState.DONE,
                frames=frames,
            )
        ),
        films=films,
        outputs=outputs,
        pictures=tuple(_read_pictures(records)),
    )
    return GatheredReport(report, history)


def _find_end(status: JobStatus | None, history: ChunkHistory) -> datetime | None:
    if status is not None and status.state.has_ended:
        return status.updated_at
    last = max(history.facts.published_at, default=0)
    return datetime.fromtimestamp(last, UTC) if last else None


def _read_outputs(records: JobRecords, status: JobStatus | None) -> tuple[tuple[FilmProof, ...], OutputProof]:
    """Read the records of all published files: those of films, and the digest of the list of all others."""
    result = status.result if status is not None else None
    told: dict[str, FilmResult] = {film.output: film for film in result.films} if result is not None else {}
    # Path, digest, size and chunk: as models many files would take several times the time and the memory.
    films, listed, count, size = [], list[tuple[str, str, int, int]](), 0, 0
    for record in records.finished_records():
        if find_film_number(record.key) is not None:
            films += list(_prove_film(records, record, told))
            continue
        for file in record.files:
            count, size = count + 1, size + file.size_bytes
            if count <= _MOST_DIGESTED:
                listed.append((_shorten_path(records, file.path), file.sha256, file.size_bytes, int(record.key)))
    listed.sort()
    digest = ""
    if 0 < count <= _MOST_DIGESTED:
        lines = (f"{sha256}  {path}\n".encode("utf-8", "surrogateescape") for path, sha256, _, _ in listed)
        digest = hashlib.sha256(b"".join(lines)).hexdigest()
    first = (
        OutputFile(path=path, sha256=sha256, size_bytes=size_bytes, chunk=chunk)
        for path, sha256, size_bytes, chunk in listed[:_MOST_LISTED]
    )
    return tuple(films), OutputProof(files=count, size_bytes=size, list_sha256=digest, first=tuple(first))


def _shorten_path(records: JobRecords, path: str) -> str:
    return path.removeprefix(f"{records.store.url.rstrip('/')}/")


def _prove_film(records: JobRecords, record: Record, told: dict[str, FilmResult]) -> Iterator[FilmProof]:
    published = record.publication
    for file in record.files:
        result = told.get(file.path, FilmResult(output=file.path, sha256=file.sha256))
        yield FilmProof(
            path=_shorten_path(records, file.path),
            sha256=file.sha256,
            size_bytes=file.size_bytes,
            frames=result.frames or (published.frames if published else 0),
            duration_seconds=result.duration_seconds or (published.duration_seconds if published else None),
            proof=result.proof or (published.proof if published else ""),
            notes=published.notes if published else (),
        )


def _read_pictures(records: JobRecords) -> list[ReportPicture]:
    """Read some of the small pictures that chunks have left, at even distances."""
    folder = records.pictures_dir
    found = [match for match in map(_PICTURE_NAME.fullmatch, records.store.names(folder)) if match is not None]
    # By frames; names have the chunk first, whose frames follow each other.
    found.sort(key=lambda match: (int(match[1]), int(match[2])))
    step = max(1.0, len(found) / _MOST_PICTURES)
    chosen = [found[int(number * step)] for number in range(min(len(found), _MOST_PICTURES))]

    def read(match: re.Match[str]) -> ReportPicture | None:
        try:
            data = records.store.read(f"{folder}/{match[0]}", most_bytes=_MOST_PICTURE_BYTES)
        except (FileNotFoundError, OversizedFileError):
            return None
        kind = next((kind for magic, kind in _KINDS if data.startswith(magic)), "")
        if not kind:
            return None
        return ReportPicture(chunk=int(match[1]), frame=int(match[2]), name=match[0], kind=kind, data=data)

    return [picture for picture in map_parallel(records.store, read, chosen) if picture is not None]


def _find_renderer(records: JobRecords, history: ChunkHistory) -> str:
    """Return what a renderer says of itself at the beginning of the log of a finished chunk; empty where nothing."""
    chunk = next(history.find(ChunkState.DONE), None)
    publication = records.find_publication(f"{chunk:06}") if chunk is not None else None
    if publication is None or not publication.log.startswith(f"{records.logs_dir}/"):
        return ""
    try:
        head = records.store.read(publication.log)[:_HEAD_BYTES].decode("utf-8", "replace")
    except OSError:
        return ""
    lines = (strip_controls(line) for line in head.splitlines()[:40])
    return next((match[1].strip() for match in map(_VERSION.match, lines) if match is not None), "")[:120]
