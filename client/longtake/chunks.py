"""Cut a job into chunks: any chunk of a million is computed from a few numbers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import ChunkSpec
from longtake.paths import OutputKind, classify_output
from longtake.ranges import Range
from longtake.templates import COMMAND_PLACEHOLDERS, chunk_values, expand_template, find_placeholders, printf_pattern


@dataclass(frozen=True)
class Chunk:
    """One unit of rendering, checking and retrying: the frames `[start, stop)` of a job, or a part of such a one."""

    index: int
    start: int
    stop: int
    output_template: str
    command_template: tuple[str, ...]
    # The frames of the whole chunk, where this is a part of one.
    whole: Range | None = None
    # What its own pipeline calls it; None where that counts as we do.
    id: int | None = None

    @property
    def count(self) -> int:
        """How many frames it has."""
        return self.stop - self.start

    @property
    def kind(self) -> OutputKind:
        """What it writes, and so how it is checked."""
        return classify_output(self.output_template)

    @property
    def words(self) -> dict[str, int | str]:
        """What the placeholders of its command stand for, but for those of outputs."""
        return chunk_values(self.index, self.start, self.stop)

    @property
    def is_divisible(self) -> bool:
        """Whether its command can render a part of its frames, each into a file of its own."""
        if self.kind is not OutputKind.FRAMES or self.writes_in_place:
            return False
        known = frozenset[str]().union(
            *(find_placeholders(part, field="command", allowed=COMMAND_PLACEHOLDERS) for part in self.command_template)
        )
        return "start" in known and bool(known & {"stop", "last", "count"})

    def part(self, start: int, stop: int) -> "Chunk":
        """Return the frames `[start, stop)` of it: its command renders those alone, and names files as before."""
        if not self.start <= start < stop <= self.stop:
            raise ValueError(f"[{start}, {stop}) is no part of [{self.start}, {self.stop})")
        return replace(self, start=start, stop=stop, whole=self.whole or (self.start, self.stop))

    @property
    def writes_in_place(self) -> bool:
        """Whether its command names its output itself, as some Helios files do."""
        return not any("{output" in part.replace("{{", "") for part in self.command_template)

    def outputs(self) -> tuple[str, ...]:
        """Return the paths it publishes, as the job names them."""
        if self.kind is not OutputKind.FRAMES:
            return (expand_template(self.output_template, self._path_words),)
        return tuple(
            expand_template(self.output_template, {**self._path_words, "frame": frame})
            for frame in range(self.start, self.stop)
        )

    def output_pattern(self) -> str:
        """Return the path for `{output}`: the file, or the printf pattern of the image files."""
        if self.kind is not OutputKind.FRAMES:
            return expand_template(self.output_template, self._path_words)
        return printf_pattern(self.output_template, self._path_words)

    def command(self, template: tuple[str, ...], *, output: str, output_dir: str) -> tuple[str, ...]:
        """Return a command of this chunk with its placeholders replaced."""
        words = {**self.words, "output": output, "output_dir": output_dir}
        return tuple(expand_template(part, words) for part in template)

    @property
    def _path_words(self) -> dict[str, int | str]:
        """What the words of its output stand for: a part of a chunk writes where the whole one does."""
        return chunk_values(self.index, *(self.whole or (self.start, self.stop)))


class ChunkPlan:
    """The chunks of a job, made as they are asked for: a million of them take no memory.

    Args:
        job: The job.
        listed: The explicit chunks of a job whose list is in a file (`job.chunk_list`), read by the caller.
    """

    def __init__(self, job: RenderJobSpec, listed: Sequence[ChunkSpec] = ()) -> None:
        self._job = job
        self._listed: Sequence[ChunkSpec] = job.inline_chunks or listed

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
                output_template=own.output or self._job.chunk_output or "",
                command_template=own.command or self._job.command or (),
                id=own.id,
            )
        frames = self._job.frames
        start = frames.first + index * frames.per_chunk
        return Chunk(
            index=index,
            start=start,
            stop=min(start + frames.per_chunk, frames.first + frames.count),
            output_template=self._job.chunk_output or "",
            command_template=self._job.command or (),
        )

    @property
    def frame_count(self) -> int:
        """How many frames all chunks have together."""
        return self.frames_in([(0, len(self))])

    def frames_in(self, chunks: Iterable[Range]) -> int:
        """Return how many frames these ranges of chunks have together."""
        frames = self._job.frames
        if frames is None:
            return sum(chunk.count for start, stop in chunks for chunk in self._listed[start:stop])
        return sum(min(stop * frames.per_chunk, frames.count) - start * frames.per_chunk for start, stop in chunks)
