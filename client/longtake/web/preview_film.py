"""Cut what of a job can be watched into segments, each of frames that are finished, with the place of their sound."""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from longtake.chunks import ChunkPlan
from longtake.descriptor_process import MOST_FILES
from longtake.models.audio import AudioTrack
from longtake.models.job import RenderJobSpec
from longtake.paths import OutputKind
from longtake.ranges import RangeSet
from longtake.sound_formats import StreamKind
from longtake.web.problems import ProblemError

# Segments are about this long, but no chunk of video is cut.
_SEGMENT_SECONDS = 2
MOST_SEGMENTS = 5_000
# Pictures of one segment; the sound of the whole film is a file, too.
MOST_PICTURES = MOST_FILES - 1


@dataclass(frozen=True)
class PreviewSegment:
    """A piece of a preview: frames of a chunk, or of several that follow each other.

    Args:
        chunk: Its first chunk.
        skip: Frames of that chunk that come before.
        frames: How many frames it has.
        at: Frames of the preview that come before.
    """

    chunk: int
    skip: int
    frames: int
    at: int


@dataclass(frozen=True)
class PreviewFragment:
    """Fragmented MP4 of a piece of a film.

    Args:
        init: The init segment.
        media: The fragment; its time begins at 0.
        tick: Duration of a frame, in ticks of its clock.
        clocks: Where the times of the pictures, and of their sound if they have some, stand in the fragment.
    """

    init: bytes
    media: bytes
    tick: int
    clocks: tuple[int, ...]

    def begin_at(self, frames: int, samples: int = 0) -> bytes:
        """Return the fragment as it stands in a preview behind so many frames, and samples of their sound."""
        media = bytearray(self.media)
        # ISO 14496-12, sections 8.8.5 and 8.8.12.
        struct.pack_into(">I", media, media.index(b"mfhd") + 8, frames + 1)
        for place, time in zip(self.clocks, (frames * self.tick, samples), strict=False):
            struct.pack_into(">Q" if media[place] else ">I", media, place + 4, time)
        return bytes(media)


@dataclass(frozen=True)
class PreviewSound:
    """Form of the sound of a preview, which all of its segments have.

    Args:
        rate: Samples of a second.
        channels: One or two.
    """

    rate: int
    channels: int

    PATTERN = r"[1-9]\d{3,5}x[12]"

    @classmethod
    def parse(cls, text: str) -> "PreviewSound | None":
        """Read what an address tells of it; None where there is no sound."""
        rate, _, channels = text.partition("x")
        return cls(int(rate), int(channels)) if text else None

    def __str__(self) -> str:
        return f"{self.rate}x{self.channels}"

    def count_samples(self, frames: int, rate: Fraction) -> int:
        """Return how many samples a film has before a frame."""
        return round(frames * self.rate / rate)


class PreviewFilm:
    """What of a job can be watched, as it was known at one moment.

    Args:
        job: The job.
        plan: Its chunks.
        finished: Those that are finished.
        is_over: Whether there will not be more.
    """

    def __init__(self, job: RenderJobSpec, plan: ChunkPlan, finished: RangeSet, *, is_over: bool) -> None:
        self.job = job.select_film(job.film_items[0][1])
        self.rate = job.rate
        self.source = max(0, job.film_source)
        self.is_sequence = job.film_kind is OutputKind.FRAMES
        self.can_be_seen = self.is_sequence or job.film_kind is OutputKind.VIDEO
        self.plan = plan
        self.finished = finished
        self._is_over = is_over

    @property
    def first(self) -> int | None:
        """The first chunk that is finished."""
        return next(iter(self.finished), None)

    @property
    def track(self) -> AudioTrack | None:
        """The first sound of the whole film."""
        return next(iter(self.job.audio_tracks), None)

    @property
    def has_own_sound(self) -> bool:
        """Whether what is heard is the sound of the chunks, if these have any."""
        return self.track is None and not self.is_sequence and StreamKind.AUDIO not in self.job.drop

    def count_frames_before(self, segment: PreviewSegment) -> int:
        """Return how many frames of the job come before those of a segment."""
        return self.plan.count_frames([(0, segment.chunk)]) + segment.skip

    def place_fragments(
        self, fragments: Sequence[PreviewFragment], segment: PreviewSegment, sound: PreviewSound | None
    ) -> bytes:
        """Return the fragments of a segment, each at its time in the preview."""
        counts = [stop - first for _, first, stop in self.walk(segment)]
        begin, at = self.count_frames_before(segment) if sound else 0, segment.at
        content = b""
        for fragment, count in zip(fragments, counts, strict=False):
            samples = 0
            if sound is not None:
                begin_of_preview = sound.count_samples(begin - segment.at, self.rate)
                samples = sound.count_samples(begin + at - segment.at, self.rate) - begin_of_preview
            content += fragment.begin_at(at, samples)
            at += count
        return content

    def list_segments(self, start: int) -> tuple[list[PreviewSegment], bool]:
        """Return the segments of the run of finished chunks from one on, and whether there will not be more.

        The last ones are told once they cannot grow any more, so that a list only ever gets longer.
        """
        stop = next((first for first, _ in self.finished.gaps(start, len(self.plan)).ranges), len(self.plan))
        is_over = self._is_over or stop == len(self.plan)
        least = math.ceil(_SEGMENT_SECONDS * self.rate)
        cut = self._cut_frames if self.is_sequence else self._cut_chunks
        found: list[PreviewSegment] = []
        for segment, is_whole in cut(range(start, stop), min(least, MOST_PICTURES) if self.is_sequence else least):
            if len(found) == MOST_SEGMENTS:
                return found, True
            if is_whole or is_over:
                found.append(segment)
        return found, is_over

    def _cut_chunks(self, chunks: range, least: int) -> Iterator[tuple[PreviewSegment, bool]]:
        first, frames, at = chunks.start, 0, 0
        for chunk in chunks:
            frames += self.plan[chunk].count
            if frames >= least:
                yield PreviewSegment(first, 0, frames, at), True
                first, frames, at = chunk + 1, 0, at + frames
        if frames:
            yield PreviewSegment(first, 0, frames, at), False

    def _cut_frames(self, chunks: range, least: int) -> Iterator[tuple[PreviewSegment, bool]]:
        first, skip, frames, at = chunks.start, 0, 0, 0
        for chunk in chunks:
            count, taken = self.plan[chunk].count, 0
            while taken < count:
                if not frames:
                    first, skip = chunk, taken
                step = min(count - taken, least - frames)
                frames, taken = frames + step, taken + step
                if frames == least:
                    yield PreviewSegment(first, skip, frames, at), True
                    frames, at = 0, at + least
        if frames:
            yield PreviewSegment(first, skip, frames, at), False

    def walk(self, segment: PreviewSegment) -> Iterator[tuple[int, int, int]]:
        """Yield the chunks of a segment, with the first of their frames that is of it and the one behind the last.

        Raises:
            ProblemError: There is no such segment, or one of its chunks is not finished.
        """
        left, skip, chunk = segment.frames, segment.skip, segment.chunk
        while left > 0:
            if chunk >= len(self.plan) or chunk not in self.finished:
                raise ProblemError(404, f"chunk {chunk} is not finished", kind="nothing-finished")
            count = self.plan[chunk].count
            if skip >= count or (not self.is_sequence and (skip or count > left)):
                raise ProblemError(404, "there is no such segment", kind="no-such-segment")
            taken = min(count - skip, left)
            yield chunk, skip, skip + taken
            left, skip, chunk = left - taken, 0, chunk + 1
