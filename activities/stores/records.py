"""The store's bookkeeping, as JSON files that outlive every process of ours."""

from datetime import datetime

from pydantic import Field

from activities.media.video import VideoFacts
from longtake.contract import Contract
from longtake.stores import job_records


class PublishedFile(job_records.PublishedFile):
    """One file that an attempt made and that was published under its final name."""

    attempt_path: str = Field(description="location where the attempt wrote it; gone once it is published")


class KeptFrame(Contract):
    """One finished frame of a chunk that is not finished."""

    frame: int = Field(ge=0, description="which frame of the chunk it is, counted from 0")
    file: str = Field(pattern=r"^[0-9][^/]*$", description="name of its file, beside this record")
    attempt: str = Field(description="name of the attempt that made it")
    size_bytes: int
    sha256: str
    width: int
    height: int
    format: str


class KeptBatch(Contract):
    """Frames that were verified together; written before their files appear, so that a file without one is foreign."""

    frames: tuple[KeptFrame, ...]


class Sidecar(Contract):
    """The proof that a chunk, or the film, is finished; once it stands, the work is never done again."""

    key: str = Field(description="number of the chunk, or `film`")
    digest: str = Field(description="identity of the job's work")
    attempt: str = Field(description="name of the attempt that made it")
    host: str = ""
    frames: int = 0
    files: tuple[PublishedFile, ...]
    video: VideoFacts | None = Field(default=None, description="stream parameters that chunks must share")
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = Field(default=None, description="of the film")
    render_seconds: float = 0
    cpu_seconds: float = Field(default=0, description="CPU time of the attempt's processes")
    peak_memory_bytes: int = Field(default=0, description="most memory that they had at once")
    log: str = Field(default="", description="path of the attempt's log")
    published_at: datetime | None = None
