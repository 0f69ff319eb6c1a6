"""Read image files for a small copy by OpenImageIO, with the colours that their film has."""

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from av.video.frame import VideoFrame

from longtake import colour_main

# Files of these may be linear; others are shown as they are, unless the job converts them.
LINEAR_SUFFIXES = frozenset({".exr", ".hdr", ".tif", ".tiff"})
_LINEAR_FORMATS = frozenset({"openexr", "hdr"})
_LINEAR_SAMPLES = frozenset({"half", "float", "double"})


class ImageReader:
    """Reads image files as small pictures for screens.

    Args:
        config: The configuration of OpenColorIO. All readers of a process have one: OpenImageIO keeps its transforms.

    Raises:
        ConversionError: It cannot be read, or OpenImageIO is not installed.
    """

    def __init__(self, config: str) -> None:
        self._oiio, self._colours = colour_main.open_config({"config": config})
        # By name and never by content.
        self._oiio.attribute("try_all_readers", 0)

    def read_all(
        self, paths: Sequence[str], colours: dict[str, str] | None, longest: int
    ) -> Iterator[tuple[VideoFrame, Fraction]]:
        """Yield pictures, with the shape of their pixels.

        Args:
            paths: Their files.
            colours: The conversion of the job; None where it names none, so that linear ones alone are converted.
            longest: The longest side that they need.

        Raises:
            ConversionError: A file cannot be read or converted.
        """
        for path in paths:
            yield self._read(path, colours, longest)

    def _read(self, path: str, colours: dict[str, str] | None, longest: int) -> tuple[VideoFrame, Fraction]:
        image, file = self._shrink(path, longest)
        is_linear = image.file_format_name in _LINEAR_FORMATS or f"{file.format}" in _LINEAR_SAMPLES
        if colours is not None or is_linear:
            image = colour_main.convert_for_screen(
                self._oiio, self._colours, image, colours or colour_main.OF_LINEAR, file
            )
        samples = image.get_pixels(self._oiio.UINT8)
        aspect = Fraction(file.get_float_attribute("PixelAspectRatio", 1.0)).limit_denominator(1000)
        return VideoFrame.from_ndarray(samples, format="rgb24"), aspect or Fraction(1)

    def _shrink(self, path: str, longest: int) -> tuple[Any, Any]:
        """Return the colours of a file in the whole of its display window, no larger than needed, and what it says."""
        algorithms, oiio = self._oiio.ImageBufAlgo, self._oiio
        image, places = colour_main.open_part(oiio, path, has_alpha=False)
        if image.has_error or not image.nchannels:
            raise colour_main.ConversionError(image.geterror() or f"{os.path.basename(path)} cannot be read")
        if places is None:
            raise colour_main.ConversionError("it has no red, green and blue")
        file, low = image.spec(), min(places)
        image.read(image.subimage, 0, low, max(places) + 1, True, oiio.FLOAT)
        picture = algorithms.channels(image, tuple(place - low for place in places), ("R", "G", "B"))
        full = image.roi_full
        picture = algorithms.fixNonFinite(colour_main.fill_window(oiio, picture))
        scale = min(1.0, longest / max(full.width, full.height))
        size = max(1, round(full.width * scale)), max(1, round(full.height * scale))
        small = algorithms.resize(picture, "triangle", 0.0, oiio.ROI(0, size[0], 0, size[1], 0, 1, 0, 3))
        if small.has_error:
            raise colour_main.ConversionError(small.geterror())
        return small, file
