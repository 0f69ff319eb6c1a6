"""Structure of TIFF and BigTIFF files, `.tx` textures among them (TIFF 6.0; https://www.awaresystems.be/imaging/tiff)."""

import math
import struct
from collections.abc import Iterator

from activities.media.images.chunk_formats import short_digest
from activities.media.images.image_file import Allowance, ImageFile, Structure, check_deflate, name_channels

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_SAMPLES, _STRIP_ROWS, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT = 277, 278, 284, 322, 323
_SUB_DIRECTORIES, _SAMPLE_FORMAT, _ICC_PROFILE = 330, 339, 34675
# Where pixels lie: offsets and lengths, in strips or in tiles.
_STRIPS, _TILES = (273, 279), (324, 325)
# Value types that hold offsets, sizes and profiles: BYTE, SHORT, LONG, UNDEFINED, IFD, LONG8, IFD8.
_TYPES = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}

# Bytes of a value of each type.
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

_MOST_ENTRIES = 4096
_MOST_DIRECTORIES = 4096
_CUT_DIRECTORY = "is cut short: its directory is incomplete"

_UNCOMPRESSED, _YCBCR = 1, 6
# Tiles at the edges are as large as the others.
_TILE_SLACK_BYTES = 1 << 24
# Adobe's and the older number of deflate, which ends with a checksum over the pixels.
_DEFLATE = frozenset({8, 32946})
_COLOURS = {
    0: "grey",
    1: "grey",
    2: "RGB",
    3: "palette",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELAB",
    9: "ICCLAB",
    32845: "LogLuv",
}

_Tags = dict[int, tuple[int, ...]]

# What is read of a directory; the values of others are skipped, whatever they say of their length.
_READ = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _STRIP_ROWS, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT}
    | {_SUB_DIRECTORIES, _SAMPLE_FORMAT, _ICC_PROFILE, *_STRIPS, *_TILES}
)
_MOST_VALUES = 1 << 22


def check_tiff(file: ImageFile) -> Structure:
    """Check that all strips and tiles of all directories of a TIFF are there, mipmap levels included."""
    head = file.read(min(16, file.size_bytes), at=0)
    order = "<" if head[:2] == b"II" else ">"
    if len(head) < 16:
        raise ValueError("is cut short inside its header")
    is_big = struct.unpack(order + "H", head[2:4])[0] == 43
    (directory,) = struct.unpack(order + ("Q" if is_big else "I"), head[8:16] if is_big else head[4:8])
    if directory == 0:
        raise ValueError("was never finished: it has no directory")
    first: _Tags | None = None
    is_doubtful = False
    allowance = Allowance(file.size_bytes)
    for tags in _read_directories(file, directory, order, is_big, allowance):
        first = first or tags
        is_doubtful = _check_pixels(file, tags, allowance) or is_doubtful
    assert first is not None
    return _describe(first, is_doubtful)


def _read_directories(
    file: ImageFile, position: int, order: str, is_big: bool, allowance: Allowance
) -> Iterator[_Tags]:
    """Read all directories, each once: those that follow one another, and those that others refer to."""
    waiting, seen = [position], set[int]()
    while waiting:
        position = waiting.pop(0)
        if position in seen:
            raise ValueError("is damaged: its directories refer to one another in a circle")
        seen.add(position)
        if len(seen) > _MOST_DIRECTORIES:
            raise ValueError(f"is damaged: it has more than {_MOST_DIRECTORIES} directories")
        tags, following = _read_directory(file, position, order, is_big)
        allowance.spend(sum(len(values) for values in tags.values()))
        yield tags
        waiting += [sub for sub in tags.get(_SUB_DIRECTORIES, ()) if sub]
        if following:
            waiting.append(following)


def _read_directory(file: ImageFile, position: int, order: str, is_big: bool) -> tuple[_Tags, int]:
    """Read a directory; return its values, and where the next one is."""
    count_form, entry_form, pointer_form = ("Q", "HHQ8s", "Q") if is_big else ("H", "HHI4s", "I")
    inline = struct.calcsize(order + pointer_form)
    tags: _Tags = {}
    try:
        (count,) = file.unpack(order + count_form, at=position)
        if count > _MOST_ENTRIES:
            raise ValueError(f"is damaged: a directory has {count} entries")
        size = struct.calcsize(order + entry_form)
        entries = file.read(count * size)
        (following,) = file.unpack(order + pointer_form)
        for tag, kind, length, value in struct.iter_unpack(order + entry_form, entries):
            if kind not in _VALUE_BYTES:
                continue
            size = length * _VALUE_BYTES[kind]
            where = struct.unpack(order + pointer_form, value)[0]
            if size > inline:
                file.require(where + size)
            if tag not in _READ or kind not in _TYPES:
                continue
            if length > _MOST_VALUES:
                raise ValueError(f"is damaged: an entry of a directory has {length} values")
            data = value[:size] if size <= inline else file.read(size, at=where)
            tags[tag] = struct.unpack(f"{order}{length}{_TYPES[kind]}", data)
    except ValueError as error:
        if "cut short" in str(error):
            raise ValueError(_CUT_DIRECTORY) from error
        raise
    return tags, following


def _check_pixels(file: ImageFile, tags: _Tags, allowance: Allowance) -> bool:
    """Check the strips or tiles of one picture; tell whether they hold zeros that only decoding explains."""
    if not all(tags.get(tag, (0,))[0] for tag in (_WIDTH, _HEIGHT)):
        raise ValueError("is damaged: it does not say its size")
    where = next((tags_of for tags_of in (_STRIPS, _TILES) if tags.get(tags_of[0])), None)
    offsets = tags[where[0]] if where else ()
    lengths = tags.get(where[1], ()) if where else ()
    wanted = _count_pieces(tags, is_tiled=where == _TILES)
    if not offsets or len(offsets) != len(lengths) or len(offsets) < wanted:
        raise ValueError("is damaged: it does not say where its pixels are")
    # A writer that was stopped leaves zeros for strips it never reached.
    if not all(offsets) or not all(lengths):
        raise ValueError("was never finished: some of its strips are missing")
    file.require(max(offset + length for offset, length in zip(offsets, lengths, strict=True)))
    compression = tags.get(_COMPRESSION, (_UNCOMPRESSED,))[0]
    if compression == _UNCOMPRESSED:
        _check_raw_size(tags, sum(lengths))
        return False
    is_doubtful = False
    # Writers let equal tiles share their place.
    for offset, length in dict.fromkeys(zip(offsets, lengths, strict=True)):
        allowance.spend(length)
        if not file.has_zeros(offset, length):
            continue
        if compression in _DEFLATE:
            check_deflate(file.read_blocks(length, at=offset), _raw_bytes(tags) + _TILE_SLACK_BYTES)
        else:
            is_doubtful = True
    return is_doubtful


def _count_pieces(tags: _Tags, *, is_tiled: bool) -> int:
    """Count the strips or tiles that the size of the picture asks for."""
    width, height = tags[_WIDTH][0], tags[_HEIGHT][0]
    planes = tags.get(_SAMPLES, (1,))[0] if tags.get(_PLANAR, (1,))[0] == 2 else 1
    if is_tiled:
        columns, rows = tags.get(_TILE_WIDTH, (0,))[0], tags.get(_TILE_HEIGHT, (0,))[0]
        if not columns or not rows:
            raise ValueError("is damaged: its tiles have no size")
        return math.ceil(width / columns) * math.ceil(height / rows) * planes
    return math.ceil(height / (tags.get(_STRIP_ROWS, (height,))[0] or height)) * planes


def _raw_bytes(tags: _Tags) -> int:
    """Return how many bytes uncompressed pixels take; subsampled ones take fewer."""
    bits = tags.get(_BITS, (1,))[0]
    samples = tags.get(_SAMPLES, (1,))[0]
    if tags.get(_PLANAR, (1,))[0] == 2:
        return math.ceil(tags[_WIDTH][0] * bits / 8) * tags[_HEIGHT][0] * samples
    return math.ceil(tags[_WIDTH][0] * bits * samples / 8) * tags[_HEIGHT][0]


def _check_raw_size(tags: _Tags, there: int) -> None:
    """Require as many bytes as uncompressed pixels take."""
    if tags.get(_PHOTOMETRIC, (1,))[0] != _YCBCR and there < (wanted := _raw_bytes(tags)):
        raise ValueError(f"was never finished: {wanted - there} bytes of its pixels are missing")


def _describe(tags: _Tags, is_doubtful: bool) -> Structure:
    samples = tags.get(_SAMPLES, (1,))[0]
    photometric = tags.get(_PHOTOMETRIC, (1,))[0]
    colours = _COLOURS.get(photometric, f"photometric {photometric}")
    usual = {"grey": 1, "palette": 1}.get(colours, 4 if colours == "CMYK" else 3)
    channels = name_channels(samples) if colours in ("grey", "RGB") else colours
    if channels == colours and samples > usual:
        channels = f"{colours} and {samples - usual} more"
    bits = tags.get(_BITS, (1,))[0]
    is_float = tags.get(_SAMPLE_FORMAT, (1,))[0] == 3
    depth = ({16: "half", 32: "float", 64: "double"}.get(bits) if is_float else None) or f"{bits}-bit"
    profile = tags.get(_ICC_PROFILE)
    colour = f"ICC profile {short_digest(bytes(profile))}" if profile else ""
    return Structure(tags[_WIDTH][0], tags[_HEIGHT][0], channels, depth, colour, is_doubtful)
