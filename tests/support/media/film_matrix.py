"""What becomes of chunks of every codec in every container of films: the second table of `docs/media.md`.

Three chunks are joined and every frame is decoded, beside one unchunked encode of the same frames: the film has its
frames at its times, shows what that shows, and says what the chunks say of themselves.
"""

import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from activities.media.containers import find_video_stream, open_media
from activities.media.decoder import decode_pictures, hash_picture
from activities.media.facts import ChunkFile, MismatchedOutput
from activities.media.film import verify_film
from activities.media.join import join_video
from activities.media.video import inspect_video
from longtake.paths import FILM_SUFFIXES

BEGIN, END = "<!-- film matrix -->", "<!-- end of the film matrix -->"
FPS = Fraction(30000, 1001)
LENGTHS = (5, 5, 3)
CONTAINERS = (".mp4", ".mov", ".mkv", ".webm", ".ts", ".avi", ".mxf")
JOINED, REFUSED = "joined", "refused"


@dataclass(frozen=True)
class Codec:
    """How chunks of a codec are rendered.

    Attributes:
        suffix: The container of the chunks.
        options: Options of ffmpeg.
        lossless: Whether chunks show the same pictures as one unchunked encode, whatever the encoder decides.
    """

    suffix: str
    options: tuple[str, ...]
    lossless: bool = True


_YUV = ("-pix_fmt", "yuv420p")
_DV = ("-pix_fmt", "yuv411p", "-s", "720x480")
CODECS: Mapping[str, Codec] = {
    "H.264": Codec(".mp4", ("-c:v", "libx264", "-qp", "0", "-bf", "0", "-preset", "ultrafast", *_YUV)),
    "H.264 with B-frames": Codec(".mp4", ("-c:v", "libx264", "-bf", "3", *_YUV), lossless=False),
    "H.264 intra in MXF": Codec(".mxf", ("-c:v", "libx264", "-g", "1", "-pix_fmt", "yuv422p10le"), lossless=False),
    "H.265": Codec(".mp4", ("-c:v", "libx265", "-x265-params", "lossless=1:open-gop=0:log-level=error", *_YUV)),
    "AV1": Codec(".mkv", ("-c:v", "libaom-av1", "-cpu-used", "8", "-crf", "30", *_YUV), lossless=False),
    "VP9": Codec(".webm", ("-c:v", "libvpx-vp9", "-lossless", "1", "-cpu-used", "8", *_YUV)),
    "VP8": Codec(".webm", ("-c:v", "libvpx", *_YUV), lossless=False),
    "MPEG-2": Codec(".ts", ("-c:v", "mpeg2video", "-q:v", "2", *_YUV), lossless=False),
    "MPEG-2 in MXF": Codec(".mxf", ("-c:v", "mpeg2video", "-q:v", "2", "-bf", "2", *_YUV), lossless=False),
    "ProRes": Codec(".mov", ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le")),
    "ProRes in MXF": Codec(".mxf", ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le")),
    "DNxHR": Codec(".mov", ("-c:v", "dnxhd", "-profile:v", "dnxhr_sq", "-pix_fmt", "yuv422p", "-s", "256x144")),
    "DNxHR in MXF": Codec(".mxf", ("-c:v", "dnxhd", "-profile:v", "dnxhr_sq", "-pix_fmt", "yuv422p", "-s", "256x144")),
    "CineForm": Codec(".mov", ("-c:v", "cfhd", "-pix_fmt", "yuv422p10le", "-s", "256x144")),
    "HAP": Codec(".mov", ("-c:v", "hap")),
    "HAP Q": Codec(".mov", ("-c:v", "hap", "-format", "hap_q")),
    "QuickTime RLE": Codec(".mov", ("-c:v", "qtrle", "-pix_fmt", "argb")),
    "PNG": Codec(".mov", ("-c:v", "png", "-pix_fmt", "rgba")),
    "Motion JPEG": Codec(".mov", ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p")),
    "v210": Codec(".mov", ("-c:v", "v210")),
    "UT Video": Codec(".mkv", ("-c:v", "utvideo", *_YUV)),
    "UT Video in AVI": Codec(".avi", ("-c:v", "utvideo", *_YUV)),
    "HuffYUV": Codec(".mkv", ("-c:v", "huffyuv", "-pix_fmt", "yuv422p")),
    "FFVHuff": Codec(".mkv", ("-c:v", "ffvhuff", *_YUV)),
    "MagicYUV": Codec(".mkv", ("-c:v", "magicyuv", *_YUV)),
    "MagicYUV in AVI": Codec(".avi", ("-c:v", "magicyuv", *_YUV)),
    "FFV1": Codec(".mkv", ("-c:v", "ffv1", *_YUV)),
    "DV": Codec(".mkv", ("-c:v", "dvvideo", *_DV)),
    "DV in AVI": Codec(".avi", ("-c:v", "dvvideo", *_DV)),
    "DV in MXF": Codec(".mxf", ("-c:v", "dvvideo", *_DV)),
}


@dataclass(frozen=True)
class FilmRow:
    """What becomes of the chunks of one codec.

    Attributes:
        name: Of the codec.
        chunks: The container of its chunks.
        films: For each container of films whether they are joined, or why that is refused.
    """

    name: str
    chunks: str
    films: Mapping[str, str]

    def __str__(self) -> str:
        return f"| {' | '.join([self.name, f'`{self.chunks}`', *self.films.values()])} |"


def measure_codec(name: str, folder: Path, ffmpeg: str) -> FilmRow:
    """Join chunks of one codec to a film in every container, and prove each film.

    Raises:
        AssertionError: A film that was joined is not the unchunked encode.
    """
    codec = CODECS[name]
    paths = [folder / f"chunk{index}{codec.suffix}" for index in range(len(LENGTHS))]
    whole = folder / f"whole{codec.suffix}"
    starts = [sum(LENGTHS[:index]) for index in range(len(LENGTHS))]
    _render(codec, ffmpeg, [*zip(paths, starts, LENGTHS, strict=True), (whole, 0, sum(LENGTHS))])
    chunks = []
    for index, (path, frames) in enumerate(zip(paths, LENGTHS, strict=True)):
        facts = inspect_video(path, fps=FPS, frames=frames)
        chunks.append(ChunkFile(path, f"chunk {index}", frames, facts=facts))
    return FilmRow(name, codec.suffix, {suffix: _join(codec, chunks, whole, suffix) for suffix in CONTAINERS})


def _render(codec: Codec, ffmpeg: str, parts: list[tuple[Path, int, int]]) -> None:
    """Render files, each from a frame on and of so many frames, by one ffmpeg."""
    command = [ffmpeg, "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", f"testsrc2=s=128x96:r={FPS}"]
    labels = ["-metadata", "title=A film", "-threads", "1"]
    for path, start, frames in parts:
        window = f"trim=start_frame={start},setpts=PTS-STARTPTS,setsar=10/11"
        command += ["-vf", window, "-frames:v", str(frames), *codec.options, *labels, str(path)]
    subprocess.run(command, check=True, capture_output=True)


def _join(codec: Codec, chunks: list[ChunkFile], whole: Path, suffix: str) -> str:
    film = whole.with_name(f"film{suffix}")
    try:
        joined = join_video(chunks, film, fps=FPS, progress=lambda frames: None, stop=threading.Event())
        found = verify_film(film, fps=FPS, frames=sum(LENGTHS), joined=joined, full=True)
    except MismatchedOutput as error:
        return REFUSED if "cannot hold" in error.problem else f"{REFUSED}: {error.problem}"
    assert found.proof == f"all {sum(LENGTHS)} frames decoded and compared with the chunks"
    # Matroska counts milliseconds.
    assert all(abs(shown - frame / FPS) <= Fraction(1, 1000) for frame, shown in enumerate(_list_times(film)))
    if codec.lossless:
        assert _hash_all(film) == _hash_all(whole)
    assert inspect_video(film, fps=FPS).find_mismatch(inspect_video(whole, fps=FPS), joined=True) is None
    lost = [re.sub(r"its container has no place for (.*) of the chunks", r", without \1", note) for note in found.notes]
    return JOINED + "".join(lost)


def _list_times(film: Path) -> list[Fraction]:
    with open_media(film) as container:
        stream = find_video_stream(container, film.name)
        shown = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None and packet.size)
        return [(pts - shown[0]) * (stream.time_base or Fraction(0)) for pts in shown]


def _hash_all(path: Path) -> list[str]:
    with open_media(path) as container:
        stream = find_video_stream(container, path.name)
        return [hash_picture(frame) for frame in decode_pictures(container, stream, path.name)]


def heads() -> Iterator[str]:
    """Yield the first lines of the table."""
    assert set(CONTAINERS) == FILM_SUFFIXES - {".m4v"}
    yield f"| codec | chunks | {' | '.join(f'`{suffix}`' for suffix in CONTAINERS)} |"
    yield "|---" * (2 + len(CONTAINERS)) + "|"
