"""Joining the chunks of a film packet by packet, without decoding, and their sound with them."""

import re
import threading
import time
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path

from activities.media.containers import check_structure, find_video_stream, open_media
from activities.media.facts import (
    Chapter,
    ChunkFile,
    DamagedOutput,
    JoinStopped,
    MismatchedOutput,
    SoundFile,
    VideoFacts,
    name_chunk_in_errors,
)
from activities.media.seams import JoinedChunk, JoinedFilm
from activities.media.soundtrack import (
    Soundtrack,
    find_sound_problem,
    join_chunk_sound,
    open_soundtrack,
)
from activities.media.video import inspect_video, round_half_up
from activities.media.writer import FilmLabels, FilmSize, FilmWriter
from longtake.sound_formats import StreamKind

# Often enough for a progress bar, rarely enough to cost nothing.
_PROGRESS_FRAMES = 500
# Above this size the room for an index, 36 bytes a frame at most, is small beside the film.
_LARGE_FILM_BYTES = 1 << 26
# Size, time offset, key frame, and place of one sample in an MP4 file (ISO 14496-12, stsz, ctts, stss, co64, stsc).
_INDEX_ENTRY_BYTES = 4 + 8 + 4 + 8 + 12
# Codec parameters, tags and chapters.
_INDEX_HEAD_BYTES = 1 << 20
# A second of 192 kHz in packets of 1024 samples.
_MOST_SOUND_PACKETS = 200
_TIMECODE = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.,])(\d\d+)")


def join_video(
    chunks: Sequence[ChunkFile],
    target: Path,
    *,
    fps: Fraction,
    audio: Sequence[SoundFile] = (),
    drop: Collection[StreamKind] = (),
    progress: Callable[[int], None],
    stop: threading.Event,
    pattern: Path | None = None,
) -> JoinedFilm:
    """Join all chunks to a film at `target`, each frame at exactly its place.

    Nothing is decoded, so each frame equals the chunk's. The times come from counting frames, so no rounding
    adds up over any number of chunks. What the chunks say of themselves (shape of pixels, rotation, HDR, language,
    timecode and the like) the film says, too. No byte is written before all chunks are known to fit. One chunk is
    open at a time, and once more for each PCM sound in it. After an error nothing is left at `target`. The film is not
    synced to disk: `stage_files` does that with all that is published.

    Args:
        chunks: In film order.
        target: A private path whose extension says the container, as in `MUXERS`.
        fps: The exact rate of the film.
        audio: Sounds in their final codec and length (see `build_audio_command`). Without them, all PCM sounds in the
            chunks are joined sample by sample.
        drop: Kinds of streams that are left out; others that cannot be joined are refused.
        progress: Called with the number of frames written so far.
        stop: Ends the join when set.
        pattern: The file whose stream is the pattern of the film's; default: the first chunk.

    Raises:
        DamagedOutput: A chunk is missing, cut, or of the wrong length; `chunk` says which.
        MismatchedOutput: A chunk does not fit chunk 0, its sound cannot be joined, or the container cannot hold the
            codec.
        JoinStopped: `stop` was set.
    """
    if not chunks:
        raise DamagedOutput(target.name, "has no chunks to be joined from")
    began = time.monotonic()
    facts = _find_facts(chunks, fps, stop, drop, has_audio=bool(audio))
    total = sum(chunk.frames for chunk in chunks)
    reorder_frames = max(each.reorder_frames for each in facts)
    labels = _find_labels(chunks, facts, fps)
    joined: list[JoinedChunk] = []
    sizes = array("q")
    with (
        _sound(chunks, facts, target, fps, audio, drop) as sound,
        FilmWriter(target, fps, reorder_frames, labels, _find_size(chunks, facts, fps, audio)) as film,
    ):
        written = 0
        for index, (chunk, found) in enumerate(zip(chunks, facts, strict=True)):
            last_key = 0
            before = written
            with name_chunk_in_errors(chunk, index):
                for is_key, size in _copy_chunk(chunk, written, film, sound, stop, pattern):
                    sizes.append(size)
                    last_key = written - before if is_key else last_key
                    written += 1
                    if written % _PROGRESS_FRAMES == 0:
                        progress(written)
            joined.append(JoinedChunk(chunk, found, before, last_key))
            progress(written)
        sound.write_until(film, None)
    changes: dict[str, object] = {
        "frames": total,
        "reorder_frames": reorder_frames,
        "audio": "",
        "tags": {key: text for key, text in labels.tags.items() if key != "title"},
        "stream_tags": {key: text for key, text in labels.stream_tags.items() if key not in ("language", "timecode")},
        "chapters": labels.chapters,
        "last_picture": facts[-1].last_picture,
    }
    return JoinedFilm(facts[0].model_copy(update=changes), tuple(joined), time.monotonic() - began, sizes)


def find_join_problem(facts: VideoFacts, *, drop: Collection[StreamKind], has_audio: bool) -> str | None:
    """Find why a chunk, whatever the others are, can have no place in a film or would lose something; None if not.

    Args:
        facts: What is known of the chunk.
        drop: Kinds of streams that the job wants to be left out.
        has_audio: The job has a sound of the whole film, in place of those of the chunks.
    """
    if facts.codec and not facts.pixel_format:
        return f"holds {facts.codec}, which nothing here can read, so no film can be joined of it; leave output out"
    if not facts.starts_clean:
        return "does not begin with a key frame that is shown first, so nothing can be put before it"
    if not has_audio and StreamKind.AUDIO not in drop and (problem := find_sound_problem(facts.sounds or ())):
        return problem
    for stream in facts.other_streams:
        kind = _KINDS.get(stream.partition(" ")[0], StreamKind.DATA)
        if kind not in drop:
            return f"holds a stream that cannot be joined: {stream}; render none, or leave it out with drop: [{kind}]"
    return None


_KINDS = {
    "subtitle": StreamKind.SUBTITLES,
    "attachment": StreamKind.ATTACHMENTS,
    "cover": StreamKind.ATTACHMENTS,
}


def _find_facts(
    chunks: Sequence[ChunkFile],
    fps: Fraction,
    stop: threading.Event,
    drop: Collection[StreamKind],
    *,
    has_audio: bool,
) -> list[VideoFacts]:
    """Find the facts of all chunks, which must fit each other; chunks without facts of this version are checked."""
    found: list[VideoFacts] = []
    for index, chunk in enumerate(chunks):
        with name_chunk_in_errors(chunk, index):
            facts = chunk.facts
            if facts is None or not has_all_facts(chunk):
                facts = inspect_video(chunk.path, fps=fps, frames=chunk.frames, stop=stop)
            check_fit(chunk, facts, found[0] if found else facts, drop=drop, has_audio=has_audio)
            found.append(facts)
    return found


def has_all_facts(chunk: ChunkFile) -> bool:
    """Tell whether all that a join must know of a chunk is known, so that it need not be checked anew."""
    return chunk.facts is not None and chunk.facts.sounds is not None and chunk.facts.frames == chunk.frames


def check_fit(
    chunk: ChunkFile, facts: VideoFacts, first: VideoFacts, *, drop: Collection[StreamKind], has_audio: bool
) -> None:
    """Raise unless a chunk can have a place in a film that begins with the first one; see `find_join_problem`.

    Raises:
        MismatchedOutput: It cannot.
    """
    problem = facts.find_mismatch(first) or find_join_problem(facts, drop=drop, has_audio=has_audio)
    if problem is not None:
        raise MismatchedOutput(chunk.path.name, problem)


def _find_labels(chunks: Sequence[ChunkFile], facts: Sequence[VideoFacts], fps: Fraction) -> FilmLabels:
    """Find what the film says of itself: what all chunks say alike, and the chapters of all of them."""
    _check_timecodes(chunks, facts, fps)
    first = facts[0]
    tags = {key: text for key, text in first.tags.items() if all(each.tags.get(key) == text for each in facts)}
    stream_tags = {
        key: text for key, text in first.stream_tags.items() if all(each.stream_tags.get(key) == text for each in facts)
    }
    if first.title:
        tags["title"] = first.title
    for key, text in (("language", first.language), ("timecode", first.timecode)):
        if text and text != "und":
            stream_tags[key] = text
    return FilmLabels(tags, stream_tags, first.alpha == "1", tuple(_join_chapters(facts, fps)))


def _join_chapters(facts: Sequence[VideoFacts], fps: Fraction) -> Iterator[Chapter]:
    before = 0
    for each in facts:
        offset = float(before / fps)
        for start, stop, title in each.chapters:
            yield start + offset, stop + offset, title
        before += each.frames


def _check_timecodes(chunks: Sequence[ChunkFile], facts: Sequence[VideoFacts], fps: Fraction) -> None:
    """Raise unless each chunk has the timecode of the first one, or one that continues it."""
    start = facts[0].timecode
    before = 0
    for index, (chunk, each) in enumerate(zip(chunks, facts, strict=True)):
        if each.timecode is not None and start is not None and each.timecode != start:
            one, other = _count_timecode(start, fps), _count_timecode(each.timecode, fps)
            places = {before, before if chunk.position is None else chunk.position - (chunks[0].position or 0)}
            # At midnight timecodes begin anew; those that leave out numbers count fewer frames a day.
            day = _count_timecode(f"24:00:00{start[8:9]}00", fps)
            if one is None or other is None or not day or (other - one) % day not in {place % day for place in places}:
                with name_chunk_in_errors(chunk, index):
                    problem = f"has another timecode: {each.timecode or 'none'} instead of {start or 'none'}"
                    raise MismatchedOutput(chunk.path.name, f"{problem}, or one that continues it")
        before += chunk.frames


def _count_timecode(timecode: str, fps: Fraction) -> int | None:
    """Count the frames from 00:00:00:00 to a timecode; None if it is no timecode."""
    match = _TIMECODE.fullmatch(timecode)
    if match is None:
        return None
    hours, minutes, seconds, frame = (int(match[group]) for group in (1, 2, 3, 5))
    nominal = round(fps)
    count = ((hours * 60 + minutes) * 60 + seconds) * nominal + frame
    if match[4] == ":":
        return count
    # Drop-frame: two numbers in 30 are left out each minute, but for each tenth (SMPTE ST 12-1).
    whole = hours * 60 + minutes
    return count - nominal // 15 * (whole - whole // 10)


def _sound(
    chunks: Sequence[ChunkFile],
    facts: Sequence[VideoFacts],
    target: Path,
    fps: Fraction,
    audio: Sequence[SoundFile],
    drop: Collection[StreamKind],
) -> AbstractContextManager[Soundtrack]:
    if audio:
        return open_soundtrack(audio)
    sounds = [each.sounds or () for each in facts]
    if StreamKind.AUDIO in drop or not any(sounds):
        return nullcontext(Soundtrack())
    labels = [each.sound_labels for each in facts]
    for index, each in enumerate(sounds):
        problem = None
        if each != sounds[0]:
            problem = f"has other sound: {_list(each)} instead of {_list(sounds[0])}"
        elif None not in (labels[index], labels[0]) and labels[index] != labels[0]:
            problem = f"has other sound: {_list(labels[index] or ())} instead of {_list(labels[0] or ())}"
        if problem is not None:
            with name_chunk_in_errors(chunks[index], index):
                raise MismatchedOutput(chunks[index].path.name, problem)
    return nullcontext(join_chunk_sound(chunks, target.suffix.lower(), fps, len(sounds[0])))


def _list(sounds: Sequence[str]) -> str:
    return " and ".join(sounds) or "none"


def _find_size(
    chunks: Sequence[ChunkFile], facts: Sequence[VideoFacts], fps: Fraction, audio: Sequence[SoundFile]
) -> FilmSize | None:
    """Find how large a large film becomes at most; None for small ones."""
    files = (*(chunk.path for chunk in chunks), *(sound.path for sound in audio))
    size_bytes = sum(path.stat().st_size for path in files if path.exists())
    if size_bytes < _LARGE_FILM_BYTES:
        return None
    frames = sum(chunk.frames for chunk in chunks)
    tracks = len(audio) or len(facts[0].sounds or ())
    packets = int(frames / fps * _MOST_SOUND_PACKETS) * tracks
    index_bytes = (frames + packets) * _INDEX_ENTRY_BYTES + _INDEX_HEAD_BYTES
    return FilmSize(size_bytes + index_bytes, index_bytes)


def _copy_chunk(
    chunk: ChunkFile, before: int, film: FilmWriter, sound: Soundtrack, stop: threading.Event, pattern: Path | None
) -> Iterator[tuple[bool, int]]:
    """Copy the packets of one chunk; yield for each whether it is a key frame, and its size."""
    seen = bytearray(chunk.frames)
    check_structure(chunk.path)
    # The first chunk is the pattern of the film's stream.
    with open_media(chunk.path, copies=before > 0) as container:
        stream = find_video_stream(container, chunk.path.name)
        if before == 0:
            with open_media(pattern) if pattern else nullcontext(container) as like:
                film.add_video(find_video_stream(like, like.name))
                sound.attach(film)
                film.write_header()
        first: int | None = None
        place = 0
        frames = (stream.time_base or Fraction(1, 1000)) * film.fps
        top, bottom = frames.numerator, frames.denominator
        has_sound = not sound.is_silent
        for packet in container.demux(stream):
            if stop.is_set():
                raise JoinStopped(chunk.name)
            if packet.size == 0 or packet.pts is None:
                continue
            if packet.is_corrupt:
                raise DamagedOutput(chunk.path.name, f"is damaged at its frame {place}")
            first = packet.pts if first is None else first
            index = round_half_up((packet.pts - first) * top, bottom)
            if not 0 <= index < chunk.frames or seen[index]:
                break
            seen[index] = 1
            is_key, size = packet.is_keyframe, packet.size
            if has_sound:
                sound.write_until(film, film.find_decode_seconds(before + place))
            film.write_frame(packet, before + index, before + place)
            place += 1
            yield is_key, size
    if not all(seen):
        raise DamagedOutput(chunk.path.name, "was changed while it was being joined")
