"""Image files: measured, and refused when they are cut short or damaged."""

import contextlib
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from activities.media.facts import DamagedOutput, JoinStopped, MediaError, MismatchedOutput
from activities.media.images import ImageFacts, check_image, check_sequence

Picture = Callable[..., Path]
STRICT = ["png", "jpg", "exr", "tiff", "bmp", "dpx", "webp"]


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


@pytest.mark.parametrize("suffix", ["tga", "hdr"])
def test_kinds_without_an_end_mark_lose_no_tenth_unnoticed(suffix: str, picture: Picture, tmp_path: Path) -> None:
    data = picture(suffix, "-pix_fmt", "gbrpf32le" if suffix == "hdr" else "bgr24").read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(data[: len(data) * 9 // 10])
    assert isinstance(refusal(path), DamagedOutput)


@pytest.mark.parametrize("compression", ["none", "rle", "zip1", "zip16"])
def test_every_exr_compression_is_followed(compression: str, picture: Picture) -> None:
    assert check_image(picture("exr", "-compression", compression)).format == "OpenEXR"


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
    assert refusal(path).sentence == "f_0001.exr is a PNG file, not an OpenEXR file"


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


def test_an_exr_whose_writer_was_killed_is_refused(picture: Picture, tmp_path: Path) -> None:
    data = picture("exr", "-compression", "zip16").read_bytes()
    # 64 lines in chunks of 16: four offsets, of which the first points right behind the table.
    first = next(at for at in range(len(data)) if struct.unpack_from("<Q", data, at)[0] == at + 32)
    path = tmp_path / "f_0001.exr"
    path.write_bytes(data[: first + 8] + bytes(24) + data[first + 32 :])
    assert refusal(path).sentence == "f_0001.exr was never finished: its table of pixels has gaps"


def exr(flags: int, attributes: dict[str, tuple[str, bytes]], chunks: list[bytes]) -> bytes:
    """Writes an OpenEXR file by hand, for layouts which ffmpeg cannot write."""
    head = struct.pack("<II", 20000630, 2 | flags)
    for name, (kind, value) in attributes.items():
        head += f"{name}\0{kind}\0".encode() + struct.pack("<I", len(value)) + value
    head += b"\0"
    at = len(head) + 8 * len(chunks)
    table = b""
    for chunk in chunks:
        table += struct.pack("<Q", at)
        at += len(chunk)
    return head + table + b"".join(chunks)


WINDOW = struct.pack("<4i", 0, 0, 63, 63)


@pytest.mark.parametrize(("mode", "levels"), [(0, 1), (1, 7), (2, 49)])
def test_tiled_exr_levels_are_counted(mode: int, levels: int, tmp_path: Path) -> None:
    tile = struct.pack("<5i", 0, 0, 0, 0, 4) + b"data"
    attributes = {
        "compression": ("compression", b"\x03"),
        "dataWindow": ("box2i", WINDOW),
        "displayWindow": ("box2i", WINDOW),
        "tiles": ("tiledesc", struct.pack("<IIB", 64, 64, mode)),
    }
    path = tmp_path / "f_0001.exr"
    path.write_bytes(exr(0x200, attributes, [tile] * levels))
    assert check_image(path) == ImageFacts(width=64, height=64, format="OpenEXR")
    path.write_bytes(exr(0x200, attributes, [tile] * levels)[:-1])
    assert refusal(path).sentence == "f_0001.exr is cut short: 1 bytes are missing"


def test_an_exr_of_two_parts_is_followed_to_its_end(tmp_path: Path) -> None:
    def part(name: bytes) -> bytes:
        attributes = {
            b"chunkCount\0int\0": struct.pack("<i", 1),
            b"dataWindow\0box2i\0": WINDOW,
            b"displayWindow\0box2i\0": WINDOW,
            b"name\0string\0": name,
            b"type\0string\0": b"scanlineimage",
        }
        return b"".join(key + struct.pack("<I", len(body)) + body for key, body in attributes.items()) + b"\0"

    head = struct.pack("<II", 20000630, 2 | 0x1000) + part(b"rgb") + part(b"depth") + b"\0"
    chunk = struct.pack("<iii", 0, 0, 8) + b"12345678"
    table = struct.pack("<QQ", len(head) + 16, len(head) + 16 + len(chunk))
    path = tmp_path / "f_0001.exr"
    path.write_bytes(head + table + chunk + chunk)
    assert check_image(path).width == 64
    path.write_bytes((head + table + chunk + chunk)[:-3])
    assert refusal(path).problem == "is cut short: 3 bytes are missing"


@pytest.mark.parametrize("suffix", ["png", "jpg", "exr", "tiff"])
def test_damaged_bytes_never_raise_anything_else(suffix: str, picture: Picture, tmp_path: Path) -> None:
    data = picture(suffix).read_bytes()
    path = tmp_path / f"f_0001.{suffix}"
    for at in range(4, min(len(data), 600)):
        path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
        with contextlib.suppress(MediaError):
            check_image(path)


def test_a_sound_sequence_is_summed_up(picture: Picture) -> None:
    facts = check_sequence([picture("png")] * 5)
    assert (facts.frames, facts.width, facts.height, facts.format) == (5, 96, 64, "PNG")


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
