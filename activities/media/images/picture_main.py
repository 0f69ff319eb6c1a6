"""Program that makes small JPEGs of image files, each for a request with an open file.

A process as `descriptor_process` starts them, with the configuration of OpenColorIO as its argument, whose transforms
OpenImageIO keeps from picture to picture.

A request has `suffix` (of the file), `reader` and `demuxer` (OpenImageIO's and libav's names of what reads it; empty
for none), `longest` (side of the picture, in pixels), and `colours`, where they are converted: `input`, `output` and
`view`, as `colour_main` knows them.
"""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

# A picture of 8K with forty channels takes 5 s to decode; of one that takes longer there is no small one.
MOST_CPU_SECONDS = 20.0
MOST_MEMORY_BYTES = 6 << 30
# Of the pixels that make one pixel of the small picture, so many lines and columns are looked at.
_SAMPLES = 4
# Squares of the checker behind what is transparent, and its two greys.
_SQUARE = 8
_GREYS = (112 / 255, 144 / 255)


class PictureError(Exception):
    """A file of which no picture can be made; the text is a sentence without its end."""


def _load_colours() -> Any:
    """Load `longtake.colour_main` without its package, whose own imports take half a second of CPU time."""
    package = importlib.util.find_spec("longtake")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0]) / "colour_main.py"
    spec = importlib.util.spec_from_file_location("colour_main", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Painter:
    """Makes pictures, by OpenImageIO where it is installed and else by libav.

    Args:
        config: The configuration of OpenColorIO.
    """

    def __init__(self, config: str) -> None:
        # The folder of the package that this file is of; none of a job.
        sys.path.append(str(Path(__file__).resolve().parents[3]))
        from activities.media import picture  # noqa: PLC0415 (found by the line above)

        colour_main = _load_colours()
        self._config = config
        self._small = picture
        self._colour = colour_main
        self._oiio: Any = None
        self._colours: Any = None
        try:
            self._oiio, self._colours = colour_main.open_config({"config": config})
        except colour_main.ConversionError:
            self._import_without_colours()
        if self._oiio is not None:
            self._oiio.attribute("threads", 1)
            self._oiio.attribute("exr_threads", -1)
            self._oiio.attribute("try_all_readers", 0)

    def _import_without_colours(self) -> None:
        try:
            import OpenImageIO  # noqa: PLC0415 (optional)
        except ImportError:
            return
        self._oiio = OpenImageIO

    def paint(self, path: str, request: dict[str, Any]) -> bytes:
        """Make the picture of a file.

        Raises:
            PictureError: No picture can be made.
        """
        if self._oiio is not None and request["reader"]:
            return self._paint_by_oiio(path, request)
        if not request["demuxer"]:
            raise PictureError("no decoder for its format is installed")
        return self._paint_by_libav(path, request)

    def _paint_by_libav(self, path: str, request: dict[str, Any]) -> bytes:
        import av  # noqa: PLC0415 (half a second that OpenImageIO's pictures need not take)

        # By name and never by content: a playlist or a script would make libav open other files.
        options = {"protocol_whitelist": "file"}
        if request["demuxer"] == "image2":
            options["pattern_type"] = "none"
        try:
            with av.open(f"file:{path}", format=request["demuxer"], options=options) as container:
                stream = container.streams.video[0]
                if stream.codec_context is None:
                    raise PictureError("libav has no decoder for it")
                if request["suffix"] == ".exr":
                    # Linear samples are shown by the curve of sRGB.
                    stream.codec_context.options = {"apply_trc": "iec61966_2_1"}
                frame = next(container.decode(stream))
                aspect = stream.sample_aspect_ratio or Fraction(1)
                return self._small.make_picture(frame, longest=request["longest"], aspect=aspect)
        except (av.error.FFmpegError, StopIteration, IndexError, ValueError) as error:
            raise PictureError(f"libav cannot decode it: {error}") from error

    def _paint_by_oiio(self, path: str, request: dict[str, Any]) -> bytes:
        import av  # noqa: PLC0415 (as above)
        import numpy  # noqa: PLC0415 (a part of OpenImageIO's interface)

        algorithms, oiio = self._oiio.ImageBufAlgo, self._oiio
        image = self._read(path, request["reader"])
        aspect = Fraction(image.spec().get_float_attribute("PixelAspectRatio", 1.0)).limit_denominator(1000)
        space = image.spec().get_string_attribute("oiio:ColorSpace")
        orientation = image.orientation
        full = image.roi_full
        width, height = self._small.fit_size(full.width, full.height, request["longest"], aspect or Fraction(1))
        small = self._shrink(image, width, height, numpy)
        colours = request["colours"]
        if colours is not None and self._colours is not None:
            spec = small.specmod()
            spec.attribute("oiio:ColorSpace", space)
            small = self._colour.convert_for_screen(oiio, self._colours, small, colours, spec)
        if small.nchannels == 4:
            small = self._lay_over_checker(small, numpy)
        small.orientation = orientation
        small = algorithms.reorient(small)
        if small.has_error:
            raise PictureError(small.geterror())
        samples = numpy.ascontiguousarray(small.get_pixels(oiio.UINT8)[:, :, :3])
        return self._small.encode_jpeg(av.VideoFrame.from_ndarray(samples, format="rgb24"))

    def _read(self, path: str, reader: str) -> Any:
        """Read the colours of the first part of a file that has some, in the whole of its display window."""
        image, places = self._colour.open_part(self._oiio, path, has_alpha=True)
        if image.has_error or not image.nchannels:
            raise PictureError(image.geterror() or "it cannot be read")
        if image.file_format_name != reader:
            raise PictureError(f"OpenImageIO takes it for {image.file_format_name}")
        if places is None:
            # Not the colours of the film, and better than nothing: one layer, as grey.
            image, places = self._oiio.ImageBuf(path, 0, 0), (0, 0, 0)
        low, high = min(places), max(places) + 1
        if not image.read(image.subimage, 0, low, high, True, image.spec().format):
            raise PictureError(image.geterror())
        return self._oiio.ImageBufAlgo.channels(
            image, tuple(place - low for place in places), tuple("RGBA"[: len(places)])
        )

    def _shrink(self, image: Any, width: int, height: int, numpy: Any) -> Any:
        """Return a picture of this size in float; what the data window leaves out is black and transparent."""
        oiio, full = self._oiio, image.roi_full
        image = self._colour.fill_window(oiio, image)
        samples = image.get_pixels(image.spec().format)
        down, right = max(1, full.height // height), max(1, full.width // width)
        # A few of the pixels that make one: all of a picture of 8K would take longer than to decode it.
        samples = samples[:: max(1, down // _SAMPLES), :: max(1, right // _SAMPLES)]
        down, right = max(1, samples.shape[0] // height), max(1, samples.shape[1] // width)
        samples = samples[: samples.shape[0] // down * down, : samples.shape[1] // right * right]
        lines, columns, channels = samples.shape
        scale = 1.0 / numpy.iinfo(samples.dtype).max if samples.dtype.kind == "u" else 1.0
        boxes = samples.reshape(lines // down, down, columns // right, right, channels)
        # What is no number would spoil its neighbours.
        mean = numpy.nan_to_num(boxes.astype(numpy.float32)).mean((1, 3), dtype=numpy.float32) * scale
        mean = numpy.ascontiguousarray(mean, dtype=numpy.float32)
        spec = oiio.ImageSpec(mean.shape[1], mean.shape[0], channels, oiio.FLOAT)
        if channels == 4:
            spec.alpha_channel = 3
        small = oiio.ImageBuf(spec)
        small.set_pixels(oiio.ROI(), mean)
        return oiio.ImageBufAlgo.resize(small, "triangle", 0.0, oiio.ROI(0, width, 0, height, 0, 1, 0, channels))

    def _lay_over_checker(self, image: Any, numpy: Any) -> Any:
        samples = image.get_pixels(self._oiio.FLOAT)
        lines, columns = numpy.indices(samples.shape[:2]) // _SQUARE
        checker = numpy.where((lines + columns) % 2, *_GREYS)[:, :, None]
        alpha = samples[:, :, 3:].clip(0, 1)
        made = (samples[:, :, :3] + checker * (1 - alpha)).astype(numpy.float32)
        over = self._oiio.ImageBuf(self._oiio.ImageSpec(made.shape[1], made.shape[0], 3, self._oiio.FLOAT))
        over.set_pixels(self._oiio.ROI(), numpy.ascontiguousarray(made))
        return over


def make_answer(config: str) -> Callable[[dict[str, Any], Sequence[str]], tuple[dict[str, Any], bytes]]:
    """Return what makes pictures by a configuration of OpenColorIO."""
    painter = _Painter(config)

    def answer(request: dict[str, Any], paths: Sequence[str]) -> tuple[dict[str, Any], bytes]:
        return {}, painter.paint(paths[0], request)

    return answer
