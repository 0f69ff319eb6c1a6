"""Colours of an encoded film: the matrix by which RGB becomes YCbCr, the tags that say so, and named transforms."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from activities.media.decoder import has_alpha
from activities.media.images.facts import ImageFacts
from longtake import colour_main

# A configuration with all its tables takes a second here.
_MOST_SECONDS = 120.0
_LINEAR_FORMATS = frozenset({"OpenEXR", "Radiance"})
_LINEAR_DEPTHS = frozenset({"half", "float", "double"})

# Names of ffmpeg for code points of ITU-T H.273.
_PRIMARIES = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020", 10: "smpte428", 11: "smpte431", 12: "smpte432"}
_TRANSFERS = {1: "bt709", 4: "gamma22", 8: "linear", 13: "iec61966-2-1", 16: "smpte2084", 17: "smpte428"}
_TRANSFERS |= {14: "bt2020-10", 15: "bt2020-12", 18: "arib-std-b67"}
_MATRICES = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020nc"}
# How `scale` calls the matrices; of others ffmpeg knows no conversion.
_SCALE_MATRICES = {
    "bt709": "bt709",
    "bt470bg": "bt601",
    "smpte170m": "bt601",
    "smpte240m": "smpte240m",
    "fcc": "fcc",
    "bt2020nc": "bt2020",
    "bt2020_ncl": "bt2020",
}
# BT.2100: films of these need ten bits.
_HDR_TRANSFERS = frozenset({"smpte2084", "arib-std-b67"})

_YCBCR = re.compile(r"yuv|nv\d|p[024]1\d|y21\d|yuyv|uyvy")
# Encoders that choose a YCbCr format for RGB pictures where `-pix_fmt` is left out; others may choose RGB.
_YCBCR_ENCODERS = frozenset(
    {"h264", "libx264", "prores", "prores_ks", "prores_aw", "mpeg2video", "mpeg4", "libsvtav1", "libvpx", "v210"}
)
# Filters that decide about colours: behind them nothing may be converted again.
_COLOUR_FILTERS = frozenset({"zscale", "colorspace", "colormatrix", "setparams", "setrange", "tonemap"})
_COLOUR_KEYS = frozenset({"in_color_matrix", "out_color_matrix", "in_range", "out_range", "src_range", "dst_range"})
_OPTIONS = {"colorspace": "matrix", "color_primaries": "primaries", "color_trc": "transfer", "color_range": "range"}
_PARAMETERS = {"colormatrix": "matrix", "colorprim": "primaries", "transfer": "transfer"}
_PARAMETER_OPTIONS = frozenset({"x264-params", "x264opts", "x265-params"})
_FULL_RANGES = frozenset({"pc", "full", "jpeg", "2"})


class UnknownColours(Exception):
    """A name of colours, or a configuration, that does not exist; the text is a sentence without its end."""


class WantedColours(Protocol):
    """The conversion that a job asks for: names in a configuration of OpenColorIO."""

    @property
    def input(self) -> str:
        """Colour space of the files."""
        ...

    @property
    def output(self) -> str:
        """Colour space of the film."""
        ...

    @property
    def view(self) -> str | None:
        """View of the display that `output` names."""
        ...

    @property
    def config(self) -> str:
        """The configuration."""
        ...

    @property
    def config_file(self) -> str | None:
        """Its file; None for those that are built in."""
        ...


@dataclass(frozen=True)
class FilmColours:
    """Colours of a film, by ffmpeg's names; `unknown` where nothing is said of one.

    Attributes:
        matrix: By which RGB becomes YCbCr.
        primaries: Of what colours red, green and blue are.
        transfer: How samples become light.
    """

    matrix: str = "bt709"
    primaries: str = "bt709"
    transfer: str = "bt709"

    @classmethod
    def from_code_points(cls, points: Sequence[int] | None) -> "FilmColours":
        """Return the colours of code points as H.273 numbers them: primaries, transfer, matrix."""
        if not points:
            return cls("bt709", "unknown", "unknown")
        primaries, transfer, matrix = points[:3]
        return cls(
            _MATRICES.get(matrix, "bt709"), _PRIMARIES.get(primaries, "unknown"), _TRANSFERS.get(transfer, "unknown")
        )

    @property
    def is_hdr(self) -> bool:
        """Whether the film has high dynamic range, for which eight bits are too few."""
        return self.transfer in _HDR_TRANSFERS


def add_colours(arguments: Sequence[str], colours: FilmColours, *, usual_encoder: str = "") -> list[str]:
    """Return encoder options that convert RGB pictures by the matrix that the film is tagged with.

    Without the matrix ffmpeg converts by BT.601 and says nothing of it; players take HD pictures for BT.709, and show
    other colours than were rendered. Tags among the options decide; `colours` are those of a film without tags. Options
    with colour filters of their own, and films of RGB, are left as they are.

    Args:
        arguments: Options with one value each, as `encode` has them.
        colours: What the film has where the options do not say.
        usual_encoder: What encodes where the options name no codec.
    """
    options = _Options(arguments, usual_encoder)
    chain = options.filters
    pixels = options.pixel_format
    if options.has_colour_filters or not _is_ycbcr(options, pixels):
        return list(arguments)
    wanted = replace(colours, **options.tags)
    if wanted.matrix not in _SCALE_MATRICES:
        return list(arguments)
    is_full = options.is_full or pixels.startswith("yuvj")
    scale = f"scale=out_color_matrix={_SCALE_MATRICES[wanted.matrix]}:out_range={'pc' if is_full else 'tv'}"
    place = next((index for index, part in enumerate(chain) if _is_ycbcr_format(part)), len(chain))
    chain[place:place] = [scale]
    if place == len(chain) - 1 and pixels:
        chain.append(f"format={pixels}")
    known = {"colorspace": wanted.matrix, "color_primaries": wanted.primaries, "color_trc": wanted.transfer}
    known = {key: value for key, value in known.items() if value != "unknown"}
    # ffmpeg 7 takes the tags from the pictures, ffmpeg 5 from the options.
    said = {**known, "range": "pc" if is_full else "tv"}
    chain.append("setparams=" + ":".join(f"{key}={value}" for key, value in said.items()))
    tags = [word for key, value in known.items() if f"-{key}" not in options.names for word in (f"-{key}", value)]
    if "-color_range" not in options.names:
        tags += ["-color_range", said["range"]]
    return [*options.without_filters, "-vf", ",".join(chain), *tags]


@dataclass(frozen=True)
class Conversion:
    """A conversion of image files by OpenColorIO.

    Attributes:
        request: What `colour_main` is asked for.
        colours: What the film is tagged with.
    """

    request: dict[str, str]
    colours: FilmColours

    def write_request(
        self, path: Path, pictures: Path, suffix: str, count: int, encode: Sequence[str], command: Sequence[str]
    ) -> list[str]:
        """Write the request for a film, and return the command that converts and encodes its pictures.

        Args:
            path: Where the request is written.
            pictures: Folder of the pictures, which are named by nine digits from 0 on.
            suffix: Their extension.
            count: How many there are.
            encode: The encoder options of the job.
            command: What encodes, made by `build_encode_command`.
        """
        asked = {"folder": str(pictures), "suffix": suffix, "count": count, "has_alpha": asks_for_alpha(encode)}
        path.write_text(json.dumps({**self.request, **asked, "command": list(command)}), encoding="utf-8")
        return [sys.executable, "-I", colour_main.__file__, str(path)]


def find_conversion(
    colour: WantedColours | None, encode: Sequence[str], images: ImageFacts | None, workdir: Path, config: str
) -> Conversion | None:
    """Find how image files are converted for a film; None where ffmpeg alone does it; blocking.

    Args:
        colour: What the job asks for.
        encode: The encoder options of the job.
        images: What is known of the files.
        workdir: Where a file with a configuration lies.
        config: The configuration where the job asks for nothing.

    Raises:
        UnknownColours: The configuration has no such names.
    """
    if colour is not None:
        return look_up_colours(colour, workdir)
    if images is None or decides_about_colours(encode):
        return None
    if _is_linear(images):
        # Tagged as films of PNG files are, which hold the same samples.
        return Conversion({"config": config, **colour_main.OF_LINEAR}, FilmColours())
    return None


def _is_linear(images: ImageFacts) -> bool:
    return images.format in _LINEAR_FORMATS or images.depth in _LINEAR_DEPTHS


def build_picture_request(
    colour: WantedColours | None, images: ImageFacts, workdir: Path, config: str
) -> dict[str, str] | None:
    """Return what a small picture of an image file is converted by, as the film is; None where it is shown as it is.

    Names are not looked up, which takes a second.

    Args:
        colour: What the job asks for.
        images: What is known of the file.
        workdir: Where a file with a configuration lies.
        config: The configuration where the job asks for nothing.
    """
    if colour is not None:
        return _build_request(colour, workdir)
    return {"config": config, **colour_main.OF_LINEAR} if _is_linear(images) else None


def _build_request(colour: WantedColours, workdir: Path) -> dict[str, str]:
    config = colour.config if colour.config_file is None else str(workdir / colour.config_file)
    return {"config": config, "input": colour.input, "output": colour.output, "view": colour.view or ""}


def look_up_colours(colour: WantedColours, workdir: Path) -> Conversion:
    """Look up the names of colours in their configuration; blocking.

    Raises:
        UnknownColours: It has no such names.
    """
    request = _build_request(colour, workdir)
    config = request["config"]
    command = [sys.executable, "-I", colour_main.__file__]
    try:
        asked = json.dumps(request).encode()
        answer = subprocess.run(command, env={}, input=asked, capture_output=True, timeout=_MOST_SECONDS, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise UnknownColours(f"colour.config: {config!r} cannot be read; name another one") from error
    found = json.loads(answer.stdout)
    if "error" in found:
        raise UnknownColours(found["error"])
    return Conversion(request, FilmColours.from_code_points(found["code_points"]))


def asks_for_alpha(arguments: Sequence[str]) -> bool:
    """Tell whether encoder options ask for a pixel format with transparency."""
    return has_alpha(_Options(arguments).pixel_format)


def decides_about_colours(arguments: Sequence[str]) -> bool:
    """Tell whether encoder options have colour filters of their own."""
    return _Options(arguments).has_colour_filters


class _Options:
    """Encoder options of ffmpeg, each followed by its value."""

    def __init__(self, arguments: Sequence[str], usual_encoder: str = "") -> None:
        self._pairs = list(zip(arguments[::2], arguments[1::2], strict=True))
        self._usual_encoder = usual_encoder
        self.names = {option for option, _ in self._pairs}

    @property
    def filters(self) -> list[str]:
        """The chain of filters; of several ffmpeg takes the last."""
        chains = [value for option, value in self._pairs if _is_filters(option)]
        return [part.strip() for part in chains[-1].split(",")] if chains else []

    @property
    def without_filters(self) -> list[str]:
        return [word for option, value in self._pairs if not _is_filters(option) for word in (option, value)]

    @property
    def has_colour_filters(self) -> bool:
        for part in self.filters:
            name, _, values = part.partition("=")
            keys = {value.partition("=")[0].strip() for value in values.split(":")}
            if name.strip() in _COLOUR_FILTERS or keys & _COLOUR_KEYS or ";" in part:
                return True
        return False

    @property
    def pixel_format(self) -> str:
        """The pixel format that is asked for; empty for what the encoder chooses."""
        asked = self._find("pix_fmt")
        if asked:
            return asked
        formats = [part.partition("=")[2] for part in self.filters if part.startswith("format=")]
        return re.split(r"[|:]", formats[-1].removeprefix("pix_fmts="))[0] if formats else ""

    @property
    def codec(self) -> str:
        return next(filter(None, map(self._find, ("c", "codec", "vcodec"))), self._usual_encoder)

    @property
    def tags(self) -> dict[str, str]:
        """Matrix, primaries and transfer, as far as the options tell them."""
        found = {_PARAMETERS[key]: value for key, value in self._parameters() if key in _PARAMETERS}
        for option, name in _OPTIONS.items():
            if name != "range" and (value := self._find(option)):
                found[name] = value
        return found

    @property
    def is_full(self) -> bool:
        parameters = dict(self._parameters())
        full = parameters.get("fullrange") in ("1", "on") or parameters.get("range") in _FULL_RANGES
        return full or self._find("color_range") in _FULL_RANGES

    def _parameters(self) -> Iterator[tuple[str, str]]:
        for name in _PARAMETER_OPTIONS:
            for part in self._find(name).split(":"):
                key, _, value = part.partition("=")
                yield key.strip(), value.strip()

    def _find(self, name: str) -> str:
        """Return the value of an option for pictures; of several the last."""
        places = {f"-{name}", f"-{name}:v", f"-{name}:v:0", f"-{name}:0"}
        values = [value for option, value in self._pairs if option in places]
        return values[-1] if values else ""


def _is_filters(option: str) -> bool:
    return option.lstrip("-").partition(":")[0] in ("vf", "filter")


def _is_ycbcr(options: _Options, pixels: str) -> bool:
    return _YCBCR.match(pixels) is not None if pixels else options.codec in _YCBCR_ENCODERS


def _is_ycbcr_format(part: str) -> bool:
    name, _, value = part.partition("=")
    return name == "format" and _YCBCR.match(value.removeprefix("pix_fmts=")) is not None
