"""Cut the beginning of a chunk for the trial of a film."""

from dataclasses import replace
from fractions import Fraction

from activities.media.containers import find_video_stream, open_media
from activities.media.facts import ChunkFile
from activities.media.video import round_half_up


def shorten_chunk(chunk: ChunkFile, fps: Fraction, frames: int) -> ChunkFile:
    """Return a chunk that ends with one of its first frames: at or after `frames`, where no later one is stored before.

    Args:
        chunk: The chunk.
        fps: Its exact rate.
        frames: How many frames are wanted at least.

    Raises:
        DamagedOutput: The file is missing or unreadable.
    """
    if chunk.facts is None or chunk.frames <= frames:
        return chunk
    stored, latest = 0, -1
    first: int | None = None
    with open_media(chunk.path, copies=True) as container:
        stream = find_video_stream(container, chunk.path.name)
        rate = (stream.time_base or Fraction(1, 1000)) * fps
        for packet in container.demux(stream):
            if packet.size == 0 or packet.pts is None:
                continue
            first = packet.pts if first is None else first
            stored += 1
            latest = max(latest, round_half_up((packet.pts - first) * rate.numerator, rate.denominator))
            if stored >= frames and latest == stored - 1:
                break
    if stored >= chunk.frames:
        return chunk
    facts = chunk.facts.model_copy(update={"frames": stored, "last_picture": "", "chapters": ()})
    return replace(chunk, frames=stored, facts=facts, is_cut=True)
