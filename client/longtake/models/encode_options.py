"""Check the `encode` options of a job against a list: ffmpeg has hundreds more, many of which read or write files."""

import re
from fractions import Fraction

from longtake.text import quote_value


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Options whose value is a word, a number or a rate: codec, quality, speed and structure of the stream.
_PLAIN = _words(
    """
    c codec vcodec profile level preset tune tier tag vtag pix_fmt strict threads crf qp q qscale cq b minrate
    maxrate bufsize qmin qmax rc lossless g keyint_min bf b_strategy refs sc_threshold forced-idr no-scenecut
    b_ref_mode quality deadline speed cpu-used usage lag-in-frames auto-alt-ref row-mt tile-columns tile-rows tiles
    frame-parallel aq-mode aq-strength spatial-aq temporal-aq rc-lookahead multipass surfaces delay
    noise-sensitivity sharpness static-thresh denoise-noise-level arnr-max-frames arnr-strength arnr-type
    compression_level pred coder context slices slicecrc quant_mat bits_per_mb mbs_per_slice alpha_bits vendor
    format chunks compressor color_primaries color_trc colorspace color_range chroma_sample_location field_order
    aspect sws_flags flags2 me_range subq trellis psy-rd weightb weightp nal-hrd intra-refresh write_tmcd timecode
    brand dpi chromaoffset mbtree fast-pskip 8x8dct
    """
)

# Options whose value is a list of flags, of which some have the encoder write a file (`pass1`).
_FLAGS = {
    "flags": frozenset({"global_header", "bitexact", "cgop", "ildct", "ilme", "gray", "loop", "qscale", "low_delay"}),
    "movflags": frozenset({"faststart", "write_colr", "write_gama", "use_metadata_tags", "disable_chpl", "prefer_icc"}),
}

# Keys of x264-params and their like; others read or write files (`stats`, `qpfile`, `csv`, `analysis-save`).
_PARAMETER_OPTIONS = frozenset({"x264-params", "x264opts", "x265-params", "svtav1-params", "aom-params"})
_PARAMETERS = _words(
    """
    keyint min-keyint scenecut open-gop bframes b-adapt b-pyramid ref rc-lookahead lookahead crf qp qpmin qpmax
    qpstep bitrate vbv-maxrate vbv-bufsize vbv-init crf-max cqp aq-mode aq-strength aq-motion psy psy-rd psy-rdoq
    rdoq-level rd deblock cabac sao me subme merange trellis weightb weightp mbtree cutree 8x8dct partitions no-sao
    colorprim transfer colormatrix range fullrange videoformat chromaloc sar overscan hdr hdr10 hdr-opt hdr10-opt
    master-display max-cll repeat-headers aud hrd nal-hrd profile level level-idc high-tier tune preset lossless
    threads pools frame-threads film-grain film-grain-denoise enable-overlays enable-qm qm-min tile-columns
    tile-rows tiles lp irefresh-type color-primaries transfer-characteristics matrix-coefficients color-range
    mastering-display content-light no-open-gop no-scenecut no-mbtree no-cutree no-psy no-deblock no-cabac
    no-weightb no-dct-decimate no-fast-pskip log-level info tff bff interlaced fake-interlaced pic-struct
    frame-packing avcintra-class slices
    """
)

# Filters that take numbers and words and touch no file, no network and no library.
_FILTERS = _words(
    """
    scale zscale crop pad format setsar setdar setparams setfield setrange colorspace colormatrix tonemap eq hue
    lutrgb lutyuv lut negate colorbalance colorlevels colorchannelmixer colortemperature exposure vibrance limiter
    normalize unsharp smartblur gblur boxblur avgblur cas deband gradfun noise hqdn3d nlmeans atadenoise bm3d
    vaguedenoiser dctdnoiz deflicker tmix hflip vflip rotate transpose alphaextract premultiply unpremultiply
    extractplanes shuffleplanes swapuv null copy fade vignette drawbox drawgrid fillborders il fieldorder tinterlace
    monochrome sidedata lenscorrection perspective chromashift rgbashift histeq greyedge grayworld
    """
)

# Options of these filters that name a file.
_FILE_OPTIONS = frozenset({"file", "filename", "psfile", "plot", "textfile", "fontfile", "stats_file", "lib"})

_SPECIFIER = re.compile(r"-([a-zA-Z0-9_-]+?)(?::[a-z0-9]{1,3}){0,3}", re.ASCII)
# Slashes stand in ratios only: a path or a protocol begins with one, or holds two.
_WORD = re.compile(r"[A-Za-z0-9_.,:;+/= -]{1,200}", re.ASCII)
_FIX = "encode takes codec, quality, pixel format, colour, metadata and filters without files; leave it out"


def check_encode_options(arguments: tuple[str, ...]) -> None:
    """Raise unless each argument of `encode` is a known option followed by its value.

    Raises:
        ValueError: `encode: what is wrong; the fix`, for the first argument that is not.
    """
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        match = _SPECIFIER.fullmatch(option)
        if match is None:
            raise ValueError(f"encode: {quote_value(option)} is no option, as in -crf; {_FIX}")
        if not rest:
            raise ValueError(f"encode: {option} has no value; write it behind the option, or leave both out")
        _check_option(option, match[1], rest.pop(0))


_TIMECODE = re.compile(r"\d\d:[0-5]\d:[0-5]\d([:;.])(\d\d+)", re.ASCII)


def check_timecode(arguments: tuple[str, ...], rate: Fraction) -> None:
    """Raise unless a timecode in `encode` is one of the rate: ffmpeg leaves out any other from the film, and goes on.

    Raises:
        ValueError: `encode: what is wrong; the fix`.
    """
    for option, value in zip(arguments[::2], arguments[1::2], strict=False):
        if option != "-timecode":
            continue
        match = _TIMECODE.fullmatch(value)
        if match is None or int(match[2]) >= round(rate):
            raise ValueError(
                f"encode: -timecode is {quote_value(value)}, which is none at {rate} frames a second; write it as in "
                "01:00:00:00"
            )
        # Drop-frame (SMPTE ST 12-1).
        if match[1] != ":" and (rate * 1001 / 30000).denominator != 1:
            raise ValueError(
                f"encode: -timecode is {quote_value(value)}, which leaves out numbers as 30000/1001 and 60000/1001 "
                f"frames a second need it, and fps is {rate}; write a colon before the frame, or another fps"
            )


def _check_option(option: str, name: str, value: str) -> None:
    # A value that begins with `-` and a letter is another option, whose own value was forgotten.
    if name not in _FLAGS and re.match(r"-[A-Za-z]", value):
        raise ValueError(f"encode: {option} has no value but {quote_value(value)}; write its value behind it")
    if name == "metadata":
        if "=" not in value or "\0" in value:
            raise ValueError(f"encode: {option} is {quote_value(value)}; write it as key=value")
    elif name in ("vf", "filter"):
        _check_filters(option, value)
    elif name in _FLAGS:
        for flag in filter(None, re.split(r"[+-]", value)):
            if flag not in _FLAGS[name]:
                raise ValueError(f"encode: {option} may not be {quote_value(flag)}; {_FIX}")
    elif name in _PARAMETER_OPTIONS:
        for part in filter(None, value.split(":")):
            key = part.partition("=")[0].strip()
            if key not in _PARAMETERS or "/" in part or "\\" in part:
                raise ValueError(f"encode: {option} may not hold {quote_value(part)}; {_FIX}")
    elif name not in _PLAIN:
        raise ValueError(f"encode: {option} is not an option that jobs may give; {_FIX}")
    elif not _WORD.fullmatch(value) or value.startswith("/") or "//" in value or ".." in value:
        raise ValueError(f"encode: {option} is {quote_value(value)}; write a word or a number")


def _check_filters(option: str, graph: str) -> None:
    """Raise unless a filter graph is a chain of known filters, with values that name no file.

    Quotes and backslashes are refused: without them a graph falls into its filters at `,` and `;` alone, so that
    nothing hides in a value.
    """
    if re.search(r"['\"\\\0\n\[\]]", graph):
        raise ValueError(f"encode: {option} holds a quote, a backslash or a bracket; write one plain chain of filters")
    for part in re.split("[,;]", graph):
        name, _, values = part.strip().partition("=")
        if name.strip() not in _FILTERS:
            raise ValueError(
                f"encode: the filter {quote_value(name.strip())} is not one that jobs may give; use it in command, "
                "or leave it out"
            )
        for value in values.split(":"):
            # In ffmpeg 7 and later `/key=name` takes the value from a file of that name.
            key = value.partition("=")[0].strip().lower()
            if key.startswith("/") or key in _FILE_OPTIONS:
                raise ValueError(f"encode: {quote_value(value)} of the filter {name} names a file; {_FIX}")
