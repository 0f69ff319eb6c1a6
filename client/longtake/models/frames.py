"""Model the frames of a job: ranges that are cut into chunks, chunks one by one, and frames to be rendered anew."""

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from longtake.frame_list import (
    LARGEST_FRAME,
    FrameChunks,
    cut_frames,
    format_frame_list,
    list_frames,
    parse_frame_list,
)
from longtake.models.fields import Arguments, Contract
from longtake.templates import fill_command, fill_path
from longtake.text import quote_value

MOST_CHUNKS = 1_000_000
# `FrameRange` has a field called range.
_Numbers = range


class FrameRange(Contract):
    """Frames of a job, cut into chunks of equal length; the last chunk of each run may be shorter.

    As a person writes them also a text such as `1-10,15,20-100x2`, or a list of numbers and such texts. Frames of one
    run are kept as `first`, `count` and `step`, however they were written: the same frames have the same digest.
    """

    key_hints: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("start", "last", "end", "stop", "to", "list"), 'write range, as in range: "1-10", or first and count'
    )

    first: int = Field(default=0, ge=-LARGEST_FRAME, le=LARGEST_FRAME, description="number of the first frame")
    count: int = Field(ge=1, le=LARGEST_FRAME, description="how many frames the job has")
    step: int = Field(default=1, ge=1, le=LARGEST_FRAME, description="from one frame to the next; 2 is every other one")
    range: str | None = Field(default=None, description="frames of several runs as text, as in 1-10,15,20-100x2")
    per_chunk: int = Field(default=100, ge=1, le=LARGEST_FRAME, description="frames a chunk")

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            raise ValueError(
                f"is {quote_value(value)}; write {{count: {value}}}, or {{first: {value}, count: 1}} for that frame "
                "alone"
            )
        if isinstance(value, str | list | tuple):
            value = {"range": value}
        if not isinstance(value, dict) or value.get("range") is None:
            return value
        text, step = _join_frame_list(value["range"]), value.get("step", 1)
        if not isinstance(step, int) or isinstance(step, bool) or step < 1:
            # Refused by the field, which says so better.
            step = 1
        runs = parse_frame_list(text, step)
        made: dict[str, object] = {"first": runs[0][0], "count": sum(map(len, runs))}
        for key, number in made.items():
            if value.get(key, number) != number:
                raise ValueError(f"{key} stands beside range, which tells the frames; leave one of the two out")
        made["step"] = runs[0].step if len(runs) == 1 else 1
        made["range"] = None if len(runs) == 1 else format_frame_list(runs)
        return {**value, **made}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        last = self.runs[-1][-1]
        if last >= LARGEST_FRAME:
            raise ValueError(f"end beyond {LARGEST_FRAME}, the last number renderers count to; lower first or count")
        if self.chunk_count > MOST_CHUNKS:
            raise ValueError(
                f"make {self.chunk_count:,} chunks, and a job has at most {MOST_CHUNKS:,}; raise per_chunk to at "
                f"least {-(-self.count // MOST_CHUNKS)}"
            )
        return self

    @property
    def runs(self) -> tuple[_Numbers, ...]:
        """Frame numbers in ascending order, as runs with one step each."""
        if self.range is not None:
            return parse_frame_list(self.range)
        return (_Numbers(self.first, self.first + (self.count - 1) * self.step + 1, self.step),)

    @property
    def chunks(self) -> FrameChunks:
        """Frame numbers of each chunk."""
        return cut_frames(self.runs, self.per_chunk)

    @property
    def chunk_count(self) -> int:
        """Number of chunks that these frames make."""
        return len(self.chunks)

    @property
    def has_steps(self) -> bool:
        """Whether frames between others are left out within a chunk."""
        return any(run.step > 1 for run in self.runs) and self.per_chunk > 1


def _join_frame_list(value: object) -> str:
    """Return a list of frames as one text.

    Raises:
        ValueError: An element is neither a number nor text.
    """
    if isinstance(value, str):
        return value
    elements = value if isinstance(value, list | tuple) else [value]
    for element in elements:
        if not isinstance(element, str | int) or isinstance(element, bool):
            raise ValueError(f"has {quote_value(element)}, which is no frame; write numbers, and ranges as in 1-10")
    return ",".join(map(str, elements))


class ChunkSpec(Contract):
    """One chunk of an explicit list; fields that are left out come from the job."""

    id: int | None = Field(default=None, ge=0, description="name of the chunk in its own pipeline")
    start: int = Field(ge=-LARGEST_FRAME, le=LARGEST_FRAME, description="number of its first frame")
    count: int = Field(ge=1, le=LARGEST_FRAME, description="how many frames it has")
    output: str | None = Field(default=None, description="path of its output")
    command: Arguments | None = Field(default=None, description="its own command")

    @property
    def frames(self) -> range:
        """Numbers of the frames."""
        return range(self.start, self.start + self.count)

    def fill_placeholders(self, values: Mapping[str, str]) -> Self:
        """Return the chunk with placeholders of its job replaced."""
        if self.output is None and self.command is None:
            return self
        output, command = fill_path(self.output, values), fill_command(self.command, values)
        return self.model_copy(update={"output": output, "command": command})


class Rerender(Contract):
    """Request to render some frames of a finished job anew; carried out once, also where the job is started again."""

    frames: str = Field(description="frames as text, as in 12-15")
    id: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$", description="name of the request, unlike all others")

    @field_validator("frames")
    @classmethod
    def _is_list(cls, value: str) -> str:
        list_frames(value)
        return format_frame_list(parse_frame_list(value))

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the frames, in ascending order."""
        return list_frames(self.frames)


class ChunkList(Contract):
    """Reference to a job file with a chunk list too long for a message; workers read the file themselves."""

    path: str = Field(description="job file that holds the list, relative to base_dir")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="digest of that file")
    count: int = Field(ge=1, le=MOST_CHUNKS, description="how many chunks it holds")
