"""Cut a job into chunks; each chunk is computed when it is asked for."""

import hashlib
import json
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from uuid import uuid4

from pydantic import ValidationError

from longtake.errors import BadJobError
from longtake.models.frames import ChunkSpec, Rerender
from longtake.models.job import RenderJobSpec
from longtake.models.outputs import OutputTemplate, list_command_words
from longtake.output_patterns import OutputPlaces, expand_for_blender
from longtake.paths import OutputKind, classify_output
from longtake.ranges import Range, RangeSet, format_ranges
from longtake.templates import chunk_values, expand_template, find_placeholders, is_divisible, mark_frame_numbers
from longtake.text import describe_invalid


@dataclass(frozen=True)
class Chunk:
    """One unit of rendering, checking and retrying: some frames of a job, or a part of such a unit.

    Args:
        index: Number of the chunk in the job, from 0.
        frames: Numbers of the frames; its `stop` is the number after the last one.
        templates: Its outputs, the main one first.
        command_template: Command that renders the chunk, with placeholders.
        whole: Frames of the whole chunk, if this is a part of a chunk.
        id: Name of the chunk in its own pipeline; None if that is the index.
    """

    index: int
    frames: range
    templates: tuple[OutputTemplate, ...]
    command_template: tuple[str, ...]
    whole: range | None = None
    id: int | None = None

    @property
    def start(self) -> int:
        """Number of the first frame."""
        return self.frames.start

    @property
    def stop(self) -> int:
        """Number after the last frame."""
        return self.frames.stop

    @property
    def count(self) -> int:
        """Number of frames of the chunk."""
        return len(self.frames)

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
        return chunk_values(self.index, self.frames)

    @property
    def is_divisible(self) -> bool:
        """Whether the command can render a part of the frames, each into a file of its own."""
        if self.kind is not OutputKind.FRAMES or self.writes_in_place:
            return False
        return is_divisible(self._command_words)

    @property
    def is_frame_by_frame(self) -> bool:
        """Whether each frame is rendered by a command of its own, which would render those between as well."""
        return self.frames.step > 1 and "step" not in self._command_words

    @property
    def _command_words(self) -> frozenset[str]:
        """Names of the placeholders in the command."""
        allowed = list_command_words(self.templates)
        words = (find_placeholders(part, field="command", allowed=allowed) for part in self.command_template)
        return frozenset[str]().union(*words)

    def slice_frames(self, start: int, stop: int) -> "Chunk":
        """Return the part with some of the frames, whose files have the same names as in the whole chunk.

        Args:
            start: First frame of the part, counted from the first one of the chunk.
            stop: The one after the last.
        """
        if not 0 <= start < stop <= self.count:
            raise ValueError(f"[{start}, {stop}) is no part of the {self.count} frames of chunk {self.index}")
        numbers = self.frames[start:stop]
        part = range(numbers[0], numbers[-1] + 1, numbers.step if len(numbers) > 1 else 1)
        return replace(self, frames=part, whole=self.whole or self.frames)

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
        for frame in self.frames:
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
        return chunk_values(self.index, self.whole or self.frames)


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
                frames=own.frames,
                templates=self._job.templates_of(own),
                command_template=own.command or self._job.command or (),
                id=own.id,
            )
        return Chunk(
            index=index,
            frames=self._job.frames.chunks[index],
            templates=self._templates,
            command_template=self._job.command or (),
        )

    def compute_digest(self, index: int) -> str:
        """Compute the SHA-256 of all that decides the outputs of a chunk: chunks with one digest render the same files.

        Other chunks of the job and its film have no part in it, so that a longer job and another film keep it.
        """
        chunk = self[index]
        # Fields of later versions count where a job has them.
        own = {field.name: getattr(chunk, field.name) for field in fields(chunk)}
        own["templates"] = [[one.path, *one.names, one.shared] for one in chunk.templates]
        own["frames"] = [chunk.start, chunk.count, chunk.frames.step if chunk.count > 1 else 1]
        return _hash_json({name: value for name, value in own.items() if value is not None} | {"job": self._work})

    @cached_property
    def _work(self) -> str:
        return _hash_json(self._job.dump_chunk_work())

    def find_frames(self, frames: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """Return the chunks that hold some frames, and which of their frames those are, counted from 0.

        Args:
            frames: Numbers of frames, in ascending order.
        """
        found: dict[int, tuple[int, ...]] = {}
        if self._job.frames is not None:
            chunks = self._job.frames.chunks
            for frame in frames:
                if (index := chunks.find_chunk(frame)) is not None:
                    found[index] = (*found.get(index, ()), chunks[index].index(frame))
            return found
        for index, chunk in enumerate(self._listed):
            within = frames[bisect_left(frames, chunk.start) : bisect_left(frames, chunk.start + chunk.count)]
            if within:
                found[index] = tuple(frame - chunk.start for frame in within)
        return found

    def find_lacking(self, frames: Sequence[int]) -> tuple[Range, ...]:
        """Return those of some frames, in ascending order, that no chunk holds."""
        there = RangeSet(
            (frame, frame + 1)
            for chunk, held in self.find_frames(frames).items()
            for frame in map(self[chunk].frames.__getitem__, held)
        )
        return RangeSet((frame, frame + 1) for frame in frames if frame not in there).ranges

    def request_rerender(self, frames: str) -> Rerender:
        """Return a new request to render frames of the job anew.

        Args:
            frames: The frames, as in "12-15,20".

        Raises:
            BadJobError: The text names no frames, or one that is none of the job's.
        """
        try:
            request = Rerender(frames=frames, id=uuid4().hex)
        except ValidationError as error:
            raise BadJobError(describe_invalid(error)) from error
        # Chunks of a list in a file are known to workers.
        if self._job.chunk_list is None and (lacking := self.find_lacking(request.numbers)):
            raise BadJobError(f"frames: {format_ranges(lacking)} are not among those of the job; name others")
        return request

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
        before = frames.chunks.count_frames_before
        return sum(before(stop) - before(start) for start, stop in chunks)


def _hash_json(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
