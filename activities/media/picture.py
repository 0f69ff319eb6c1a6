"""Make a small JPEG of a decoded picture: turned, with square pixels, over a checker where it is transparent."""

from fractions import Fraction

import av
from av.filter import Graph
from av.video.frame import VideoFrame

MEDIA_TYPE = "image/jpeg"
SUFFIX = ".jpg"

# Quantizers of libav's encoder from fine to coarse: the first whose picture is small enough is taken.
_QUANTIZERS = (3, 6, 12, 24)
# Of 320 x 180 a detailed picture has 25 KB; one of pure noise would have 60.
_MOST_BYTES = 40_000
_REFERENCE_PIXELS = 320 * 180

# SMPTE ST 2084 (PQ), as H.273 numbers it.
_PQ = 16
# PQ's curve by its constants, white of 203 cd/m2 (BT.2408) as 1, Reinhard's curve up to 1,000 cd/m2, and gamma.
_PQ_ROOT = "pow(clip(val/maxval,0,1),1/78.84375)"
_PQ_LIGHT = f"pow(max({_PQ_ROOT}-0.8359375,0)/(18.8515625-18.6875*{_PQ_ROOT}),1/0.1593017578125)*10000/203"
_TONE_MAPPED = f"min(1,pow(({_PQ_LIGHT})*(1+({_PQ_LIGHT})/24.3)/(1+({_PQ_LIGHT})),1/2.2))*maxval"

_TURNS = {90: ("transpose", "cclock"), -90: ("transpose", "clock")}
# A checker of two greys, whose squares have 8 pixels.
_CHECKER = "lum='if(mod(floor(X/8)+floor(Y/8),2),112,144)':cb=128:cr=128"


def fit_size(width: int, height: int, longest: int, aspect: Fraction = Fraction(1)) -> tuple[int, int]:
    """Return the size of a picture with square pixels whose longest side is at most `longest`; none is enlarged.

    Args:
        width: Pixels of a line.
        height: Lines.
        longest: The longest side.
        aspect: Width of a pixel by its height.
    """
    wide, high = (Fraction(width) * aspect, Fraction(height)) if aspect > 1 else (Fraction(width), height / aspect)
    scale = min(Fraction(1), Fraction(longest) / max(wide, high))
    return max(1, round(wide * scale)), max(1, round(high * scale))


def make_picture(frame: VideoFrame, *, longest: int, aspect: Fraction = Fraction(1)) -> bytes:
    """Make a JPEG of a decoded frame.

    Its matrix and range are undone as the frame says, its rotation is carried out, and PQ is mapped to the range of
    screens. Wide primaries are left as they are.

    Args:
        frame: The frame.
        longest: The longest side of the picture.
        aspect: Width of a pixel by its height.

    Raises:
        FFmpegError: libav cannot convert such a frame.
    """
    width, height = fit_size(frame.width, frame.height, longest, aspect)
    is_transparent = any(component.is_alpha for component in frame.format.components)
    graph = Graph()
    source = (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1:pixel_aspect=1/1"
        f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"
    )
    last = graph.add("buffer", source)
    steps = [("scale", f"w={width}:h={height}:flags=area"), ("setsar", "1")]
    if is_transparent:
        steps.append(("format", "rgba"))
    elif frame.color_trc == _PQ:
        steps += [("format", "gbrp12"), ("lutrgb", f"r='{_TONE_MAPPED}':g='{_TONE_MAPPED}':b='{_TONE_MAPPED}'")]
    else:
        steps.append(("format", "gbrp"))
    for name, arguments in steps:
        last = _link(graph, last, name, arguments)
    if is_transparent:
        last = _lay_over_checker(graph, last, width, height)
    rotation = round(frame.rotation / 90) * 90
    if abs(rotation) == 180:
        last = _link(graph, _link(graph, last, "hflip", ""), "vflip", "")
    elif rotation in _TURNS:
        last = _link(graph, last, *_TURNS[rotation])
    # Of JFIF: BT.601, full range.
    last = _link(graph, last, "scale", "out_color_matrix=bt601:out_range=pc")
    last = _link(graph, last, "format", "yuvj420p")
    _link(graph, last, "buffersink", "")
    graph.configure()
    # The graph rounds times that the frame has to its own clock, and of a still picture there is no other.
    frame.pts = 0
    graph.push(frame)
    if is_transparent:
        graph.push(None)
    made = graph.pull()
    assert isinstance(made, VideoFrame)
    return encode_jpeg(made)


def _link(graph: Graph, last: "av.filter.context.FilterContext", name: str, arguments: str):  # type: ignore[no-untyped-def]  # PyAV has no name for it
    step = graph.add(name, arguments or None)
    last.link_to(step)
    return step


def _lay_over_checker(graph: Graph, last: "av.filter.context.FilterContext", width: int, height: int):  # type: ignore[no-untyped-def]  # likewise
    checker = graph.add("color", f"c=gray:s={width}x{height}:r=1:d=1")
    checker = _link(graph, _link(graph, checker, "format", "yuv444p"), "geq", _CHECKER)
    over = graph.add("overlay", "format=rgb")
    checker.link_to(over, 0, 0)
    last.link_to(over, 0, 1)
    return over


def encode_jpeg(picture: VideoFrame) -> bytes:
    """Encode a picture of full range as a baseline JPEG of bounded size."""
    if picture.format.name != "yuvj420p":
        picture = picture.reformat(format="yuvj420p", dst_colorspace="ITU601", dst_color_range="JPEG")
    most = max(1, picture.width * picture.height // _REFERENCE_PIXELS) * _MOST_BYTES
    data = b""
    for quantizer in _QUANTIZERS:
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt = picture.width, picture.height, "yuvj420p"
        encoder.time_base = Fraction(1, 25)
        encoder.options = {"qmin": str(quantizer), "qmax": str(quantizer)}
        picture.pts = 0
        data = b"".join(bytes(packet) for packet in (*encoder.encode(picture), *encoder.encode(None)))
        if len(data) <= most:
            break
    return data
