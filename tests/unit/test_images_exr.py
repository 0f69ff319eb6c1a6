"""OpenEXR: tables and the heads of all chunks, in layouts that are written by hand."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from support.media.image_samples import make_sample, with_hole

from activities.media.facts import DamagedOutput
from activities.media.images.check import check_image
from activities.media.images.facts import ImageProof

WINDOW = struct.pack("<4i", 0, 0, 63, 63)
CHANNELS = b"Y\0" + struct.pack("<iB3xii", 1, 0, 1, 1) + b"\0"


def refusal(path: Path) -> str:
    with pytest.raises(DamagedOutput) as caught:
        check_image(path)
    return caught.value.problem


def header(attributes: dict[str, tuple[str, bytes]]) -> bytes:
    head = b""
    for name, (kind, value) in attributes.items():
        head += f"{name}\0{kind}\0".encode() + struct.pack("<I", len(value)) + value
    return head + b"\0"


def attributes(**more: tuple[str, bytes]) -> dict[str, tuple[str, bytes]]:
    return {
        "channels": ("chlist", CHANNELS),
        "compression": ("compression", b"\x03"),
        "dataWindow": ("box2i", WINDOW),
        "displayWindow": ("box2i", WINDOW),
        **more,
    }


def exr(flags: int, heads: bytes, chunks: list[bytes]) -> bytes:
    head = struct.pack("<II", 20000630, 2 | flags) + heads
    at = len(head) + 8 * len(chunks)
    table = b""
    for chunk in chunks:
        table += struct.pack("<Q", at)
        at += len(chunk)
    return head + table + b"".join(chunks)


def sizes(mode: int) -> list[tuple[int, int]]:
    levels = range(7)
    if mode == 2:
        return [(x, y) for y in levels for x in levels]
    return [(level, level) for level in levels][: 1 if mode == 0 else 7]


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_tiles_of_all_levels_are_followed(mode: int, tmp_path: Path) -> None:
    tiles = [struct.pack("<5i", 0, 0, x, y, 1) + b"d" for x, y in sizes(mode)]
    head = header(attributes(tiles=("tiledesc", struct.pack("<IIB", 64, 64, mode))))
    path = tmp_path / "f_0001.exr"
    path.write_bytes(exr(0x200, head, tiles))
    assert (check_image(path).width, check_image(path).channels) == (64, "Y")
    path.write_bytes(exr(0x200, head, tiles)[:-1])
    assert refusal(path) == "is cut short: 1 bytes are missing"
    if mode:
        path.write_bytes(exr(0x200, head, [tiles[1], tiles[0], *tiles[2:]]))
        assert "begins no chunk of its pixels, as the table says" in refusal(path)


def parts(*names: bytes, chunks: int = 4) -> bytes:
    one = {"chunkCount": ("int", struct.pack("<i", chunks)), "type": ("string", b"scanlineimage")}
    return b"".join(header(attributes(name=("string", name), **one)) for name in names) + b"\0"


def test_all_parts_are_followed_to_their_ends(tmp_path: Path) -> None:
    chunks = [struct.pack("<iii", part, y, 8) + b"12345678" for part in (0, 1) for y in range(0, 64, 16)]
    data = exr(0x1000, parts(b"rgb", b"depth"), chunks)
    path = tmp_path / "f_0001.exr"
    path.write_bytes(data)
    assert check_image(path).channels == "Y; Y"
    path.write_bytes(data[:-3])
    assert refusal(path) == "is cut short: 3 bytes are missing"
    path.write_bytes(exr(0x1000, parts(b"rgb", b"depth"), chunks[4:] + chunks[:4]))
    assert "begins no chunk of its pixels" in refusal(path)


def test_a_number_of_chunks_that_does_not_fit_the_size_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "f_0001.exr"
    path.write_bytes(exr(0x1000, parts(b"rgb", chunks=3), []))
    assert refusal(path) == "is damaged: its number of chunks does not fit its size"


def test_a_file_whose_writer_was_killed_is_refused(tmp_path: Path) -> None:
    chunks = [struct.pack("<ii", y, 4) + b"data" for y in range(0, 64, 16)]
    head = header(attributes())
    data = exr(0, head, chunks)
    table = 8 + len(head)
    path = tmp_path / "f_0001.exr"
    path.write_bytes(data[: table + 8] + bytes(24) + data[table + 32 :])
    assert refusal(path) == "was never finished: its table of pixels has gaps"


def test_a_size_that_asks_for_more_chunks_than_memory_holds_is_damage(tmp_path: Path) -> None:
    window = struct.pack("<4i", 0, 0, 1 << 30, 1 << 30)
    path = tmp_path / "f_0001.exr"
    path.write_bytes(exr(0, header(attributes(dataWindow=("box2i", window))), []))
    assert refusal(path) == f"is damaged: its size asks for {(1 << 30) // 16 + 1} chunks"


def whole_chunk(compression: bytes, packed: bytes, *, width: int = 256) -> bytes:
    """A picture whose pixels are all in one chunk, where no other head can tell of a hole."""
    window = struct.pack("<4i", 0, 0, width - 1, 15)
    head = header(attributes(compression=("compression", compression), dataWindow=("box2i", window)))
    return exr(0, head, [struct.pack("<ii", 0, len(packed)) + packed])


def test_a_hole_within_one_chunk_of_deflate_is_found_by_its_checksum(tmp_path: Path) -> None:
    noise = bytes((n * n + n // 7) % 251 for n in range(256 * 16 * 2))
    packed = zlib.compress(noise)
    path = tmp_path / "f_0001.exr"
    path.write_bytes(whole_chunk(b"\x03", packed))
    check_image(path)
    path.write_bytes(whole_chunk(b"\x03", packed[:200] + bytes(100) + packed[300:]))
    assert refusal(path).startswith("is damaged: compressed pixels")


def test_a_flat_picture_has_zeros_and_is_sound(tmp_path: Path) -> None:
    packed = zlib.compress(bytes(65536 * 16 * 2))
    assert bytes(64) in packed
    path = tmp_path / "f_0001.exr"
    path.write_bytes(whole_chunk(b"\x03", packed, width=65536))
    assert check_image(path).proof is ImageProof.STRUCTURE


def test_a_few_bytes_that_inflate_to_many_are_not_kept_and_not_followed_for_ever(tmp_path: Path) -> None:
    inflate = zlib.compressobj(9)
    packed = b"".join(inflate.compress(bytes(1 << 20)) for _ in range(48)) + inflate.flush()
    path = tmp_path / "f_0001.exr"
    path.write_bytes(whole_chunk(b"\x03", packed, width=1 << 20))
    assert refusal(path) == "is damaged: compressed pixels come to more than the picture"
    path.write_bytes(whole_chunk(b"\x03", packed, width=1 << 21))
    tracemalloc.start()
    check_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("name", ["OpenEXR deep", "OpenEXR deep tiled", "OpenEXR multipart", "OpenEXR mipmap"])
def test_a_hole_in_a_file_of_many_chunks_is_found(name: str, tmp_path: Path, ffmpeg: str) -> None:
    path = make_sample(name, tmp_path, ffmpeg)
    path.write_bytes(with_hole(path.read_bytes()))
    assert refusal(path).startswith("is damaged")
