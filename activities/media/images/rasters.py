"""Structure of formats whose header says how long their pixels are: DPX, Cineon, BMP, portable maps and others."""

import math
import re
import struct
import zlib

from activities.media.images.image_file import ImageFile, Structure, name_channels

_UNDEFINED = 0xFFFFFFFF
_HEADER_BYTES = 2048

# Samples of a pixel, by the descriptor of a DPX element (SMPTE ST 268).
_DPX_SAMPLES = {50: 3, 51: 4, 52: 4, 53: 3, 100: 2, 101: 3, 102: 3, 103: 4, **{150 + n: 2 + n for n in range(7)}}
_DPX_CHANNELS = {
    1: "red", 2: "green", 3: "blue", 4: "alpha", 6: "grey", 8: "depth", 50: "RGB", 51: "RGBA", 52: "ABGR", 53: "BGR",
    100: "CbYCrY", 101: "CbYACrYA", 102: "CbYCr", 103: "CbYCrA",
}  # fmt: skip


def check_dpx(file: ImageFile) -> Structure:
    """Check that a DPX is as long as its header says, and as its pixels take: packed, filled or float."""
    order = ">" if file.read(4, at=0) == b"SDPX" else "<"
    (image_offset,) = file.unpack(f"{order}I", at=4)
    (said,) = file.unpack(f"{order}I", at=16)
    _, count, width, height = file.unpack(f"{order}HHII", at=768)
    if not 1 <= count <= 8 or not width or not height:
        raise ValueError("is damaged: its header names no picture")
    channels, depths, colours = [], [], []
    for element in range(count):
        kind, transfer, primaries, bits, packing, encoding, offset = file.unpack(
            f"{order}BBBBHHI", at=800 + 72 * element
        )
        if bits not in (1, 8, 10, 12, 16, 32, 64):
            raise ValueError(f"is damaged: its samples have {bits} bits")
        offset = image_offset if offset in (0, _UNDEFINED) else offset
        if encoding != 1:
            samples = width * height * _DPX_SAMPLES.get(kind, 1)
            file.require(offset + _count_sample_bytes(samples, bits, packing))
        channels.append(_DPX_CHANNELS.get(kind, f"descriptor {kind}"))
        depths.append({32: "float", 64: "double"}.get(bits, f"{bits}-bit"))
        colours.append(f"transfer {transfer}, primaries {primaries}")
    # Not every writer fills this field in; where one does, the file ends there and not earlier.
    if _HEADER_BYTES <= said < _UNDEFINED:
        file.require(said)
    return Structure(width, height, " and ".join(channels), depths[0], colours[0])


def _count_sample_bytes(samples: int, bits: int, packing: int) -> int:
    """Return the fewest bytes of so many samples; lines and words may be padded besides."""
    if packing in (1, 2) and bits == 10:
        return math.ceil(samples / 3) * 4
    if packing in (1, 2) and bits == 12:
        return samples * 2
    return math.ceil(samples * bits / 8)


def check_cineon(file: ImageFile) -> Structure:
    """Check that a Cineon is as long as its pixels take; ImageMagick writes a wrong length of the file."""
    order = ">" if file.read(4, at=0) == b"\x80\x2a\x5f\xd7" else "<"
    (image_offset,) = file.unpack(f"{order}I", at=4)
    (count,) = file.unpack("B", at=193)
    bits, _, width, height = file.unpack(f"{order}BBII", at=198)
    if not 1 <= count <= 8 or not width or not height or bits not in (8, 10, 12, 16):
        raise ValueError("is damaged: its header names no picture")
    samples = width * height * count
    file.require(image_offset + (math.ceil(samples / 3) * 4 if bits == 10 else math.ceil(samples * bits / 8)))
    return Structure(width, height, name_channels(count), f"{bits}-bit")


def check_bmp(file: ImageFile) -> Structure:
    """Check that the pixels of a BMP lie in the file."""
    offset, header_bytes = file.unpack("<II", at=10)
    if header_bytes == 12:
        width, height, _, bits = file.unpack("<HHHH")
        compression = size = 0
    else:
        width, height, _, bits, compression, size = file.unpack("<iiHHII")
    height = abs(height)
    if width <= 0 or not height or bits not in (1, 2, 4, 8, 16, 24, 32, 0) or offset < 14 + min(header_bytes, 12):
        raise ValueError("is damaged: its header names no picture")
    if compression in (0, 3, 6):
        size = math.ceil(width * bits / 32) * 4 * height
    elif not size:
        raise ValueError("is damaged: it does not say how long its pixels are")
    file.require(offset + size)
    channels = "RGBA" if bits == 32 else "RGB" if bits > 8 else "palette"
    return Structure(width, height, channels, "8-bit" if bits > 16 else f"{bits}-bit", is_complete=bits > 0)


# Kind of a portable map: samples of a pixel, bytes of a sample (0: by the largest value), and what it is called.
_MAPS = {b"P5": (1, 0, ""), b"P6": (3, 0, ""), b"Pf": (1, 4, "float"), b"PF": (3, 4, "float"), b"Ph": (1, 2, "half"),
         b"PH": (3, 2, "half")}  # fmt: skip
_LONGEST_MAP_HEADER_BYTES = 1 << 16
# Numbers of a header are kept apart by spaces and comments, and exactly one space ends the last.
_GAP = rb"(?:[ \t\r\n\v\f]|#[^\r\n]*[\r\n])+"
_TWO_NUMBERS = re.compile(rb"P.%b(\d{1,10})%b(\d{1,10})(?:[ \t\r\n\v\f])" % (_GAP, _GAP))
_THREE_NUMBERS = re.compile(rb"P.%b(\d{1,10})%b(\d{1,10})%b([-+.eE0-9]{1,30})(?:[ \t\r\n\v\f])" % (_GAP, _GAP, _GAP))
_NUMBER = re.compile(rb"[^ \t\r\n\v\f]+")


def check_portable_map(file: ImageFile) -> Structure:
    """Check that all pixels of a PBM, PGM, PPM, PAM, PFM or PHM are there (https://netpbm.sourceforge.net/doc)."""
    file.seek(0)
    head = file.peek(_LONGEST_MAP_HEADER_BYTES)
    kind = head[:2]
    if kind == b"P7":
        return _check_arbitrary_map(file, head)
    header = (_TWO_NUMBERS if kind in (b"P1", b"P4") else _THREE_NUMBERS).match(head)
    if header is None:
        raise ValueError("is damaged or cut short: its header is incomplete")
    width, height = int(header[1]), int(header[2])
    if kind in (b"P1", b"P2", b"P3"):
        largest = 1 if kind == b"P1" else int(header[3])
        _check_text_samples(file, header.end(), width * height * (3 if kind == b"P3" else 1), is_bits=kind == b"P1")
        return Structure(width, height, "RGB" if kind == b"P3" else "grey", f"{largest.bit_length()}-bit")
    if kind == b"P4":
        file.require(header.end() + math.ceil(width / 8) * height)
        return Structure(width, height, "grey", "1-bit")
    samples, size, depth = _MAPS[kind]
    if not size:
        size, depth = _sample_size(int(header[3]))
    file.require(header.end() + width * height * samples * size)
    return Structure(width, height, name_channels(samples), depth)


def _sample_size(largest: int) -> tuple[int, str]:
    if not 0 < largest < 1 << 16:
        raise ValueError(f"is damaged: its largest value is {largest}")
    return (1 if largest < 256 else 2), f"{largest.bit_length()}-bit"


def _check_text_samples(file: ImageFile, start: int, wanted: int, *, is_bits: bool) -> None:
    """Count samples that are written as numbers; bits need no space between them."""
    found, before = 0, b""
    for block in file.read_blocks(file.size_bytes - start, at=start):
        if is_bits:
            found += block.count(b"0") + block.count(b"1")
            continue
        text = before + block
        # A number may lie across two blocks.
        cut = len(text) if found >= wanted else max(text.rfind(b" "), text.rfind(b"\n")) + 1
        found += sum(1 for _ in _NUMBER.finditer(text, 0, cut))
        before = text[cut:]
    found += bool(before.strip())
    if found < wanted:
        raise ValueError(f"is cut short: {wanted - found} of its samples are missing")


def _check_arbitrary_map(file: ImageFile, head: bytes) -> Structure:
    text, end, _ = head.partition(b"ENDHDR\n")
    if not end:
        raise ValueError("is damaged or cut short: its header is incomplete")
    words = dict(line.split(None, 1) for line in text.splitlines()[1:] if len(line.split(None, 1)) == 2)
    try:
        width, height, samples, largest = (int(words[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    except KeyError as error:
        raise ValueError("is damaged: its header names no picture") from error
    size, depth = _sample_size(largest)
    file.require(len(text) + len(end) + width * height * samples * size)
    return Structure(width, height, name_channels(samples), depth)


def check_sun_raster(file: ImageFile) -> Structure:
    """Check that the pixels of a Sun raster lie in the file."""
    _, width, height, bits, length, kind, _, palette_bytes = file.unpack(">8I", at=0)
    if not width or not height or bits not in (1, 8, 24, 32):
        raise ValueError("is damaged: its header names no picture")
    if kind != 2 and not length:
        length = math.ceil(width * bits / 16) * 2 * height
    file.require(32 + palette_bytes + length)
    return Structure(width, height, {24: "RGB", 32: "RGBA"}.get(bits, "palette" if palette_bytes else "grey"), "8-bit")


def check_qoi(file: ImageFile) -> Structure:
    """Check the header and the end mark of a QOI (https://qoiformat.org)."""
    width, height, channels, space = file.unpack(">IIBB", at=4)
    if not width or not height or channels not in (3, 4):
        raise ValueError("is damaged: its header names no picture")
    if file.read(8, at=max(14, file.size_bytes - 8)) != bytes(7) + b"\1":
        raise ValueError("is cut short: its end mark is missing")
    return Structure(width, height, name_channels(channels), "8-bit", "linear" if space else "sRGB")


def check_zfile(file: ImageFile) -> Structure:
    """Count the samples of a RenderMan z file; one that is compressed is inflated, which compares its checksum."""
    head, size = file.read(min(_Z_HEADER_BYTES, file.size_bytes), at=0), file.size_bytes
    if head[:2] == b"\x1f\x8b":
        head, size = _inflate(file)
    if len(head) < _Z_HEADER_BYTES:
        raise ValueError("is cut short: its header is incomplete")
    width, height = struct.unpack(">HH" if head[:1] == b"\x2f" else "<HH", head[4:8])
    if size < _Z_HEADER_BYTES + 4 * width * height:
        raise ValueError(f"is cut short: {_Z_HEADER_BYTES + 4 * width * height - size} bytes are missing")
    return Structure(width, height, "depth", "float")


# Sides are numbers of 16 bits, and a sample has four bytes; larger ones than 32,768 x 32,768 are no shadow maps.
_LARGEST_Z_BYTES = 1 << 32
# A mark, width and height, and two matrices.
_Z_HEADER_BYTES = 136


def _inflate(file: ImageFile) -> tuple[bytes, int]:
    """Return the header of what a file inflates to, and its size."""
    inflate = zlib.decompressobj(wbits=31)
    head, size = b"", 0
    try:
        for block in file.read_blocks(file.size_bytes, at=0):
            while block and not inflate.eof:
                data = inflate.decompress(block, 1 << 20)
                head, size = (head + data)[:_Z_HEADER_BYTES], size + len(data)
                if size > _LARGEST_Z_BYTES:
                    raise ValueError(f"is damaged: it inflates to more than {_LARGEST_Z_BYTES} bytes")
                block = inflate.unconsumed_tail
    except zlib.error as error:
        raise ValueError("is damaged: its compressed samples have a wrong checksum") from error
    if not inflate.eof:
        raise ValueError("is cut short: its compressed samples have no end")
    return head, size
