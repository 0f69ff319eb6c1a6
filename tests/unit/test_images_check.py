"""Image files: measured, and refused when they are cut short or damaged."""

import base64
import contextlib
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from activities.media.facts import DamagedOutput, JoinStopped, MediaError, MismatchedOutput
from activities.media.images.check import check_image, check_sequence
from activities.media.images.decoder import Decoded, DecodeOutcome, DecoderPool
from activities.media.images.facts import ImageProof

Picture = Callable[..., Path]
STRICT = ["png", "jpg", "exr", "tiff", "bmp", "dpx", "webp", "gif", "jp2", "sgi", "ppm", "pam", "phm", "avif"]


# A picture of 8 x 8 pixels, with its transparency in an item of its own.
TRANSPARENT_AVIF = base64.b64decode(
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUIAAAGGbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAO"
    "cGl0bQAAAAAAAQAAACxpbG9jAAAAAEQAAAIAAQAAAAEAAAHCAAAAKAACAAAAAQAAAa4AAAAUAAAAQmlpbmYAAAAAAAIAAAAaaW5mZQIAAAAA"
    "AQAAYXYwMUNvbG9yAAAAABppbmZlAgAAAAACAABhdjAxQWxwaGEAAAAAGmlyZWYAAAAAAAAADmF1eGwAAgABAAEAAADDaXBycAAAAJ1pcGNv"
    "AAAAFGlzcGUAAAAAAAAACAAAAAgAAAAQcGl4aQAAAAADCAgIAAAADGF2MUOBAAwAAAAAE2NvbHJuY2x4AAEADQAGgAAAAA5waXhpAAAAAAEI"
    "AAAADGF2MUOBABwAAAAAOGF1eEMAAAAAdXJuOm1wZWc6bXBlZ0I6Y2ljcDpzeXN0ZW1zOmF1eGlsaWFyeTphbHBoYQAAAAAeaXBtYQAAAAAA"
    "AAACAAEEAQKDBAACBAEFhgcAAABEbWRhdBIACgUYCL9hUDIJGAAooQACIR6gEgAKCBgIv2iAhoNCMhoZR4eGIYeeeeaAAACQQMkcYUalHY9K"
    "NQ66gA=="
)


class _NoDecoder(DecoderPool):
    """What a host has where no decoder is installed."""

    def __init__(self) -> None:
        super().__init__(())

    def decode(self, path: Path, reader: str, demuxer: str, stop: threading.Event | None = None) -> Decoded:
        return Decoded(DecodeOutcome.UNABLE, "no decoder for this format is installed")


NO_DECODER = _NoDecoder()


@pytest.fixture(scope="session")
def picture(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Picture:
    made: dict[tuple[object, ...], Path] = {}

    def make(suffix: str, *options: str, size: str = "96x64") -> Path:
        key = (suffix, options, size)
        if key not in made:
            path = tmp_path_factory.mktemp("picture") / f"f_0001.{suffix}"
            source = ("-f", "lavfi", "-i", f"testsrc2=s={size}:r=1", "-frames:v", "1")
            subprocess.run([ffmpeg, "-nostdin", "-v", "error", *source, *options, str(path)], check=True)
            made[key] = path
        return made[key]

    return make


def refusal(path: Path) -> MediaError:
    with pytest.raises(MediaError) as caught:
        check_image(path)
    return caught.value


@pytest.mark.parametrize("suffix", [*STRICT, "tga", "hdr"])
def test_a_sound_picture_is_measured(suffix: str, picture: Picture) -> None:
    facts = check_image(picture(suffix))
    assert (facts.width, facts.height) == (96, 64)


@pytest.mark.parametrize("suffix", STRICT)
def test_a_picture_cut_anywhere_is_refused(suffix: str, picture: Picture, tmp_path: Path) -> None:
    data = picture(suffix).read_bytes()
    size = len(data)
    cut_file = tmp_path / f"cut.{suffix}"
    accepted = []
    for cut in {1, 2, 3, 4, 8, 12, 100, size // 100, size // 10, size // 2, size * 9 // 10, size - 1}:
        cut_file.write_bytes(data[:-cut])
        try:
            check_image(cut_file)
            accepted.append(cut)
        except DamagedOutput:
            pass
    assert accepted == []


@pytest.mark.parametrize("suffix", [*STRICT, "tga", "hdr", "xyz"])
def test_an_empty_picture_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"f_0001.{suffix}"
    path.touch()
    assert refusal(path).sentence == f"f_0001.{suffix} is empty"


def test_a_missing_picture_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "f_0007.png").sentence == "f_0007.png is missing"


def test_a_png_under_another_name_is_refused(picture: Picture, tmp_path: Path) -> None:
    path = tmp_path / "f_0001.exr"
    path.write_bytes(picture("png").read_bytes())
    error = refusal(path)
    assert error.sentence == "f_0001.exr is a PNG file, not an OpenEXR file"
    assert isinstance(error, MismatchedOutput), "the same command would write it again"


@pytest.mark.parametrize("suffix", ["png", "jpg", "exr", "tiff", "bmp", "webp", "dpx"])
def test_text_under_a_pictures_name_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"f_0001.{suffix}"
    path.write_bytes(b"Error: out of memory\n" * 100)
    assert isinstance(refusal(path), DamagedOutput)


def test_a_flipped_bit_in_a_png_is_noticed(picture: Picture, tmp_path: Path) -> None:
    data = bytearray(picture("png").read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "f_0001.png"
    path.write_bytes(data)
    assert "a checksum" in refusal(path).sentence


def test_a_png_without_pixels_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    path = tmp_path / "f_0001.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b""))
    assert refusal(path).sentence == "f_0001.png holds no pixels"


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "exr", "tiff", "gif", "webp", "jp2", "sgi", "tga", "hdr", "dpx", "bmp", "pam", "avif"]
)
def test_damaged_bytes_never_raise_anything_else(suffix: str, picture: Picture, tmp_path: Path) -> None:
    data = picture(suffix).read_bytes()
    path = tmp_path / f"f_0001.{suffix}"
    for at in range(4, min(len(data), 200)):
        path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
        with contextlib.suppress(MediaError):
            check_image(path, decoders=NO_DECODER)


def test_a_sound_sequence_is_summed_up(picture: Picture) -> None:
    facts = check_sequence([picture("png")] * 5)
    assert (facts.width, facts.height, facts.format, facts.proof) == (96, 64, "PNG", ImageProof.STRUCTURE)


def test_the_first_bad_picture_of_a_sequence_is_named(picture: Picture, tmp_path: Path) -> None:
    bad = tmp_path / "f_0002.png"
    bad.write_bytes(picture("png").read_bytes()[:-1])
    with pytest.raises(DamagedOutput, match=r"^f_0002\.png is cut short"):
        check_sequence([picture("png"), bad, tmp_path / "f_0003.png"])


def test_a_picture_of_another_size_is_named(picture: Picture) -> None:
    with pytest.raises(MismatchedOutput) as caught:
        check_sequence([picture("png"), picture("png", size="32x32")])
    assert caught.value.sentence == "f_0001.png has another size: 32x32 instead of 96x64"


def test_stop_ends_the_check_of_a_sequence(picture: Picture) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(JoinStopped):
        check_sequence([picture("png")], stop=stop)


def tiff_of_long_values() -> bytes:
    """Four thousand entries that all mean the same eight MiB."""
    entries = b"".join(struct.pack("<HHII", 273, 1, 1 << 23, 8) for _ in range(4000))
    directory = struct.pack("<H", 4000) + entries + bytes(4)
    return struct.pack("<2sHI", b"II", 42, 8 + (1 << 23)) + bytes(1 << 23) + directory


def tiff_of_strips_that_overlap() -> bytes:
    """A hundred thousand strips of one MiB each, in a file of four."""
    count, pixels = 100_000, bytes(range(1, 255)) * (1 << 14)
    start = 8 + len(pixels)
    offsets = struct.pack(f"<{count}I", *range(8, 8 + count))
    lengths = struct.pack(f"<{count}I", *[1 << 20] * count)
    tags = ((256, 8), (257, count), (259, 5), (278, 1))
    directory = struct.pack("<H", len(tags) + 2) + b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in tags)
    directory += struct.pack("<HHIIHHII", 273, 4, count, start, 279, 4, count, start + 4 * count) + bytes(4)
    return struct.pack("<2sHI", b"II", 42, start + 8 * count) + pixels + offsets + lengths + directory


def sgi_of_rows_that_overlap() -> bytes:
    rows, row = 60_000, bytes([0x7F, 1] * 500 + [0, 0])
    head = struct.pack(">HBBHHHH", 474, 1, 1, 2, 63_500, rows, 1).ljust(512, b"\0")
    start = 512 + 8 * rows
    offsets = struct.pack(f">{rows}I", *range(start, start + rows))
    lengths = struct.pack(f">{rows}I", *[len(row)] * rows)
    return head + offsets + lengths + row * 2


def avif_of_places_without_length() -> bytes:
    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(body), kind) + body

    size = box(b"ispe", bytes(4) + struct.pack(">II", 64, 64))
    items = struct.pack(">HHH", 1, 0, 65_535) * 60_000
    place = box(b"iloc", bytes(6) + struct.pack(">H", 60_000) + items)
    meta = box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", size)) + place)
    return box(b"ftyp", b"avif" + bytes(8)) + meta + box(b"mdat", bytes(100))


@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        ("tif", tiff_of_long_values),
        ("tif", tiff_of_strips_that_overlap),
        ("rgb", sgi_of_rows_that_overlap),
        ("avif", avif_of_places_without_length),
    ],
)
def test_a_small_file_cannot_keep_the_check_busy(suffix: str, make: Callable[[], bytes], tmp_path: Path) -> None:
    path = tmp_path / f"f_0001.{suffix}"
    path.write_bytes(make())
    began = time.process_time()
    with pytest.raises(DamagedOutput):
        check_image(path, decoders=NO_DECODER)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("pixels", "channels", "depth"),
    [
        ("rgb24", "RGB", "8-bit"),
        ("rgba", "RGBA", "8-bit"),
        ("rgb48le", "RGB", "16-bit"),
        ("rgba64le", "RGBA", "16-bit"),
        ("gray", "grey", "8-bit"),
        ("ya16le", "grey and alpha", "16-bit"),
        ("grayf32le", "grey", "float"),
    ],
)
def test_channels_and_depth_of_jpeg_xl_are_read(picture: Picture, pixels: str, channels: str, depth: str) -> None:
    found = check_image(picture("jxl", "-vf", "format=rgba,colorchannelmixer=aa=0.5", "-pix_fmt", pixels))

    assert (found.size, found.channels, found.depth) == ("96x64", channels, depth)


def test_a_sequence_of_webp_is_transparent_where_one_of_its_pictures_is(picture: Picture) -> None:
    opaque = picture("webp", "-pix_fmt", "bgra")
    transparent = picture("webp", "-vf", "format=rgba,colorchannelmixer=aa=0.5")

    assert [check_image(path).channels for path in (opaque, transparent)] == ["RGB", "RGBA"]
    assert check_sequence([opaque, transparent, opaque]).channels == "RGBA"


def test_transparency_of_avif_is_told_and_four_components_of_jpeg_are_cmyk(picture: Picture, tmp_path: Path) -> None:
    avif = tmp_path / "f.avif"
    avif.write_bytes(TRANSPARENT_AVIF)
    assert (check_image(avif).channels, check_image(picture("avif")).channels) == ("RGBA", "RGB")
    # Adobe's mark of a CMYK picture, whose components are as they are.
    head = b"\xff\xd8" + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
    frame = b"\xff\xc0\x00\x14\x08\x00\x08\x00\x08\x04" + b"".join(bytes((n, 0x11, 0)) for n in range(1, 5))
    scan = b"\xff\xda\x00\x0e\x04\x01\x00\x02\x00\x03\x00\x04\x00\x00\x3f\x00"
    jpeg = tmp_path / "f.jpg"
    jpeg.write_bytes(head + frame + scan + b"\xaa" * 40 + b"\xff\xd9")
    assert check_image(jpeg).channels == "CMYK"
