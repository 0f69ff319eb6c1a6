"""Cut a job into chunks; each chunk is computed when it is asked for."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import ChunkSpec
from longtake.models.outputs import OutputTemplate, list_command_words
from longtake.output_patterns import OutputPlaces, expand_for_blender
from longtake.paths import OutputKind, classify_output
from longtake.ranges import Range
from longtake.templates import chunk_values, expand_template, find_placeholders, mark_frame_numbers


@dataclass(frozen=True)
class Chunk:
    """One unit of rendering, checking and retrying: the frames `[start, stop)` of a job, or a part of such a unit.

    Args:
        index: Number of the chunk in the job, from 0.
        start: Number of the first frame.
        stop: Number after the last frame.
        templates: Its outputs, the main one first.
        command_template: Command that renders the chunk, with placeholders.
        whole: Frames of the whole chunk, if this is a part of a chunk.
        id: Name of the chunk in its own pipeline; None if that is the index.
    """

    index: int
    start: int
    stop: int
    templates: tuple[OutputTemplate, ...]
    command_template: tuple[str, ...]
    whole: Range | None = None
    id: int | None = None

    @property
    def count(self) -> int:
        """Number of frames of the chunk."""
        return self.stop - self.start

    @property
    def kind(self) -> OutputKind:
        """Kind of the main output; the others are image files, too, or none of them is."""
        return classify_output(self.output_template)

    @property
    def output_template(self) -> str:
        """Path of the main output, with placeholders."""
        return self.templates[0].path

    @property
    def files_per_output(self) -> int:
        """Number of files of each output. The files of a chunk are those of one output after the other."""
        return self.count if self.kind is OutputKind.FRAMES else 1

    @property
    def placeholder_values(self) -> dict[str, int | str]:
        """Values of the placeholders of the command, without those of outputs."""
        return chunk_values(self.index, self.start, self.stop)

    @property
    def is_divisible(self) -> bool:
        """Whether the command can render a part of the frames, each into a file of its own."""
        if self.kind is not OutputKind.FRAMES or self.writes_in_place:
            return False
        allowed = list_command_words(self.templates)
        known = frozenset[str]().union(
            *(find_placeholders(part, field="command", allowed=allowed) for part in self.command_template)
        )
        return "start" in known and bool(known & {"stop", "last", "count"})

    def slice_frames(self, start: int, stop: int) -> "Chunk":
        """Return the part with the frames `[start, stop)`, whose files have the same names as in the whole chunk."""
        if not self.start <= start < stop <= self.stop:
            raise ValueError(f"[{start}, {stop}) is no part of [{self.start}, {self.stop})")
        return replace(self, start=start, stop=stop, whole=self.whole or (self.start, self.stop))

    @property
    def writes_in_place(self) -> bool:
        """Whether the command names its output itself, as some Helios files do."""
        return not any("{output" in part.replace("{{", "") for part in self.command_template)

    def outputs(self) -> tuple[str, ...]:
        """Return the paths of all outputs, as the job names them."""
        return tuple(self.iter_outputs())

    def iter_outputs(self) -> Iterator[str]:
        """Yield the paths of all outputs, each made when asked for: a chunk may have a hundred thousand."""
        for template in self.templates:
            yield from self._iter_files(template)

    def _iter_files(self, template: OutputTemplate) -> Iterator[str]:
        if self.kind is not OutputKind.FRAMES:
            yield expand_template(template.path, self._path_values)
            return
        values = dict(self._path_values)
        for frame in range(self.start, self.stop):
            values["frame"] = frame
            yield expand_template(template.path, values)

    @property
    def first_output(self) -> str:
        """Path of the first file of the main output, as the job names it."""
        return self.first_outputs[0]

    @property
    def first_outputs(self) -> tuple[str, ...]:
        """Path of the first file of each output, as the job names it."""
        return tuple(next(self._iter_files(template)) for template in self.templates)

    def place_outputs(self, locate: Callable[[str], str]) -> tuple[OutputPlaces, ...]:
        """Return what the placeholders of each output stand for.

        Args:
            locate: Returns where a path of the job lies.
        """
        return tuple(
            OutputPlaces(
                template.names,
                locate(mark_frame_numbers(template.path, self._path_values)),
                locate(mark_frame_numbers(template.shared or template.path, self._path_values)),
            )
            for template in self.templates
        )

    def expand_command(self, template: tuple[str, ...], places: Sequence[OutputPlaces]) -> tuple[str, ...]:
        """Return a command with the placeholders of this chunk replaced.

        Args:
            template: The command.
            places: What `place_outputs` returned.
        """
        values = dict(self.placeholder_values)
        for place in reversed(places):
            values |= place.values
        return tuple(expand_template(part, values) for part in expand_for_blender(template, places))

    @property
    def _path_values(self) -> dict[str, int | str]:
        """Values of the placeholders of the output path: a part of a chunk has the paths of the whole chunk."""
        return chunk_values(self.index, *(self.whole or (self.start, self.stop)))


class ChunkPlan:
    """Present the chunks of a job as a sequence; chunks are made when asked for, so that a million take no memory.

    Args:
        job: The job.
        listed: Explicit chunks of a job whose list is in a file (`job.chunk_list`), read by the caller.
    """

    def __init__(self, job: RenderJobSpec, listed: Sequence[ChunkSpec] = ()) -> None:
        self._job = job
        self._listed: Sequence[ChunkSpec] = job.inline_chunks or listed
        self._templates = job.output_templates

    def __len__(self) -> int:
        return self._job.chunk_count

    def __iter__(self) -> Iterator[Chunk]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Chunk:
        if not 0 <= index < len(self):
            raise IndexError(f"chunk {index} of {len(self)}")
        if self._job.frames is None:
            own = self._listed[index]
            return Chunk(
                index=index,
                start=own.start,
                stop=own.start + own.count,
                templates=self._job.templates_of(own),
                command_template=own.command or self._job.command or (),
                id=own.id,
            )
        frames = self._job.frames
        start = frames.first + index * frames.per_chunk
        return Chunk(
            index=index,
            start=start,
            stop=min(start + frames.per_chunk, frames.first + frames.count),
            templates=self._templates,
            command_template=self._job.command or (),
        )

    @cached_property
    def _counts(self) -> "array[int]":
        """Number of frames of each listed chunk."""
        return array("L", (chunk.count for chunk in self._listed))

    @property
    def frame_count(self) -> int:
        """Number of frames of all chunks together."""
        return self.count_frames([(0, len(self))])

    def count_frames(self, chunks: Iterable[Range]) -> int:
        """Return the number of frames of these ranges of chunks together."""
        frames = self._job.frames
        if frames is None:
            return sum(sum(self._counts[start:stop]) for start, stop in chunks)
        return sum(min(stop * frames.per_chunk, frames.count) - start * frames.per_chunk for start, stop in chunks)
