"""Image files of every format that renderers write, made anew, and the damages they are tried with."""

import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
from numpy.typing import NDArray

WIDTH, HEIGHT = 96, 64

Pixels = NDArray[np.float32]


def pixels(channels: int, number: int = 1) -> Pixels:
    """A picture of waves and noise, so that codecs have something to do, and another one for each number."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    noise = np.random.default_rng(number)
    planes = [
        ((columns * (c + 1) + rows + number * 7) % 97) / 97 * 0.8 + noise.random((HEIGHT, WIDTH)) * 0.2
        for c in range(channels)
    ]
    return np.stack(planes, axis=-1).astype(np.float32)


@dataclass(frozen=True)
class Sample:
    """One variety of a format.

    Attributes:
        suffix: Extension of the file.
        make: Writes it, as the picture of a number.
    """

    suffix: str
    make: Callable[[str, Path, int], None]


def _oiio(
    suffix: str,
    channels: int = 3,
    kind: str = "uint8",
    *,
    names: tuple[str, ...] = (),
    tile: int = 0,
    parts: int = 1,
    **attributes: str | int,
) -> Sample:
    """A file that OpenImageIO writes; attributes have `__` for `:`."""

    def make(_: str, path: Path, number: int) -> None:
        spec = oiio.ImageSpec(WIDTH, HEIGHT, channels, kind)
        if names:
            spec.channelnames = names
        spec.tile_width = spec.tile_height = tile
        for name, value in attributes.items():
            spec.attribute(name.replace("__", ":"), value)
        out = oiio.ImageOutput.create(str(path))
        assert out is not None, oiio.geterror()
        specs = []
        for part in range(parts):
            specs.append(oiio.ImageSpec(spec))
            if parts > 1:
                specs[-1].attribute("oiio:subimagename", f"part{part}")
        assert out.open(str(path), specs if parts > 1 else spec), out.geterror()
        for part in range(parts):
            if part:
                assert out.open(str(path), specs[part], "AppendSubimage"), out.geterror()
            data = pixels(channels, number + part)
            is_written = out.write_tiles(0, WIDTH, 0, HEIGHT, 0, 1, data) if tile else out.write_image(data)
            assert is_written, out.geterror()
        assert out.close(), out.geterror()

    return Sample(suffix, make)


def _deep(suffix: str, *, tile: int = 0) -> Sample:
    """A deep OpenEXR: up to three samples in a pixel, and none in some."""

    def make(_: str, path: Path, number: int) -> None:
        spec = oiio.ImageSpec(WIDTH, HEIGHT, 2, "float")
        spec.channelnames = ("A", "Z")
        spec.deep = True
        spec.tile_width = spec.tile_height = tile
        spec.attribute("compression", "zips")
        data = oiio.DeepData()
        data.init(WIDTH * HEIGHT, 2, (oiio.TypeFloat, oiio.TypeFloat), ("A", "Z"))
        values = pixels(1, number)
        for pixel in range(WIDTH * HEIGHT):
            count = pixel % 4
            data.set_samples(pixel, count)
            for sample in range(count):
                data.set_deep_value(pixel, 0, sample, 0.5)
                data.set_deep_value(pixel, 1, sample, sample + float(values[pixel // WIDTH, pixel % WIDTH, 0]))
        out = oiio.ImageOutput.create(str(path))
        assert out is not None
        assert out.open(str(path), spec), out.geterror()
        assert out.write_deep_image(data), out.geterror()
        assert out.close(), out.geterror()

    return Sample(suffix, make)


def _ffmpeg(suffix: str, *options: str) -> Sample:
    def make(ffmpeg: str, path: Path, number: int) -> None:
        source = ("-f", "lavfi", "-i", f"testsrc2=s={WIDTH}x{HEIGHT}:r=1,noise=alls=20:allf=t", "-ss", str(number))
        command = [ffmpeg, "-nostdin", "-v", "error", "-y", *source, "-frames:v", "1", "-threads", "1", *options]
        subprocess.run([*command, str(path)], check=True)

    return Sample(suffix, make)


_LAYERS = tuple(f"ViewLayer.{name}" for name in ("Combined.R", "Combined.G", "Combined.B", "Combined.A", "Depth.Z"))

SAMPLES: Mapping[str, Sample] = {
    "PNG 8-bit": _ffmpeg("png"),
    "PNG 16-bit": _oiio("png", 4, "uint16"),
    "PNG grey": _oiio("png", 1),
    "JPEG": _oiio("jpg"),
    "JPEG 4:2:0": _ffmpeg("jpg", "-pix_fmt", "yuvj420p"),
    "JPEG-LS": _ffmpeg("jls"),
    "OpenEXR none": _oiio("exr", 4, "float", compression="none"),
    "OpenEXR rle": _ffmpeg("exr", "-compression", "rle"),
    "OpenEXR zips": _oiio("exr", 4, "half", compression="zips"),
    "OpenEXR zip": _oiio("exr", 4, "half", compression="zip"),
    "OpenEXR piz": _oiio("exr", 4, "float", compression="piz"),
    "OpenEXR pxr24": _oiio("exr", 4, "half", compression="pxr24"),
    "OpenEXR b44": _oiio("exr", 4, "half", compression="b44"),
    "OpenEXR dwaa": _oiio("exr", 4, "half", compression="dwaa"),
    "OpenEXR dwab": _oiio("exr", 4, "half", compression="dwab"),
    "OpenEXR tiled": _oiio("exr", 4, "half", tile=32, compression="zip"),
    "OpenEXR mipmap": _oiio("exr", 4, "half", tile=32, compression="zip", openexr__levelmode=1),
    "OpenEXR decreasing y": _oiio("exr", 4, "half", compression="none", openexr__lineOrder="decreasingY"),
    "OpenEXR layers": _oiio("exr", 5, "half", names=_LAYERS, compression="zip"),
    "OpenEXR multipart": _oiio("exr", 4, "half", parts=3, compression="zip"),
    "OpenEXR deep": _deep("exr"),
    "OpenEXR deep tiled": _deep("exr", tile=32),
    "TIFF raw": _oiio("tif", compression="none"),
    "TIFF deflate": _oiio("tif", 4, "uint16", compression="zip"),
    "TIFF LZW float": _oiio("tif", 3, "float", compression="lzw"),
    "TIFF PackBits": _ffmpeg("tif", "-pix_fmt", "rgb24", "-compression_algo", "packbits"),
    "TIFF JPEG": _oiio("tif", compression="jpeg"),
    "TIFF tiled": _oiio("tif", tile=32, compression="zip"),
    "TIFF planes": _oiio("tif", planarconfig="separate", compression="lzw"),
    "BigTIFF": _oiio("tif", compression="zip", tiff__bigtiff=1),
    ".tx": _oiio("tx", tile=32),
    "DPX 8-bit": _oiio("dpx"),
    "DPX 10-bit filled": _oiio("dpx", 3, "uint16", oiio__BitsPerSample=10),
    "DPX 10-bit packed": _oiio("dpx", 3, "uint16", oiio__BitsPerSample=10, dpx__Packing="Packed"),
    "DPX 12-bit packed": _oiio("dpx", 3, "uint16", oiio__BitsPerSample=12, dpx__Packing="Packed"),
    "DPX 16-bit": _oiio("dpx", 4, "uint16"),
    "DPX 16-bit little-endian": _oiio("dpx", 3, "uint16", oiio__Endian="little"),
    "DPX CbYCr": _oiio("dpx", 3, dpx__ImageDescriptor="CbYCr"),
    "DPX float": _oiio("dpx", 3, "float"),
    "TGA": _oiio("tga", 4, compression="none"),
    "TGA runs": _oiio("tga", 4, compression="rle"),
    "TGA grey": _oiio("tga", 1),
    "BMP": _oiio("bmp"),
    "BMP RGBA": _oiio("bmp", 4),
    "Radiance": _oiio("hdr", 3, "float"),
    "Radiance turned": _oiio("hdr", 3, "float", Orientation=3),
    "JPEG 2000": _oiio("jp2"),
    "JPEG 2000 code stream": _oiio("j2c", 3, "uint16"),
    "SGI": _oiio("sgi", 4),
    "SGI runs": _ffmpeg("rgb", "-c:v", "sgi", "-f", "image2"),
    "SGI 16-bit": _oiio("rgba", 4, "uint16"),
    "IFF": _oiio("iff", 4),
    "WebP": _oiio("webp", 4),
    "WebP lossless": _oiio("webp", 4, compression="lossless"),
    "GIF": _oiio("gif"),
    "PPM": _oiio("ppm"),
    "PGM": _ffmpeg("pgm", "-pix_fmt", "gray16be"),
    "PBM": _ffmpeg("pbm"),
    "PAM": _ffmpeg("pam"),
    "PFM": _oiio("pfm", 3, "float"),
    "PHM": _ffmpeg("phm"),
    "JPEG XL": _oiio("jxl"),
    "JPEG XL code stream": _ffmpeg("jxl"),
    "AVIF": _ffmpeg("avif", "-cpu-used", "8"),
    "AVIF 10-bit": _ffmpeg("avif", "-cpu-used", "8", "-pix_fmt", "yuv420p10le"),
    "Sun raster": _ffmpeg("ras"),
    "QOI": _ffmpeg("qoi"),
    "zfile": _oiio("zfile", 1, "float"),
}


def make_sample(name: str, folder: Path, ffmpeg: str, number: int = 1) -> Path:
    """Write the sample of a name into a folder; return its path."""
    path = folder / f"f_{number:04}.{SAMPLES[name].suffix}"
    path.write_bytes(_content(name, ffmpeg, number))
    return path


@cache
def _content(name: str, ffmpeg: str, number: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sample.{SAMPLES[name].suffix}"
        SAMPLES[name].make(ffmpeg, path, number)
        return path.read_bytes()


def with_hole(data: bytes) -> bytes:
    """The content with zeros in the middle fifth, as a disk or a share leaves them where it lost blocks."""
    size = len(data) // 5
    start = (len(data) - size) // 2
    return data[:start] + bytes(size) + data[start + size :]


# One line of text is no picture of any kind.
_OTHER = b"Error: out of memory\n" * 100

DAMAGES: Mapping[str, Callable[[bytes], bytes]] = {
    "cut to 70 %": lambda data: data[: len(data) * 7 // 10],
    "cut to 99 %": lambda data: data[: len(data) * 99 // 100],
    "20 % zeros inside": with_hole,
    "empty": lambda data: b"",
    "other content": lambda data: _OTHER,
    "garbage behind": lambda data: data + b"garbage!" * 8,
}
