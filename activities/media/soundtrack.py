"""The sound of a film while its pictures are being joined."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from av.stream import Stream

from activities.media.audio import audio_stream
from activities.media.source import AnyPacket, open_media
from activities.media.writer import FilmWriter

# Declares the stream in a film and yields its packets, timed from the film's start.
Source = Callable[[FilmWriter], tuple[Stream, Iterator[AnyPacket]]]


class Soundtrack:
    """Sound that is written in step with the pictures, so that neither waits in memory for the other."""

    def __init__(self, source: Source | None) -> None:
        self._source = source
        self._stream: Stream | None = None
        self._packets: Iterator[AnyPacket] = iter(())
        self._next: AnyPacket | None = None

    def attach(self, film: FilmWriter) -> None:
        """Declares its stream, after the video's and before the first packet."""
        if self._source is not None:
            self._stream, self._packets = self._source(film)

    def write_until(self, film: FilmWriter, seconds: float | None) -> None:
        """Writes what begins up to that time of the film, or all that is left."""
        if self._stream is None:
            return
        while (packet := self._next or next(self._packets, None)) is not None:
            self._next = packet
            begins = packet.dts if packet.dts is not None else packet.pts
            if seconds is not None and begins is not None and float(begins * packet.time_base) > seconds:
                return
            packet.stream = self._stream
            film.write(packet)
            self._next = None


@contextmanager
def score_sound(path: Path) -> Iterator[Soundtrack]:
    """Copies a soundtrack that is already in its final codec and length."""
    with open_media(path) as container:
        score = audio_stream(container, path.name)

        def source(film: FilmWriter) -> tuple[Stream, Iterator[AnyPacket]]:
            return film.add_copy(score), (packet for packet in container.demux(score) if packet.size)

        yield Soundtrack(source)
