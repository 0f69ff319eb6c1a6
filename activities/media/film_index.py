"""Read the index of a film that was just written, and of its pictures only those that are decoded."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from av.video.stream import VideoStream

from activities.media.containers import AnyPacket, find_video_stream, open_media
from activities.media.facts import DamagedOutput

# Codecs of large pictures, each of its own, whose packets a muxer writes as they are; those of H.264 it may wrap anew.
_COPIED_AS_THEY_ARE = frozenset({"prores", "dnxhd", "cfhd", "hap"})
# AVINDEX_KEYFRAME, alone: the picture needs no other one, and is shown.
_KEY_FRAME = 1


def read_index(
    path: Path,
    stream: VideoStream,
    written: "array[int]",
    *,
    needs: Callable[[int], bool],
    add: Callable[[AnyPacket, int], None],
) -> "array[int] | None":
    """Return the times of all pictures of an open film, by the index of an MP4 or QuickTime file.

    Proves that the file has each packet that was written, one behind the other and in full size. Reading all of a film
    of large pictures, as other films are read, took a fifth of the time of join and check; the bytes themselves are
    read when the film is published, for its digest.

    Args:
        path: The film.
        stream: Its pictures, in a container that is open.
        written: Size in bytes of each packet, as it was written.
        needs: Tells whether a packet is to be read, by its number.
        add: Called with each packet that was read.

    Returns:
        Times in the time base of the stream; None where the index does not tell all: another container or codec, or
        sound.

    Raises:
        DamagedOutput: A packet is missing, or of another size than was written.
    """
    container = stream.container
    if "mov" not in container.format.name.split(",") or len(container.streams) > 1:
        return None
    if stream.codec_context.codec.canonical_name not in _COPIED_AS_THEY_ARE:
        return None
    # Copied, because PyAV's entries point into memory of libav, which may move while the file is read.
    entries = [(entry.pos, entry.size, entry.timestamp, entry.flags) for entry in stream.index_entries]
    if any(flags != _KEY_FRAME for *_, flags in entries):
        return None
    _compare(path, [(position, size) for position, size, _, _ in entries], written)
    # A container of its own: to seek flushes the decoders of a container, and one of them is at work in a thread.
    with open_media(path, copies=True) as copied:
        pictures = find_video_stream(copied, path.name)
        packets: Iterator[AnyPacket] = iter(())
        last = -2
        for number, (position, _, time, _) in enumerate(entries):
            if not needs(number):
                continue
            if number != last + 1:
                copied.seek(time, stream=pictures)
                packets = copied.demux(pictures)
            add(_find_packet(packets, position, time, path.name, number), number)
            last = number
    return array("q", (time for _, _, time, _ in entries))


def _compare(path: Path, entries: Sequence[tuple[int, int]], written: "array[int]") -> None:
    """Raise unless a file has the packets that were written to it, one behind the other."""
    if len(entries) != len(written):
        raise DamagedOutput(path.name, f"holds {len(entries)} frames instead of {len(written)}")
    end = 0
    for number, ((position, size), expected) in enumerate(zip(entries, written, strict=True)):
        if size != expected or position < end:
            raise DamagedOutput(path.name, f"has another frame {number} than was written")
        end = position + size
    if end > path.stat().st_size:
        raise DamagedOutput(path.name, f"is cut short: {end - path.stat().st_size} bytes are missing")


def _find_packet(packets: Iterator[AnyPacket], position: int, time: int, name: str, number: int) -> AnyPacket:
    for packet in packets:
        if packet.pos == position and packet.pts == packet.dts == time:
            return packet
    raise DamagedOutput(name, f"has no frame {number} where its index says")
