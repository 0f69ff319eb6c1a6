"""The ffmpeg command that encodes numbered pictures into a film, and which of its failures would be the same again."""

import os
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from activities.media.colour import FilmColours, add_colours
from activities.media.facts import SoundFile
from activities.media.writer import compute_timescale

# H.264 and H.265 have no pictures of odd width or height with colours at half the size, ProRes none of odd width.
_EVEN = "pad=ceil(iw/2)*2:ceil(ih/2)*2"
_H264 = ("-c:v", "libx264", "-crf", "18", "-vf", _EVEN, "-pix_fmt", "yuv420p")
# Films of high dynamic range show bands with the 8 bits that players of H.264 take.
_H265 = (
    *("-c:v", "libx265", "-crf", "18", "-vf", _EVEN, "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=error"),
    # Apple's players take no other.
    *("-tag:v", "hvc1"),
)
# What editing programs know in MXF. Not prores_ks: of ffmpeg 5.1 it does not tell the muxer its profile (3 is HQ).
_PRORES = ("-c:v", "prores_aw", "-profile:v", "3", "-vf", _EVEN, "-pix_fmt", "yuv422p10le")
_VP9 = ("-c:v", "libvpx-vp9", "-crf", "24", "-b:v", "0", "-pix_fmt")
# What ffmpeg itself chooses for a film.
_ENCODERS = dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv"), "libx264") | {
    ".ts": "mpeg2video",
    ".mxf": "mpeg2video",
    ".avi": "mpeg4",
}

# Words of the command that `colour_main` fills in.
_SIZE_OF_PIPED, _PIXELS_OF_PIPED = "{size}", "{pixels}"

# Words of ffmpeg about encoders, options and containers that it cannot use on any host or at any time. Not `Error while
# opening encoder`: that is also said by a graphics card whose sessions others use up.
_REFUSALS = re.compile(
    r"Unknown encoder|Encoder not found|not currently supported in container|Could not write header|Option not found|"
    r"Unrecognized option|Error (parsing|setting|applying) (the )?option|No such filter|Undefined constant"
)


def is_refusal(sentence: str) -> bool:
    """Tell whether an error of ffmpeg says that it cannot do what is asked, so that another try fails the same way."""
    return _REFUSALS.search(sentence) is not None


def _choose_encoder(suffix: str, *, is_hdr: bool) -> tuple[str, ...]:
    if suffix == ".webm":
        return (*_VP9, "yuv420p10le" if is_hdr else "yuv420p")
    if suffix == ".mxf":
        return _PRORES
    if suffix == ".avi":
        # AVI has no place for the times of B-frames, and players of H.265 do not look there.
        return (*_H264[:-1], "yuv420p10le" if is_hdr else "yuv420p", "-bf", "0")
    if not is_hdr:
        return _H264
    return _H265 if suffix in (".mp4", ".m4v", ".mov") else _H265[:-2]


def find_language(encode_args: Sequence[str]) -> str:
    """Find the language that encoder options give to the pictures; empty if they give none."""
    pairs = zip(encode_args[::2], encode_args[1::2], strict=False)
    said = [value for option, value in pairs if option in ("-metadata:s:v", "-metadata:s:v:0", "-metadata:s:0")]
    return next((value.partition("=")[2] for value in reversed(said) if value.startswith("language=")), "")


def build_image_pattern(before: str, digits: int, after: str) -> str:
    """Build the pattern by which ffmpeg finds pictures named `before`, frame number, `after`.

    Args:
        before: Path up to the number; percent signs in it are plain characters.
        digits: How many digits the number has at least.
        after: The rest of the name.
    """
    return f"{before.replace('%', '%%')}%0{digits}d{after.replace('%', '%%')}"


def build_encode_command(
    ffmpeg: str,
    pattern: str,
    first: int,
    fps: Fraction,
    encode_args: Sequence[str],
    target: Path,
    sounds: Sequence[SoundFile] = (),
    colours: FilmColours | None = None,
    *,
    is_piped: bool = False,
) -> list[str]:
    """Build the ffmpeg command that encodes numbered pictures, reporting progress on standard output.

    ffmpeg takes a missing picture for the end of the film, without an error: the pictures must be checked
    before (`check_sequence`) and the film after (`verify_film`). It takes all that follow: a limit of what is written
    (`-frames:v`) has ffmpeg 5 drop the sound that it has not written by then.

    Args:
        ffmpeg: The program.
        pattern: A pattern made by `build_image_pattern`.
        first: The number of the first picture.
        fps: The exact rate of the film.
        encode_args: The user's encoder options; good H.264 (VP9 in webm) when empty.
        target: Where to write; its extension says the container.
        sounds: Sounds of the film in their final codec and length, which are copied.
        colours: Those that the pictures have, and the film is tagged with; None for BT.709.
        is_piped: The pictures come from `colour_main`, and not from files.
    """
    colours = colours or FilmColours()
    suffix = target.suffix.lower()
    timing = []
    if suffix in (".mp4", ".m4v", ".mov"):
        scale = str(compute_timescale(fps))
        timing = ["-video_track_timescale", scale, "-movie_timescale", scale, "-movflags", "+faststart"]
    rate = f"{fps.numerator}/{fps.denominator}"
    if is_piped:
        pictures = ["-f", "rawvideo", "-pixel_format", _PIXELS_OF_PIPED, "-video_size", _SIZE_OF_PIPED]
        pictures += ["-framerate", rate, "-i", "pipe:0"]
    else:
        pictures = ["-f", "image2", "-pattern_type", "sequence", "-framerate", rate]
        # Without the range ffmpeg would begin with a later picture where the first one is missing.
        pictures += ["-start_number", str(first), "-start_number_range", "1", "-i", os.path.abspath(pattern)]
    encoder = add_colours(
        encode_args or _choose_encoder(suffix, is_hdr=colours.is_hdr), colours, usual_encoder=_ENCODERS.get(suffix, "")
    )
    return [
        *(ffmpeg, "-nostdin", "-v", "error", "-y", "-progress", "pipe:1", "-nostats"),
        *pictures,
        *_read_sounds(sounds),
        *encoder,
        *timing,
        *_write_sounds(sounds),
        f"file:{os.path.abspath(target)}",
    ]


def _read_sounds(sounds: Sequence[SoundFile]) -> list[str]:
    inputs = [word for sound in sounds for word in ("-i", f"file:{os.path.abspath(sound.path)}")]
    return [*inputs, "-map", "0:v", *(word for number, _ in enumerate(sounds, 1) for word in ("-map", f"{number}:a"))]


def _write_sounds(sounds: Sequence[SoundFile]) -> list[str]:
    if not sounds:
        return ["-an"]
    # ffmpeg 5 takes FLAC and Opus in mp4 for an experiment.
    options = ["-c:a", "copy", "-strict", "experimental"]
    for number, sound in enumerate(sounds):
        if sound.language:
            options += [f"-metadata:s:a:{number}", f"language={sound.language}"]
    return options
