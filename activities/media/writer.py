"""Writing films: muxing packets at exact times."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import av
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.stream import Stream
from av.video.stream import VideoStream

from activities.media.containers import READERS, TIMED_BY_PICTURES, AnyPacket
from activities.media.disk_space import release_space, reserve_space
from activities.media.facts import Chapter, MismatchedOutput
from activities.media.matroska import (
    NAME_PADDING,
    PIXELS,
    RATIO,
    TrackCodec,
    build_windows_codec,
    read_codec,
    set_codec,
    set_display_size,
)
from activities.media.quicktime import set_languages
from activities.media.shapes import set_pixel_shape
from activities.media.video import convert_to_annex_b

if TYPE_CHECKING:
    from av.container.core import Chapter as ContainerChapter

MUXERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
    ".avi": "avi",
    ".mxf": "mxf",
}
# By the reader of a film: those of the chunks whose tags mean the same in it.
_TAG_FAMILIES = {
    "mov": frozenset({"mov"}),
    "matroska": frozenset({"matroska"}),
    "avi": frozenset({"avi", "matroska"}),
}
# The first byte of AVCDecoderConfigurationRecord (ISO 14496-15), which AVI files have no place for.
_AVCC_VERSION = b"\x01"
# MXF files know codecs by labels, and not by the tags by which AVI and QuickTime files do.
_TAGS_OF_LABELS = {"dvvideo": "dvsd", "dnxhd": "AVdn"}
# Of these a QuickTime file tells the kinds apart by tags, which other containers have taken from there.
_TAGGED_KINDS = frozenset({"prores", "hap"})
# libav would write any other codec as data that nothing can play.
_TRANSPORTED = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video"})
# What ffmpeg itself takes for the smallest time scale worth having in mp4.
_SMALLEST_TIMESCALE = 10000
# ffmpeg's own default (`-muxdelay 0.7`); without it players get clock references later than pictures.
_TRANSPORT_DELAY_MICROSECONDS = "700000"


def compute_timescale(fps: Fraction) -> int:
    """Compute a time scale (ticks a second) in which a frame is a whole number of ticks, so that no time is rounded."""
    return fps.numerator * -(-_SMALLEST_TIMESCALE // fps.numerator)


@dataclass(frozen=True)
class FilmLabels:
    """What a film says of itself, as its chunks did.

    Attributes:
        tags: Title, comment, artist and the like, of the file.
        stream_tags: Language, timecode, alpha and stereo mode and the like, of the pictures.
        has_alpha: VP8 or VP9 pictures have a second stream of transparency, of which their decoder knows nothing.
        chapters: Chapters as (from, to, tags), in seconds of the film.
    """

    tags: dict[str, str] = field(default_factory=dict)
    stream_tags: dict[str, str] = field(default_factory=dict)
    has_alpha: bool = False
    chapters: tuple[Chapter, ...] = ()


# The names under which MP4 and QuickTime files keep tags in places of their own; others need another kind of list.
_USUAL_TAGS = frozenset(
    [
        "title",
        "artist",
        "album_artist",
        "album",
        "author",
        "comment",
        "composer",
        "copyright",
        "date",
        "description",
        "episode_id",
        "genre",
        "grouping",
        "keywords",
        "lyrics",
        "make",
        "model",
        "network",
        "show",
        "synopsis",
        "track",
        "disc",
        "location",
    ]
)


@dataclass(frozen=True)
class FilmSize:
    """How large a film becomes at most.

    Attributes:
        film_bytes: All of it.
        index_bytes: Its index, where it is an MP4 or QuickTime file.
    """

    film_bytes: int
    index_bytes: int


class FilmWriter:
    """A film being written; leaving the block finishes it, or removes it after an error."""

    def __init__(
        self,
        path: Path,
        fps: Fraction,
        reorder_frames: int,
        labels: FilmLabels | None = None,
        size: FilmSize | None = None,
    ) -> None:
        muxer = MUXERS.get(path.suffix.lower())
        if muxer is None:
            raise MismatchedOutput(path.name, f"cannot be joined: films end in {', '.join(MUXERS)}")
        self._path = path
        self._reorder_frames = reorder_frames
        self._timescale = compute_timescale(fps)
        # AVI and MXF files count frames.
        self._tick = 1 / fps if muxer in TIMED_BY_PICTURES else Fraction(1, self._timescale)
        self._frame_ticks = int(1 / fps / self._tick)
        self._frame_seconds = float(1 / fps)
        self._labels = labels or FilmLabels()
        self._size = size
        self._muxer = muxer
        self._shown: tuple[int, int, int] | None = None
        self._codec: TrackCodec | None = None
        self._shape: tuple[int, int, Fraction] | None = None
        self._to_annex_b: BitStreamFilterContext | None = None
        options = self._options(muxer)
        # Without the option each packet is a write of its own: a fifth of the time of joining small chunks.
        options |= {"flush_packets": "0"}
        # libav writes the file itself: through Python a film of large pictures took half as much time again.
        self._container = av.open(f"file:{os.path.abspath(path)}", "w", format=muxer, options=options)
        self.fps = fps
        self._video: Stream | None = None
        self._container.metadata.update(self._labels.tags)
        self._set_chapters()

    def _options(self, muxer: str) -> dict[str, str]:
        if muxer in ("mp4", "mov"):
            scale = str(self._timescale)
            # The film's own clock counts milliseconds by default, which would round its length.
            options = {"video_track_timescale": scale, "movie_timescale": scale}
            # Without the first flag, colours are told for those codecs alone that QuickTime itself has.
            flags = "+write_colr" if set(self._labels.tags) <= _USUAL_TAGS else "+write_colr+use_metadata_tags"
            if self._size is not None:
                # The index goes into room that is left for it: `faststart` would write the whole film once more.
                return options | {"moov_size": str(self._size.index_bytes), "movflags": flags}
            return options | {"movflags": f"+faststart{flags}"}
        if muxer == "mpegts":
            return {"max_delay": _TRANSPORT_DELAY_MICROSECONDS}
        # Matroska stores display times only; shifting by the reorder delay would start the film late.
        return {"avoid_negative_ts": "disabled"}

    def add_video(self, template: VideoStream) -> None:
        """Declare the one video stream, with the codec parameters of a chunk's."""
        codec = template.codec_context.codec.canonical_name
        if self._muxer == "mpegts" and codec not in _TRANSPORTED:
            raise self._cannot_hold(template)
        if self._muxer == "avi" and codec == "rawvideo" and template.container.format.name != "avi":
            # Other containers tell by other tags how the samples lie.
            raise self._cannot_hold(template)
        if self._reorder_frames and codec not in TIMED_BY_PICTURES.get(self._muxer, (codec,)):
            raise MismatchedOutput(
                self._path.name,
                f"cannot hold {codec} whose frames are stored in another order than they are shown in; encode the "
                "chunks without B-frames (-bf 0), or end output in .mkv or .mov",
            )
        holds = self._holds(codec)
        stream = self.add_copy(template) if holds else self._add_foreign(template)
        context = stream.codec_context
        context.framerate = self.fps  # type: ignore[attr-defined]  # a video context
        if holds and self._keeps_tag(template):
            context.codec_tag = template.codec_context.codec_tag
        # QuickTime files keep the shape of pixels beside the codec parameters, which alone are copied.
        aspect = template.sample_aspect_ratio or Fraction(1)
        context.sample_aspect_ratio = aspect  # type: ignore[attr-defined]
        stream.metadata.update(self._labels.stream_tags)
        if self._labels.has_alpha:
            # Said by the pixels, libav writes Matroska's element; said by a tag, it would write a tag besides.
            context.pix_fmt = "yuva420p"  # type: ignore[attr-defined]
        if self._codec is not None:
            stream.metadata["title"] = stream.metadata.get("title", "") + self._codec.padding
        # What a Matroska chunk says itself is kept with its codec.
        if aspect != 1 and self._muxer in ("matroska", "webm") and (self._codec is None or self._codec.video is None):
            coded = template.codec_context
            self._shown = _display_size(coded.width, coded.height, aspect, self._muxer)
            if self._codec is None:
                stream.metadata["title"] = stream.metadata.get("title", "") + NAME_PADDING
        if self._muxer == "mov":
            # The muxer writes the rate of DVCPRO HD into its tag, and knows it from here alone.
            stream.time_base = 1 / self.fps
        if self._muxer in TIMED_BY_PICTURES:
            self._set_up_counted(stream, template, aspect)
        self._video = stream

    def _set_up_counted(self, stream: Stream, template: VideoStream, aspect: Fraction) -> None:
        """Give a stream of a container that counts frames its rate, and what is kept in another place there."""
        stream.time_base = self._tick
        coded = template.codec_context
        if aspect != 1:
            self._shape = coded.width, coded.height, aspect
        if self._muxer == "avi":
            if coded.codec.canonical_name == "h264" and (coded.extradata or b"").startswith(_AVCC_VERSION):
                self._to_annex_b = BitStreamFilterContext("h264_mp4toannexb", template)
                # Decoders that find the head of MP4 files here look for lengths where the packets have start codes.
                stream.codec_context.extradata = convert_to_annex_b(coded.extradata or b"")
            if timecode := self._labels.stream_tags.get("timecode"):
                self._container.metadata["timecode"] = timecode

    def _holds(self, codec: str) -> bool:
        """Tell whether the muxer takes a codec."""
        try:
            with av.open(io.BytesIO(), "w", format=self._muxer) as probe:
                probe.add_mux_stream(codec, rate=self.fps, width=16, height=16)
        except ValueError:
            return False
        return True

    def _add_foreign(self, template: VideoStream) -> Stream:
        """Declare a stream of a codec that Matroska keeps under a name of AVI or QuickTime, which libav refuses.

        It is written as another codec's, and gets its own name when the film is finished.
        """
        if self._muxer != "matroska":
            raise self._cannot_hold(template)
        coded = template.codec_context
        if template.container.format.name.startswith("matroska"):
            self._codec = read_codec(Path(template.container.name.removeprefix("file:")))
        else:
            size = (coded.width, coded.height, coded.bits_per_coded_sample or 24)
            tag = coded.codec_tag.strip("\0") or _TAGS_OF_LABELS.get(coded.codec.canonical_name, "")
            self._codec = build_windows_codec(*size, tag, coded.extradata or b"")
        stream = self._container.add_stream("ffv1", rate=self.fps)
        stream.width, stream.height, stream.pix_fmt = coded.width, coded.height, "yuv420p"
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(stream.codec_context, name, getattr(coded, name))
        return stream

    def _keeps_tag(self, template: VideoStream) -> bool:
        """Return whether the chunk's tag must be repeated: it tells the kinds of HAP, ProRes and HEVC apart.

        Tags of one family of containers mean nothing in another one. Some codecs have one for each of their kinds,
        by which alone a decoder can tell: libav would write that of the first kind.
        """
        tag = template.codec_context.codec_tag
        if template.codec_context.codec.canonical_name in _TAGGED_KINDS:
            return True
        families = _TAG_FAMILIES.get(READERS[self._path.suffix.lower()], ())
        if not families or not families.intersection(template.container.format.name.split(",")):
            return False
        return bool(tag.strip("\0 ")) and _accepts_tag(self._muxer, template)

    def _set_chapters(self) -> None:
        chapters: list[ContainerChapter] = [
            {
                "id": number,
                "start": round(start * 1_000_000),
                "end": round(stop * 1_000_000),
                "time_base": Fraction(1, 1_000_000),
                "metadata": {"title": title} if title else {},
            }
            for number, (start, stop, title) in enumerate(self._labels.chapters, 1)
        ]
        if chapters:
            self._container.set_chapters(chapters)

    def add_copy(self, template: Stream) -> Stream:
        """Declare a stream whose packets will be copied from `template`'s file."""
        try:
            stream = self._container.add_stream_from_template(template, opaque=True)
        except ValueError as error:
            raise self._cannot_hold(template) from error
        stream.disposition = template.disposition
        return stream

    def add_encoder(self, codec: str, rate: int) -> AudioStream:
        """Declare a stream whose packets an encoder makes."""
        stream = self._container.add_stream(codec, rate=rate)
        assert isinstance(stream, AudioStream)
        return stream

    def _cannot_hold(self, stream: Stream) -> MismatchedOutput:
        return MismatchedOutput(self._path.name, f"cannot hold {stream.codec_context.codec.canonical_name}")

    def write_frame(self, packet: AnyPacket, shown: int, stored: int) -> None:
        """Write the picture shown as frame `shown` of the film and stored as its number `stored`."""
        assert self._video is not None
        if self._to_annex_b is not None:
            (packet,) = self._to_annex_b.filter(packet)
        packet.stream = self._video
        packet.time_base = self._tick
        packet.pts = shown * self._frame_ticks
        packet.dts = (stored - self._reorder_frames) * self._frame_ticks
        packet.duration = self._frame_ticks
        try:
            self.write(packet)
        except MismatchedOutput as error:
            # Of some codecs the MXF muxer looks at the first picture before it refuses them.
            raise self._cannot_hold(self._video) if stored == 0 else error from error

    def write_header(self) -> None:
        """Write the head of the film, after all streams were declared."""
        try:
            with _disk_errors():
                self._container.start_encoding()
        except av.error.FFmpegError as error:
            held = " with ".join(stream.codec_context.codec.canonical_name for stream in self._container.streams)
            raise MismatchedOutput(self._path.name, f"cannot hold {held}: {error.strerror}") from error
        if self._size is not None:
            reserve_space(self._path, self._size.film_bytes)

    def find_decode_seconds(self, stored: int) -> float:
        """Find the time in seconds at which the picture stored as number `stored` is decoded."""
        return (stored - self._reorder_frames) * self._frame_seconds

    def write(self, packet: AnyPacket) -> None:
        """Write one packet of a stream of this film, whose times are already those of the film."""
        try:
            self._container.mux_one(packet)
        except av.error.OSError as error:
            raise OSError(error.errno, error.strerror) from error
        except av.error.FFmpegError as error:
            raise MismatchedOutput(self._path.name, f"cannot be written: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            languages = [stream.metadata.get("language", "") for stream in self._container.streams.audio]
            try:
                with _disk_errors():
                    self._container.close()
                    if self._size is not None:
                        release_space(self._path)
                if self._codec is not None:
                    set_codec(self._path, self._codec, self._shown)
                elif self._shown is not None:
                    set_display_size(self._path, *self._shown)
                elif self._shape is not None:
                    set_pixel_shape(self._path, *self._shape)
                set_languages(self._path, video=self._labels.stream_tags.get("language", ""), sounds=languages)
                return
            except BaseException:
                self._give_up()
                raise
        self._give_up()

    def _give_up(self) -> None:
        # The index of a large film has its room already: the muxer moves no gigabytes for a film that nobody wants.
        with suppress(av.error.FFmpegError, OSError, ValueError):
            self._container.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn what libav says of a disk into the error of the system: all its other errors are about the film."""
    try:
        yield
    except av.error.OSError as error:
        raise OSError(error.errno, error.strerror) from error


def _display_size(width: int, height: int, aspect: Fraction, muxer: str) -> tuple[int, int, int]:
    """Return what Matroska says of the shape of pixels; WebM can say it in whole pixels only, and rounds."""
    if muxer == "webm":
        return round(width * aspect), height, PIXELS
    shape = width * aspect / height
    return shape.numerator, shape.denominator, RATIO


def _accepts_tag(muxer: str, template: VideoStream) -> bool:
    """Tell whether a muxer writes the codec of a stream under the stream's own tag."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as probe:
            stream = probe.add_stream_from_template(template, opaque=True)
            stream.codec_context.codec_tag = template.codec_context.codec_tag
            probe.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True
