"""Program that converts image files by OpenColorIO and pipes them into ffmpeg, picture by picture.

A process of its own, as `decoder_main` is, because decoders and OpenColorIO are C++ and the files are somebody else's.
It runs as a render does, and ffmpeg is its child. Started with `-I`, so it imports nothing but the standard library and
OpenImageIO (the extra `images`).

A request of JSON names `config` (of OpenColorIO), `input`, `output` and `view` (names in it). On stdin, it is answered
with what these mean: `input`, `output`, `code_points` (primaries, transfer and matrix, as ITU-T H.273 numbers them), or
`error`. In a file that the first argument names, it holds `folder`, `suffix`, `count`, `has_alpha` and `command`, too:
the files `000000000<suffix>` and so on are converted, and the command is run, with `{size}` and `{pixels}` filled in by
what it is sent.
"""

import json
import os
import re
import subprocess
import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

# Pictures that are decoded and converted while ffmpeg encodes one.
_AHEAD = 2
_LINEAR = "lin_rec709"
# What a film of linear pictures without `colour` is: the one that their renderer would have written as PNG files.
OF_LINEAR = {"input": "", "output": "srgb_rec709_scene", "view": ""}
# For films of high dynamic range: what screens show. Transfers of PQ and HLG, as H.273 numbers them.
_HDR = frozenset({16, 18})
_SCREEN = "sRGB - Display"
# People's words for what the built-in configurations call by longer names.
_COMMON = {
    "linear": ("lin_rec709", "Linear Rec.709 (sRGB)", "Utility - Linear - sRGB"),
    "rec709": ("Rec.1886 Rec.709 - Display",),
    "bt709": ("Rec.1886 Rec.709 - Display",),
    "rec1886": ("Rec.1886 Rec.709 - Display",),
    "srgb": ("sRGB - Display", "sRGB - Texture", "sRGB Encoded Rec.709 (sRGB)"),
    "hdr10": ("Rec.2100-PQ - Display",),
    "pq": ("Rec.2100-PQ - Display",),
    "hlg": ("Rec.2100-HLG - Display",),
}


class ConversionError(Exception):
    """A picture or a name that cannot be converted; the text is a sentence without its end."""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def find_space(colours: Any, name: str, field: str) -> str:  # of an optional module
    """Return the colour space of a configuration that people call by a name."""
    spaces = list(colours.getColorSpaceNames())
    wanted = [name, *_COMMON.get(_plain(name), ())]
    for one in wanted:
        resolved = colours.resolve(one)
        # A role such as scene_linear comes back as the space that it stands for.
        if resolved in spaces:
            return str(resolved)
    for plain in (_plain(name), f"{_plain(name)}display"):
        for space in spaces:
            if plain in {_plain(space), *map(_plain, colours.getAliases(space))}:
                return str(space)
    near = [space for space in spaces if _plain(name)[:4] in _plain(space)] or spaces
    raise ConversionError(f"{field}: {name!r} is no colour space of {colours.configname()}; it has {', '.join(near)}")


def find_view(colours: Any, display: str, view: str) -> str:
    """Return the view of a display that people call by a name."""
    views = list(colours.getViewNames(display))
    for one in views:
        if _plain(view) == _plain(one):
            return str(one)
    if not views:
        raise ConversionError(f"colour.view: {display!r} is no display, and has no views; leave it out")
    raise ConversionError(f"colour.view: {display!r} has no view {view!r}; it has {', '.join(views)}")


def open_config(request: dict[str, Any]) -> tuple[Any, Any]:
    """Return OpenImageIO and the configuration of a request, before anything else has imported the former."""
    # OpenImageIO keeps the transforms of this configuration; of one that is named with each picture it keeps none.
    os.environ["OCIO"] = request["config"]
    try:
        import OpenImageIO  # noqa: PLC0415  # optional, and it reads the environment as it is imported
    except ImportError as error:
        raise ConversionError("colour: needs OpenImageIO; install the extra images of longtake") from error
    colours = OpenImageIO.ColorConfig(request["config"])
    problem = colours.geterror()
    if problem or not colours.getNumColorSpaces():
        raise ConversionError(f"colour.config: {request['config']!r} cannot be read: {problem or 'it has no spaces'}")
    return OpenImageIO, colours


def find_input(colours: Any, spec: Any) -> str:
    """Return the colour space that a file names itself, if it is a linear one; else that of most renderers."""
    said = colours.resolve(spec.get_string_attribute("oiio:ColorSpace"))
    if said in colours.getColorSpaceNames() and colours.isColorSpaceLinear(said):
        return str(said)
    return find_space(colours, _LINEAR, "colour.input")


def _describe(request: dict[str, Any]) -> dict[str, Any]:
    _, colours = open_config(request)
    output = find_space(colours, request["output"], "colour.output")
    if request["view"]:
        find_view(colours, output, request["view"])
    return {
        "input": request["input"] and find_space(colours, request["input"], "colour.input"),
        "output": output,
        "code_points": colours.get_cicp(output),
    }


def find_channels(names: tuple[str, ...], *, has_alpha: bool) -> tuple[int, ...] | None:
    """Return the places of red, green, blue and, where it is wanted, alpha; of layers the whole picture comes first."""
    plain = [name.casefold() for name in names]
    layers = [name[:-1] for name in plain if name.endswith((".r", "r")) and (len(name) == 1 or name[-2] == ".")]
    layers.sort(key=lambda layer: (layer != "", "combined" not in layer and "rgba" not in layer))
    for layer in layers:
        wanted = [f"{layer}{colour}" for colour in "rgb"]
        if all(one in plain for one in wanted):
            alpha = [f"{layer}a"] if has_alpha and f"{layer}a" in plain else []
            return tuple(plain.index(one) for one in [*wanted, *alpha])
    if len(names) <= 2 and not any("." in name for name in names):
        return (0, 0, 0, 1) if has_alpha and len(names) == 2 else (0, 0, 0)
    return None


def open_part(oiio: Any, path: str, *, has_alpha: bool) -> tuple[Any, tuple[int, ...] | None]:
    """Open the first part of a file that has colours, and return it with the places of its channels.

    Of a file without colours it is the last part, without places; one that cannot be read has an error.
    """
    part = 0
    while True:
        image = oiio.ImageBuf(path, part, 0)
        if image.has_error or not image.nchannels:
            return image, None
        places = find_channels(tuple(image.spec().channelnames), has_alpha=has_alpha)
        part += 1
        if places is not None or part >= image.nsubimages:
            return image, places


def fill_window(oiio: Any, image: Any) -> Any:
    """Return a picture in the whole of its display window; what its data leave out is black and transparent."""
    full = image.roi_full
    if image.roi == full:
        return image
    window = oiio.ROI(full.xbegin, full.xend, full.ybegin, full.yend, 0, 1, 0, image.nchannels)
    return oiio.ImageBufAlgo.crop(image, window)


def convert_for_screen(oiio: Any, known: Any, image: Any, colours: dict[str, str], spec: Any) -> Any:
    """Return a picture with the colours of the film; where that has high dynamic range, with those for screens.

    Args:
        oiio: OpenImageIO.
        known: The configuration.
        image: The picture, in float.
        colours: The conversion: `input`, `output` and `view`.
        spec: What the file says of the picture.
    """
    output = find_space(known, colours["output"], "colour.output")
    source = colours["input"]
    source = find_space(known, source, "colour.input") if source else find_input(known, spec)
    view = colours["view"]
    points = known.get_cicp(output)
    if points and points[1] in _HDR:
        output = find_space(known, _SCREEN, "colour.output")
        view = known.getDefaultViewName(output)
    if view:
        view = find_view(known, output, view)
        made = oiio.ImageBufAlgo.ociodisplay(image, output, view, source, unpremult=True)
    else:
        made = oiio.ImageBufAlgo.colorconvert(image, source, output, unpremult=True)
    if made.has_error:
        raise ConversionError(made.geterror())
    return made


class _Converter:
    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._oiio, self._colours = open_config(request)
        self._output = find_space(self._colours, request["output"], "colour.output")
        self._view = request["view"] and find_view(self._colours, self._output, request["view"])
        first, places = self._open(0)
        asked = request["input"]
        if asked:
            self._input = find_space(self._colours, asked, "colour.input")
        else:
            self._input = find_input(self._colours, first.spec())
        self.is_transparent = len(places) == 4
        self.size = (first.roi_full.width, first.roi_full.height)
        through = f", {self._view}" if self._view else ""
        sys.stderr.write(f"colours: {self._input} to {self._output}{through}\n")

    def _path(self, number: int) -> str:
        return os.path.join(self._request["folder"], f"{number:09}{self._request['suffix']}")

    def _open(self, number: int) -> tuple[Any, tuple[int, ...]]:
        """Open the first part of a picture that has colours; return it with the places of its channels."""
        image, places = open_part(self._oiio, self._path(number), has_alpha=self._request["has_alpha"])
        if image.has_error or not image.nchannels:
            raise ConversionError(f"frame {number} of the film cannot be read: {image.geterror()}")
        if places is None:
            listed = ", ".join(image.spec().channelnames)
            raise ConversionError(f"frame {number} of the film has no red, green and blue; it has {listed}")
        return image, places

    def _read(self, number: int) -> Any:
        """Read the colours of a picture, in the whole of its display window."""
        algorithms = self._oiio.ImageBufAlgo
        image, places = self._open(number)
        low = min(places)
        if not image.read(image.subimage, 0, low, max(places) + 1, True, self._oiio.FLOAT):
            raise ConversionError(f"frame {number} of the film cannot be read: {image.geterror()}")
        picture = algorithms.channels(image, tuple(place - low for place in places), tuple("RGBA"[: len(places)]))
        full = image.roi_full
        if (full.width, full.height) != self.size:
            raise ConversionError(f"frame {number} of the film has another size than its first one")
        return fill_window(self._oiio, picture)

    def convert(self, number: int) -> bytes:
        """Convert a picture to samples of 16 bits, with straight alpha."""
        algorithms = self._oiio.ImageBufAlgo
        picture = self._read(number)
        if self.is_transparent:
            picture = algorithms.unpremult(picture)
        if self._view:
            made = algorithms.ociodisplay(picture, self._output, self._view, self._input, unpremult=False)
        else:
            made = algorithms.colorconvert(picture, self._input, self._output, unpremult=False)
        if made.has_error:
            raise ConversionError(f"frame {number} of the film cannot be converted: {made.geterror()}")
        # Values beyond 0 to 1 are cut off; what is no number becomes 0.
        return bytes(made.get_pixels(self._oiio.UINT16).tobytes())


def _run(request: dict[str, Any]) -> int:
    converter = _Converter(request)
    words = {
        "{size}": f"{converter.size[0]}x{converter.size[1]}",
        "{pixels}": ("rgba64" if converter.is_transparent else "rgb48") + ("le" if sys.byteorder == "little" else "be"),
    }
    command = [words.get(word, word) for word in request["command"]]
    waiting: deque[Future[bytes]] = deque()
    with subprocess.Popen(command, stdin=subprocess.PIPE) as ffmpeg, ThreadPoolExecutor(_AHEAD) as pool:
        assert ffmpeg.stdin is not None
        try:
            for number in range(request["count"]):
                waiting.append(pool.submit(converter.convert, number))
                if len(waiting) > _AHEAD:
                    ffmpeg.stdin.write(waiting.popleft().result())
            while waiting:
                ffmpeg.stdin.write(waiting.popleft().result())
            ffmpeg.stdin.close()
        except BrokenPipeError:
            # It has said itself why it ended.
            return ffmpeg.wait() or 1
        except BaseException:
            # It would finish a film of the pictures that it has, and end well.
            ffmpeg.kill()
            raise
        return ffmpeg.wait()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return _describe(request)
    except ConversionError as error:
        return {"error": str(error)}


def main() -> int:
    """Convert the pictures of a request, or tell what its names mean."""
    if len(sys.argv) < 2:
        sys.stdout.write(json.dumps(_answer(json.load(sys.stdin))))
        return 0
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    try:
        return _run(request)
    except ConversionError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
