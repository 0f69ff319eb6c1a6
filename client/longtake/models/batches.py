"""Model what a job and its batches tell each other: workflows that each render a share of the chunks of a large job."""

from pydantic import Field

from longtake.models.continuation import SavedChunks, SavedSpans, SavedTotals
from longtake.models.fields import Contract
from longtake.models.job_fields import JobFields
from longtake.models.messages import Chunks
from longtake.models.status import ChunkFailure


class BatchOrder(Contract):
    """RenderJob to ChunkBatch: render these chunks, so many at once."""

    job: JobFields = Field(description="the rules of the job; what tells how to render is read from its store")
    spans: SavedSpans = Field(description="where its chunks stand; those of others count as left out")
    slots: int = Field(ge=1, description="chunks that render at once")


class BatchControl(Contract):
    """RenderJob to ChunkBatch: all orders that hold, however many were given before."""

    number: int = Field(default=0, description="orders count on; one with a smaller number is older")
    freeze: int = Field(default=0, description="number of the freeze in force; 0 without one")
    is_recalled: bool = Field(default=False, description="start no chunk, and come back")
    left_out: Chunks = Field(default=(), description="chunks that were skipped since it began")


class BatchRest(Contract):
    """ChunkBatch to RenderJob: a freeze is carried out."""

    batch: str = Field(description="id of the batch")
    freeze: int = Field(description="number of the freeze")
    frozen: int = Field(default=0, description="chunks that stand frozen")


class BatchReport(Contract):
    """ChunkBatch to RenderJob, as its result, however it ends: what its chunks have come to."""

    chunks: SavedChunks
    totals: SavedTotals = SavedTotals()
    failures: tuple[ChunkFailure, ...] = Field(default=(), max_length=20)
    notices: tuple[str, ...] = Field(default=(), max_length=20, description="what people should know; the first")
