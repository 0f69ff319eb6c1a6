"""Joining the chunks of a film without touching a single encoded picture."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path

from activities.media.chunk import ChunkFile, told_of
from activities.media.errors import DamagedOutput, JoinStopped, MismatchedOutput
from activities.media.facts import VideoFacts
from activities.media.pcm import chunk_sound
from activities.media.soundtrack import Soundtrack, score_sound
from activities.media.source import open_media, video_stream
from activities.media.video import inspect_video
from activities.media.writer import FilmWriter

__all__ = ["ChunkFile", "join_video"]

# Often enough for a progress bar, rarely enough to cost nothing.
_PROGRESS_FRAMES = 500


def join_video(
    chunks: Sequence[ChunkFile],
    target: Path,
    *,
    fps: Fraction,
    audio: Path | None = None,
    progress: Callable[[int], None],
    stop: threading.Event,
) -> VideoFacts:
    """Writes the film of all chunks to `target`, each frame at exactly its place, and syncs it to disk.

    Nothing is decoded, so each frame equals the chunk's. The times come from counting frames, so no rounding
    adds up over any number of chunks. Every chunk is inspected before the first byte is written. One chunk is
    open at a time (two where chunks carry PCM sound). After an error nothing is left at `target`.

    Args:
        chunks: In film order.
        target: A private path whose extension says the container: mp4, m4v, mov, mkv, webm or ts.
        fps: The exact rate of the film.
        audio: A soundtrack in its final codec and length (see `audio_command`). Without it, PCM sound in the
            chunks is joined sample by sample; other sound in them is left out.
        progress: Called with the number of frames written so far.
        stop: Ends the join when set.

    Returns:
        What `verify_film` should find in the film; its sound is not described.

    Raises:
        DamagedOutput: A chunk is missing, cut, or of the wrong length; `chunk` says which.
        MismatchedOutput: A chunk does not fit chunk 0, or the container cannot hold the codec.
        JoinStopped: `stop` was set.
    """
    if not chunks:
        raise DamagedOutput(target.name, "has no chunks to be joined from")
    facts = _inspect_all(chunks, fps, stop)
    total = sum(chunk.frames for chunk in chunks)
    reorder_frames = max(each.reorder_frames for each in facts)
    with _sound(chunks, facts, target, fps, audio) as sound, FilmWriter(target, fps, reorder_frames) as film:
        written = 0
        for index, chunk in enumerate(chunks):
            with told_of(chunk, index):
                for _ in _copy_chunk(chunk, written, film, sound, stop):
                    written += 1
                    if written % _PROGRESS_FRAMES == 0:
                        progress(written)
            progress(written)
        sound.write_until(film, None)
    return facts[0].model_copy(update={"frames": total, "reorder_frames": reorder_frames, "audio": ""})


def _inspect_all(chunks: Sequence[ChunkFile], fps: Fraction, stop: threading.Event) -> list[VideoFacts]:
    found: list[VideoFacts] = []
    for index, chunk in enumerate(chunks):
        with told_of(chunk, index):
            facts = inspect_video(chunk.path, fps=fps, frames=chunk.frames, stop=stop)
            problem = facts.mismatch(found[0]) if found else None
            if problem is None and not facts.starts_clean:
                problem = "does not begin with a key frame that is shown first, so nothing can be put before it"
            if problem is not None:
                raise MismatchedOutput(chunk.path.name, problem)
            found.append(facts)
    return found


def _sound(
    chunks: Sequence[ChunkFile], facts: list[VideoFacts], target: Path, fps: Fraction, audio: Path | None
) -> AbstractContextManager[Soundtrack]:
    if audio is not None:
        return score_sound(audio)
    layouts = [each.audio for each in facts]
    if not any(layout.startswith("pcm_") for layout in layouts):
        return nullcontext(Soundtrack(None))
    for index, layout in enumerate(layouts):
        if layout != layouts[0]:
            problem = f"has other sound: {layout or 'none'} instead of {layouts[0] or 'none'}"
            with told_of(chunks[index], index):
                raise MismatchedOutput(chunks[index].path.name, problem)
    return nullcontext(chunk_sound(chunks, target.suffix.lower(), fps))


def _copy_chunk(
    chunk: ChunkFile, before: int, film: FilmWriter, sound: Soundtrack, stop: threading.Event
) -> Iterator[int]:
    seen = bytearray(chunk.frames)
    with open_media(chunk.path) as container:
        stream = video_stream(container, chunk.path.name)
        if before == 0:
            film.add_video(stream)
            sound.attach(film)
            film.begin()
        first: int | None = None
        place = 0
        for packet in container.demux(stream):
            if stop.is_set():
                raise JoinStopped(chunk.name)
            if packet.size == 0 or packet.pts is None:
                continue
            first = packet.pts if first is None else first
            index = film.frame_of((packet.pts - first) * packet.time_base)
            if not 0 <= index < chunk.frames or seen[index]:
                break
            seen[index] = 1
            sound.write_until(film, film.seconds_of(before + place))
            film.write_frame(packet, before + index, before + place)
            place += 1
            yield index
    if not all(seen):
        raise DamagedOutput(chunk.path.name, "was changed while it was being joined")
