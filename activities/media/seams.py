"""Compare decoded pictures of a joined film with those of its chunks: first, last, around seams, or all of them."""

import hashlib
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from activities.media.containers import AnyPacket, find_video_stream, open_media
from activities.media.decoder import PictureDecoder, decode_pictures, hash_picture
from activities.media.facts import ChunkFile, DamagedOutput, JoinStopped, VideoFacts, name_chunk_in_errors

# A film has these seams decoded in any case, spread evenly over it; of films with more the others as time allows.
LEAST_SEAMS = 16
# Share of the time of join and verification that decoding of further seams may take. A seam of H.264 costs up to one
# group of pictures, here a whole chunk: decoding film and chunks in full took 40 times as long as `ffmpeg -f concat
# -c copy` of 1,000 chunks of 25 frames, 320 by 180 (`make bench-stitch`).
_SEAM_SHARE = 0.1
# What took long to render is worth more: with this share of the time of its rendering every seam of a real film is
# decoded, and only those of chunks that cost next to nothing are not.
_RENDER_SHARE = 0.01


@dataclass(frozen=True)
class JoinedChunk:
    """One chunk in its place in a film.

    Attributes:
        file: The chunk.
        facts: What its own check has found.
        before: How many frames the film has before it.
        last_key: Which of its frames, in the order of storage, is its last key frame.
    """

    file: ChunkFile
    facts: VideoFacts
    before: int
    last_key: int


@dataclass(frozen=True)
class JoinedFilm:
    """What a join has made.

    Attributes:
        facts: What `verify_film` should find in the film; its sound is not described.
        chunks: The chunks in film order.
        seconds: How long the join took.
        sizes: Size in bytes of each packet of its pictures.
    """

    facts: VideoFacts
    chunks: tuple[JoinedChunk, ...]
    seconds: float
    sizes: "array[int]"


class SeamDecoder:
    """Decode and compare pictures of a joined film while all its packets pass by.

    Each seam is one run of the decoder, in a thread of its own: from the last key frame before it to the first frame
    after it. Where the last frame of a chunk was too dear to be decoded when the chunk was checked (`EdgeDecoder`), it
    still is: there the run is the first frame of the next chunk alone, by which parameters that do not fit are seen.
    """

    def __init__(self, stream: VideoStream, name: str, film: JoinedFilm, fps: Fraction) -> None:
        self._decoder = PictureDecoder(stream, name)
        self._name = name
        self._chunks = film.chunks
        self._fps = fps
        self._base = stream.time_base or Fraction(1, 1000)
        self._began = time.monotonic() - film.seconds
        self._spent = 0.0
        self._granted = _RENDER_SHARE * sum(chunk.file.render_seconds for chunk in film.chunks)
        self._must = _spread(len(film.chunks) - 1, LEAST_SEAMS)
        # Seam -1 is the beginning of the film, and the last one its end.
        self._seam = -1
        self._is_decoding = False
        # Packet at which its decoding begins.
        self._start = 0
        self._first_pts = 0
        self._run: list[tuple[AnyPacket, int]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="seam-decoder")
        self._running: Future[None] | None = None
        self._is_closed = False
        self.first: VideoFrame | None = None
        self.last: VideoFrame | None = None
        self.leaves_out_last = False
        self.compared_seams = 0
        self.compared_starts = 0

    @property
    def seams(self) -> int:
        """Number of seams of the film."""
        return len(self._chunks) - 1

    def needs(self, number: int) -> bool:
        """Tell whether a packet of the film is decoded; asked for each of them in turn, at least once."""
        while number == self._start and not self._is_decoding:
            if self._is_due():
                self._is_decoding = True
            else:
                self._go_on()
        return self._is_decoding

    def add(self, packet: AnyPacket, number: int) -> None:
        """Take the next packet of the film."""
        if not self.needs(number):
            return
        if number == 0:
            self._first_pts = packet.pts or 0
        self._run.append((packet, number))
        # A run ends with the first frame after its seam, where the run of the next seam may begin, too.
        if number == self._stop(self._seam):
            self._end_run()
            self._go_on()
            self.add(packet, number)

    def finish(self) -> None:
        """Take the end of the film."""
        self._end_run()
        self._wait()

    def close(self) -> None:
        """End the thread, before the film is closed."""
        self._is_closed = True
        self._thread.shutdown(cancel_futures=True)

    def _go_on(self) -> None:
        """Turn to the next seam."""
        self._seam += 1
        chunk = self._chunks[self._seam]
        self._start = chunk.before + chunk.last_key if self._has_end(self._seam) else self._stop(self._seam)

    def _has_end(self, seam: int) -> bool:
        """Tell whether the frame before a seam is decoded; the last one of the film always is."""
        return seam == self.seams or bool(self._chunks[seam].facts.last_picture)

    def _stop(self, seam: int) -> int:
        return self._chunks[seam + 1].before if seam < self.seams else -1

    def _is_due(self) -> bool:
        if self._seam < 0 or self._seam == self.seams or self._seam in self._must:
            return True
        if self._spent < self._granted:
            return True
        if self._running is not None and not self._running.done():
            return False
        return self._spent <= _SEAM_SHARE * (time.monotonic() - self._began)

    def _end_run(self) -> None:
        if not self._is_decoding:
            return
        self._is_decoding = False
        run, self._run = self._run, []
        # No more than one run waits in memory.
        self._wait()
        self._running = self._thread.submit(self._compare_run, run, self._seam)

    def _wait(self) -> None:
        """Wait for the run that is being decoded, and raise what was found in it."""
        if self._running is not None:
            self._running.result()

    def _compare_run(self, run: Sequence[tuple[AnyPacket, int]], seam: int) -> None:
        began = time.monotonic()
        places = self._list_places(seam)
        wanted = {chunk.before + frame for chunk, frame in places}
        shown = {}
        for picture in self._decode(run):
            index = round(((picture.pts or 0) - self._first_pts) * self._base * self._fps)
            if index in wanted:
                shown[index] = picture
        tail = [packet for packet, _ in run] if seam == self.seams else []
        pictures = [self._compare(shown, chunk, frame, tail) for chunk, frame in places]
        if seam < 0:
            (self.first,) = pictures
        elif seam == self.seams:
            (self.last,) = pictures
        elif self._has_end(seam):
            self.compared_seams += 1
        else:
            self.compared_starts += 1
        self._spent += time.monotonic() - began

    def _list_places(self, seam: int) -> list[tuple[JoinedChunk, int]]:
        """List the frames at a seam, each as its chunk and its number there."""
        ended = self._chunks[seam : seam + 1] if seam >= 0 and self._has_end(seam) else ()
        before = [(chunk, chunk.file.frames - 1) for chunk in ended]
        return [*before, *((chunk, 0) for chunk in self._chunks[seam + 1 : seam + 2])]

    def _decode(self, run: Sequence[tuple[AnyPacket, int]]) -> Iterator[VideoFrame]:
        for packet, number in run:
            if self._is_closed:
                return
            yield from self._decoder.decode(packet, number)
        yield from self._decoder.end_run()

    def _compare(
        self, shown: dict[int, VideoFrame], chunk: JoinedChunk, frame: int, tail: Sequence[AnyPacket]
    ) -> VideoFrame:
        """Compare the picture of a frame of a chunk with that of the film, and return the film's."""
        index = chunk.before + frame
        if index not in shown:
            raise DamagedOutput(self._name, f"shows no picture at its frame {index} when it is decoded")
        expected = chunk.facts.first_picture if frame == 0 else chunk.facts.last_picture
        is_last = chunk is self._chunks[-1] and frame > 0
        if (expected or is_last) and hash_picture(shown[index]) != expected:
            with name_chunk_in_errors(chunk.file, self._chunks.index(chunk)):
                _confirm(self._name, shown[index], chunk, index, () if expected else tail)
        return shown[index]


def _spread(count: int, wanted: int) -> frozenset[int]:
    """Spread numbers evenly over [0, count)."""
    if count <= wanted:
        return frozenset(range(count))
    return frozenset(round(number * (count - 1) / (wanted - 1)) for number in range(wanted))


def _confirm(name: str, picture: VideoFrame, chunk: JoinedChunk, index: int, tail: Sequence[AnyPacket]) -> None:
    """Decode the chunk here, too, before a film is refused: the host that rendered it may round otherwise.

    Args:
        name: Name of the film.
        picture: What the film shows.
        chunk: The chunk that the frame belongs to.
        index: Number of the frame in the film.
        tail: Packets of the film that the picture was decoded from; where the chunk has the very same, it shows the
            same. A group of pictures is a whole chunk by default, and was decoded twice for the end of each film.

    Raises:
        DamagedOutput: The chunk is another file than was published, or the film shows another picture than it does.
    """
    path = chunk.file.path
    if chunk.file.sha256:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != chunk.file.sha256:
                raise DamagedOutput(path.name, "has another content than was published")
    if tail and _has_packets(chunk, tail):
        return
    wanted = hash_picture(picture)
    with open_media(path) as container:
        stream = find_video_stream(container, path.name)
        place = index - chunk.before
        for number, frame in enumerate(decode_pictures(container, stream, path.name)):
            if number == place:
                if hash_picture(frame) == wanted:
                    return
                break
    raise DamagedOutput(name, f"shows another picture at its frame {index} than {chunk.file.name} does")


def _has_packets(chunk: JoinedChunk, tail: Sequence[AnyPacket]) -> bool:
    """Tell whether a chunk goes on with these very packets from its last key frame on."""
    path = chunk.file.path
    with open_media(path, copies=True) as container:
        stream = find_video_stream(container, path.name)
        own = islice((packet for packet in container.demux(stream) if packet.size), chunk.last_key, None)
        return sum(bytes(mine) == bytes(packet) for mine, packet in zip(own, tail, strict=False)) == len(tail)


def compare_all_frames(film: Path, chunks: Sequence[JoinedChunk], stop: threading.Event | None) -> int:
    """Decode a film and all its chunks, compare each frame, and return how many there are.

    Raises:
        DamagedOutput: A frame cannot be decoded, is missing, or is another one than the chunk's.
        JoinStopped: `stop` was set.
    """
    count = 0
    shown = _hash_all(film, stop)
    for chunk in chunks:
        # Of a cut chunk the film has the beginning alone; any other one with more frames than were joined is an error.
        most = chunk.file.frames if chunk.file.is_cut else None
        for expected in islice(_hash_all(chunk.file.path, stop), most):
            found = next(shown, None)
            if found is None:
                problem = f"shows only {count} frames when it is decoded: {chunk.file.name} has more"
                raise DamagedOutput(film.name, problem)
            if found != expected:
                raise DamagedOutput(
                    film.name, f"shows another picture at its frame {count} than {chunk.file.name} does"
                )
            count += 1
    if next(shown, None) is not None:
        raise DamagedOutput(film.name, f"shows more frames than its {count} when it is decoded")
    return count


def count_decoded_frames(film: Path, stop: threading.Event | None) -> int:
    """Decode a whole film and return how many frames it shows.

    Raises:
        DamagedOutput: A frame cannot be decoded.
        JoinStopped: `stop` was set.
    """
    return sum(1 for _ in _decode_all(film, stop))


def _hash_all(path: Path, stop: threading.Event | None) -> Iterator[str]:
    return map(hash_picture, _decode_all(path, stop))


def _decode_all(path: Path, stop: threading.Event | None) -> Iterator[VideoFrame]:
    with open_media(path) as container:
        stream = find_video_stream(container, path.name)
        for frame in decode_pictures(container, stream, path.name):
            if stop is not None and stop.is_set():
                raise JoinStopped(path.name)
            yield frame
