"""Structure of formats of boxes and code streams: JPEG 2000, JPEG XL, AVIF and HEIF."""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from activities.media.images.chunk_formats import short_digest
from activities.media.images.image_file import ImageFile, Structure, name_channels

_MOST_BOXES = 1 << 16
_MOST_TILE_PARTS = 1 << 24
# Sizes and channels; longer only with long names of extra channels.
_JPEG_XL_HEAD_BYTES = 256
# Kinds of items that hold the transparency of another one, in AVIF and in HEIF.
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")


@dataclass(frozen=True)
class Box:
    """One box of a file: its kind, and where its content begins and ends."""

    kind: bytes
    start: int
    end: int


def walk_boxes(file: ImageFile, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes of a part of a file, by where their contents lie (ISO/IEC 14496-12, section 4.2)."""
    for _ in range(_MOST_BOXES):
        if start >= end:
            return
        length, kind = file.unpack(">I4s", at=start)
        head = 8
        if length == 1:
            (length,) = file.unpack(">Q")
            head = 16
        elif length == 0:
            length = end - start
        if length < head or not kind.decode("latin-1").isprintable():
            raise ValueError(f"is damaged: byte {start} begins no box")
        file.require(start + length)
        if start + length > end:
            raise ValueError(f"is damaged: the box at byte {start} is longer than the one around it")
        yield Box(kind, start + head, start + length)
        start += length
    raise ValueError(f"is damaged: it has more than {_MOST_BOXES} boxes")


def check_jpeg_2000(file: ImageFile) -> Structure:
    """Check all tile parts of a JPEG 2000 up to the end mark, as a bare code stream or in boxes (ITU-T T.800)."""
    if file.read(4, at=0) == b"\xff\x4f\xff\x51":
        return _check_code_stream(file, 0, file.size_bytes, "")
    colour = ""
    for box in walk_boxes(file, 0, file.size_bytes):
        if box.kind == b"jp2h":
            colour = next(
                (_read_colour(file, inner) for inner in walk_boxes(file, box.start, box.end) if inner.kind == b"colr"),
                "",
            )
        elif box.kind == b"jp2c":
            return _check_code_stream(file, box.start, box.end, colour)
    raise ValueError("holds no pixels")


def _read_colour(file: ImageFile, box: Box) -> str:
    method, _, _ = file.unpack("BBB", at=box.start)
    if method == 1:
        (number,) = file.unpack(">I")
        return {16: "sRGB", 17: "grey", 18: "sYCC"}.get(number, f"colour space {number}")
    return f"ICC profile {short_digest(file.read(box.end - file.position))}"


def _check_code_stream(file: ImageFile, start: int, end: int, colour: str) -> Structure:
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, count, depth = file.unpack(
        ">8IHB", at=start + 8
    )
    if file.read(4, at=start) != b"\xff\x4f\xff\x51" or right <= left or bottom <= top:
        raise ValueError("is damaged: its pixels have no size")
    if not tile_width or not tile_height:
        raise ValueError("is damaged: its tiles have no size")
    file.seek(start + 2)
    while (marker := file.unpack(">H")[0]) != 0xFF90:
        if not 0xFF30 <= marker <= 0xFFFF:
            raise ValueError(f"is damaged: byte {file.position - 2} begins no segment")
        (length,) = file.unpack(">H")
        file.read(max(0, length - 2))
    wanted = math.ceil((right - tile_left) / tile_width) * math.ceil((bottom - tile_top) / tile_height)
    is_doubtful = _check_tile_parts(file, file.position - 2, end, wanted)
    channels = name_channels(count)
    return Structure(right - left, bottom - top, channels, f"{(depth & 0x7F) + 1}-bit", colour, is_doubtful)


def _check_tile_parts(file: ImageFile, position: int, end: int, wanted: int) -> bool:
    """Follow all parts of all tiles to the end mark; tell whether one holds zeros that only decoding explains."""
    tiles = set[int]()
    is_doubtful = False
    for _ in range(_MOST_TILE_PARTS):
        if position + 2 > end:
            raise ValueError("is cut short: its end mark is missing")
        (marker,) = file.unpack(">H", at=position)
        if marker == 0xFFD9:
            break
        if marker != 0xFF90:
            raise ValueError(f"is damaged: byte {position} begins no tile")
        _, tile, length, _, _ = file.unpack(">HHIBB")
        if length == 0:
            # The last part, up to the end mark.
            length = end - 2 - position
            if file.read(2, at=end - 2) != b"\xff\xd9":
                raise ValueError("is cut short: its end mark is missing")
        if length < 14:
            raise ValueError(f"is damaged: the tile at byte {position} has no length")
        file.require(position + length)
        is_doubtful = is_doubtful or file.has_zeros(position, length)
        tiles.add(tile)
        position += length
    if len(tiles) < wanted:
        raise ValueError(f"is damaged: {wanted - len(tiles)} of its {wanted} tiles are missing")
    return is_doubtful


def check_jpeg_xl(file: ImageFile) -> Structure:
    """Check the boxes of a JPEG XL, and read its size; where a bare code stream ends only decoding tells."""
    if file.read(2, at=0) == b"\xff\x0a":
        return _read_jpeg_xl_head(file.read(min(_JPEG_XL_HEAD_BYTES, file.size_bytes), at=0), is_complete=False)
    structure: Structure | None = None
    is_last = is_complete = is_doubtful = False
    for box in walk_boxes(file, 0, file.size_bytes):
        start = box.start
        if box.kind == b"jxlp":
            is_last = bool(file.unpack(">I", at=start)[0] & 0x80000000)
            start += 4
        if box.kind in (b"jxlc", b"jxlp"):
            is_complete = file.unpack(">I", at=box.start - 8)[0] != 0
            is_last = is_last or box.kind == b"jxlc"
            head = file.read(min(_JPEG_XL_HEAD_BYTES, box.end - start), at=start)
            structure = structure or _read_jpeg_xl_head(head, is_complete=True)
            is_doubtful = is_doubtful or file.has_zeros(start, box.end - start)
    if structure is None:
        raise ValueError("holds no pixels")
    if not is_last:
        raise ValueError("is cut short: the last of its parts is missing")
    return replace(structure, is_doubtful=is_doubtful, is_complete=is_complete)


class _Bits:
    """Numbers of a JPEG XL code stream, whose bits begin at the lowest of each byte (ISO/IEC 18181-1, section B.2)."""

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._bits & (1 << count) - 1
        self._bits >>= count
        return value

    def choose(self, *choices: tuple[int, int]) -> int:
        """Take one of four ways to write a number: a smallest value, and how many bits are added to it."""
        smallest, count = choices[self.take(2)]
        return smallest + self.take(count)

    def take_kind(self) -> int:
        return self.choose((0, 0), (1, 0), (2, 4), (18, 6))

    def take_size(self) -> tuple[int, int]:
        """Take width and height (section D.2)."""
        is_small = self.take(1)
        height = self._take_side(is_small)
        ratio = self.take(3)
        if ratio == 0:
            return self._take_side(is_small), height
        over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
        return height * over // under, height

    def _take_side(self, is_small: int) -> int:
        return 8 * (self.take(5) + 1) if is_small else self.take((9, 13, 18, 30)[self.take(2)]) + 1

    def take_depth(self) -> str:
        """Take what one sample is (section D.3.3)."""
        if not self.take(1):
            return f"{self.choose((8, 0), (10, 0), (12, 0), (1, 6))}-bit"
        bits = self.choose((32, 0), (16, 0), (24, 0), (1, 6))
        self.take(4)
        return {16: "half", 32: "float"}.get(bits, f"{bits}-bit float")


def _read_jpeg_xl_head(head: bytes, *, is_complete: bool) -> Structure:
    """Read size, depth and channels (ISO/IEC 18181-1, section D.3)."""
    if head[:2] != b"\xff\x0a":
        raise ValueError("is damaged: its pixels have no signature")
    bits = _Bits(head[2:])
    width, height = bits.take_size()
    if bits.take(1):
        return Structure(width, height, "RGB", "8-bit", is_complete=is_complete)
    # Orientation, an intrinsic size, a preview, an animation.
    if bits.take(1):
        bits.take(3)
        if bits.take(1):
            bits.take_size()
        if bits.take(1):
            return Structure(width, height, is_complete=is_complete)
        if bits.take(1):
            bits.choose((100, 0), (1000, 0), (1, 10), (1, 30))
            bits.choose((1, 0), (1001, 0), (1, 8), (1, 10))
            bits.choose((0, 0), (0, 3), (0, 16), (0, 32))
            bits.take(1)
    depth = bits.take_depth()
    bits.take(1)
    extra = [_take_extra_channel(bits) for _ in range(bits.choose((0, 0), (1, 0), (2, 4), (1, 12)))]
    bits.take(1)
    # Neither the default (RGB) nor a profile, whose number of colours is compressed.
    is_grey = not bits.take(1) and not bits.take(1) and bits.take_kind() == 1
    colours = "grey" if is_grey else "RGB"
    alphas = extra.count(0)
    channels = (f"{colours} and alpha" if is_grey else "RGBA") if alphas else colours
    if others := len(extra) - min(alphas, 1):
        channels += f" and {others} more"
    return Structure(width, height, channels, depth, is_complete=is_complete)


def _take_extra_channel(bits: _Bits) -> int:
    """Take the description of an extra channel; return its kind, 0 for alpha (section D.3.6)."""
    if bits.take(1):
        return 0
    kind = bits.take_kind()
    bits.take_depth()
    bits.choose((0, 0), (3, 0), (4, 0), (1, 3))
    bits.take(8 * bits.choose((0, 0), (0, 4), (16, 5), (48, 10)))
    if kind == 0:
        bits.take(1)
    elif kind == 2:
        bits.take(64)
    elif kind == 5:
        bits.choose((1, 0), (0, 2), (3, 4), (19, 8))
    return kind


def check_avif(file: ImageFile) -> Structure:
    """Check that all extents of the items of an AVIF or HEIF lie in the file, and in boxes of pixels."""
    meta, places = None, list[Box]()
    for box in walk_boxes(file, 0, file.size_bytes):
        if box.kind == b"meta":
            meta = box
        elif box.kind == b"mdat":
            places.append(box)
    if meta is None:
        raise ValueError("is damaged or cut short: it does not say where its pixels are")
    structure = Structure(0, 0)
    has_pixels = False
    for box in walk_boxes(file, meta.start + 4, meta.end):
        if box.kind == b"iprp":
            structure = _read_properties(file, box)
        elif box.kind == b"idat":
            places.append(box)
    for box in walk_boxes(file, meta.start + 4, meta.end):
        if box.kind == b"iloc":
            has_pixels = _check_extents(file, box, places)
    if not has_pixels or not structure.width:
        raise ValueError("holds no pixels")
    is_doubtful = any(file.has_zeros(box.start, box.end - box.start) for box in places)
    return Structure(
        structure.width, structure.height, structure.channels, structure.depth, structure.colour, is_doubtful
    )


def _read_properties(file: ImageFile, box: Box) -> Structure:
    """Read what is common to the items: the largest size, as tiles and previews are smaller."""
    size, depth, colour, channels = (0, 0), "", "", ""
    has_alpha = False
    for container in walk_boxes(file, box.start, box.end):
        if container.kind != b"ipco":
            continue
        for item in walk_boxes(file, container.start, container.end):
            if item.kind == b"ispe":
                size = max(size, file.unpack(">II", at=item.start + 4))
            elif item.kind == b"pixi" and not depth:
                count = file.unpack("B", at=item.start + 4)[0]
                depth, channels = f"{file.unpack('B')[0]}-bit", name_channels(count)
            elif item.kind == b"colr" and not colour:
                colour = _read_item_colour(file, item)
            elif item.kind == b"auxC":
                has_alpha = has_alpha or file.read(item.end - item.start - 4, at=item.start + 4).startswith(_ALPHA)
    if has_alpha:
        channels = {"RGB": "RGBA", "grey": "grey and alpha"}.get(channels, channels)
    return Structure(*size, channels, depth, colour)


def _read_item_colour(file: ImageFile, item: Box) -> str:
    kind = file.read(4, at=item.start)
    if kind == b"nclx":
        return "cICP {}/{}/{}/{}".format(*struct.unpack(">HHHB", file.read(7)))
    return f"ICC profile {short_digest(file.read(item.end - file.position))}"


def _check_extents(file: ImageFile, box: Box, places: list[Box]) -> bool:
    """Check where the pixels of all items are (ISO/IEC 14496-12, section 8.11.3); tell whether there are any."""
    version, _, sizes, base = file.unpack(">B3sBB", at=box.start)
    offset_bytes, length_bytes, base_bytes = sizes >> 4, sizes & 15, base >> 4
    index_bytes = base & 15 if version else 0
    count = int.from_bytes(file.read(4 if version == 2 else 2), "big")
    found = extents = 0
    for _ in range(min(count, _MOST_BOXES)):
        file.read(4 if version == 2 else 2)
        method = int.from_bytes(file.read(2), "big") & 15 if version else 0
        file.read(2)
        base_offset = int.from_bytes(file.read(base_bytes), "big")
        for _ in range(file.unpack(">H")[0]):
            extents += 1
            if extents > _MOST_BOXES:
                raise ValueError(f"is damaged: its pixels lie in more than {_MOST_BOXES} places")
            file.read(index_bytes)
            offset = base_offset + int.from_bytes(file.read(offset_bytes), "big")
            length = int.from_bytes(file.read(length_bytes), "big")
            if method == 0:
                back = file.position
                file.require(offset + length)
                if not any(place.start <= offset and offset + length <= place.end for place in places):
                    raise ValueError("is damaged: pixels lie outside of the boxes for them")
                file.seek(back)
            found += length
    return found > 0
