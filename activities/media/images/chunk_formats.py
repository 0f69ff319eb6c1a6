"""Structure of formats made of chunks with lengths and checksums: PNG, WebP, GIF and IFF."""

import hashlib
import struct
import zlib
from collections.abc import Callable

from activities.media.images.image_file import ImageFile, Structure, name_channels

_PNG_SIGNATURE_BYTES = 8
# A real picture has some thousand chunks; empty ones of 12 bytes would keep the check busy for minutes.
_MOST_CHUNKS = 1 << 20
_PNG_CHANNELS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGBA"}


def short_digest(data: bytes) -> str:
    """Return the first characters of a digest, by which people can tell two colour profiles apart."""
    return hashlib.sha256(data).hexdigest()[:8]


def check_png(file: ImageFile) -> Structure:
    """Check the checksums of all chunks of a PNG up to the end mark (https://www.w3.org/TR/png-3/)."""
    file.seek(_PNG_SIGNATURE_BYTES)
    header: bytes | None = None
    colour: dict[bytes, str] = {}
    has_pixels = False
    for _ in range(_MOST_CHUNKS):
        if file.rest_bytes < 8:
            raise ValueError("is cut short: its end mark is missing")
        length, kind = file.unpack(">I4s")
        file.require(file.position + length + 4)
        body = _read_png_body(file, length, kind)
        if header is None:
            if kind != b"IHDR" or length != 13:
                raise ValueError("is damaged: it does not begin with an image header")
            header = body
        if kind in _PNG_COLOUR:
            colour[kind] = _PNG_COLOUR[kind](body)
        has_pixels = has_pixels or (kind == b"IDAT" and length > 0)
        if kind == b"IEND":
            break
    else:
        raise ValueError(f"is damaged: it has more than {_MOST_CHUNKS} chunks")
    if not has_pixels:
        raise ValueError("holds no pixels")
    width, height, bits, kind_of_colour = struct.unpack(">IIBB", header[:10])
    channels = _PNG_CHANNELS.get(kind_of_colour, f"type {kind_of_colour}")
    # By the precedence of the standard: cICP before iCCP before sRGB before gAMA and cHRM.
    named = next((colour[kind] for kind in (b"cICP", b"iCCP", b"sRGB") if kind in colour), None)
    rest = " ".join(colour[kind] for kind in (b"gAMA", b"cHRM") if kind in colour)
    return Structure(width, height, channels, f"{bits}-bit", named or rest)


_PNG_COLOUR: dict[bytes, Callable[[bytes], str]] = {
    b"cICP": lambda body: "cICP " + "/".join(str(value) for value in body[:4]),
    b"iCCP": lambda body: f"ICC profile {short_digest(body)}",
    b"sRGB": lambda body: "sRGB",
    b"gAMA": lambda body: f"gamma {struct.unpack('>I', body[:4])[0] / 100000:g}",
    b"cHRM": lambda body: f"primaries {short_digest(body)}",
}


def _read_png_body(file: ImageFile, length: int, kind: bytes) -> bytes:
    """Check the checksum of a chunk; return its first block."""
    first = b""
    checksum = zlib.crc32(kind)
    for block in file.read_blocks(length):
        first = first or block
        checksum = zlib.crc32(block, checksum)
    if checksum.to_bytes(4, "big") != file.read(4):
        raise ValueError(f"is damaged: a checksum before byte {file.position} is wrong")
    return first


def check_webp(file: ImageFile) -> Structure:
    """Check that all chunks of a WebP lie in the file and fill its RIFF (RFC 9649)."""
    size, kind = file.unpack("<I4s", at=4)
    if kind != b"WEBP":
        raise ValueError("is not a WebP file, but another kind of RIFF")
    end = 8 + size
    file.require(end)
    structure: Structure | None = None
    has_alpha = has_pixels = is_doubtful = False
    profile = ""
    for _ in range(_MOST_CHUNKS):
        if file.position + 8 > end:
            break
        kind, length = file.unpack("<4sI")
        start = file.position
        if start + length > end:
            raise ValueError("is damaged: a chunk is longer than the file says it is")
        if kind in (b"VP8 ", b"VP8L", b"ANMF", b"ALPH"):
            is_doubtful = is_doubtful or file.has_zeros(start, length)
        if kind == b"VP8X":
            flags, width, height = file.unpack("<I3s3s", at=start)
            has_alpha = bool(flags & 0x10)
            structure = Structure(int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1)
        elif kind == b"ICCP":
            profile = f"ICC profile {short_digest(file.read(length, at=start))}"
        elif kind in (b"VP8 ", b"VP8L"):
            found = _check_vp8(file, start, length) if kind == b"VP8 " else _check_vp8l(file, start)
            has_pixels, has_alpha = True, has_alpha or found.channels == "RGBA"
            structure = structure or found
        has_pixels = has_pixels or kind == b"ANMF"
        file.seek(start + length + length % 2)
    if structure is None or not has_pixels:
        raise ValueError("holds no pixels")
    channels = "RGBA" if has_alpha else "RGB"
    return Structure(structure.width, structure.height, channels, "8-bit", profile, is_doubtful)


def _check_vp8(file: ImageFile, start: int, length: int) -> Structure:
    """Read a key frame's head (RFC 6386, section 9.1)."""
    head = file.read(10, at=start)
    if head[3:6] != b"\x9d\x01\x2a":
        raise ValueError("is damaged: its pixels have no start code")
    if 10 + (int.from_bytes(head[:3], "little") >> 5) > length:
        raise ValueError("is damaged: its first partition is longer than its pixels")
    width, height = struct.unpack("<HH", head[6:10])
    return Structure(width & 0x3FFF, height & 0x3FFF, "RGB")


def _check_vp8l(file: ImageFile, start: int) -> Structure:
    mark, bits = file.unpack("<BI", at=start)
    if mark != 0x2F:
        raise ValueError("is damaged: its pixels have no signature")
    return Structure((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, "RGBA" if bits >> 28 & 1 else "RGB")


def check_gif(file: ImageFile) -> Structure:
    """Check the blocks of a GIF up to its trailer (GIF89a specification)."""
    width, height, flags = file.unpack("<HHB", at=6)
    file.seek(13)
    _skip_palette(file, flags)
    has_pixels = False
    for _ in range(_MOST_CHUNKS):
        if file.rest_bytes == 0:
            raise ValueError("is cut short: its end mark is missing")
        (kind,) = file.unpack("B")
        if kind == 0x3B:
            break
        if kind == 0x2C:
            _, _, own_width, own_height, flags = file.unpack("<HHHHB")
            _skip_palette(file, flags)
            if not 2 <= file.read(1)[0] <= 11 or not own_width or not own_height:
                raise ValueError("is damaged: the head of its pixels is wrong")
            has_pixels = _skip_sub_blocks(file) or has_pixels
        elif kind == 0x21:
            file.read(1)
            _skip_sub_blocks(file)
        else:
            raise ValueError(f"is damaged: byte {file.position - 1} begins no block")
    if not has_pixels:
        raise ValueError("holds no pixels")
    return Structure(width, height, "palette", "8-bit")


def _skip_palette(file: ImageFile, flags: int) -> None:
    if flags & 0x80:
        file.read(3 << (flags & 7) + 1)


def _skip_sub_blocks(file: ImageFile) -> bool:
    """Skip blocks up to the empty one that ends them; return whether there were any."""
    count = 0
    while length := file.read(1)[0]:
        file.read(length)
        count += 1
    return count > 0


# Groups of IFF, with the alignment of their members: Maya writes FOR4 and FOR8.
_IFF_GROUPS = {b"FORM": 2, b"CAT ": 2, b"LIST": 2, b"FOR4": 4, b"CAT4": 4, b"LIS4": 4, b"FOR8": 8}


def check_iff(file: ImageFile) -> Structure:
    """Check that all chunks of an IFF lie in the file, and all tiles of a Maya IFF are there."""
    structure: Structure | None = None
    tiles = wanted = 0
    ends = [file.size_bytes]
    file.seek(0)
    alignment = 2
    for _ in range(_MOST_CHUNKS):
        while len(ends) > 1 and file.position >= ends[-1]:
            ends.pop()
        # Whatever follows the outermost group is not of the picture.
        if len(ends) == 1 and file.position > 0:
            break
        kind, length = file.unpack(">4sI")
        start = file.position
        file.require(start + length)
        if start + length > ends[-1]:
            raise ValueError(f"is damaged: the chunk before byte {start} is longer than its group")
        if kind in _IFF_GROUPS:
            alignment = _IFF_GROUPS[kind]
            file.read(4)
            ends.append(start + length)
            continue
        if not kind.isalnum() and not kind.strip().isalnum():
            raise ValueError(f"is damaged: byte {start - 8} begins no chunk")
        if kind == b"TBHD":
            structure, wanted = _read_maya_header(file)
        elif kind == b"BMHD":
            width, height, _, _, planes = file.unpack(">HHhhB")
            structure, wanted = Structure(width, height, f"{planes} planes"), 1
        tiles += kind in (b"RGBA", b"BODY")
        file.seek(min(start + length + -length % alignment, ends[-1]))
    if structure is None or not tiles:
        raise ValueError("holds no pixels")
    if tiles < wanted:
        raise ValueError(f"is damaged: {wanted - tiles} of its {wanted} tiles are missing")
    return structure


def _read_maya_header(file: ImageFile) -> tuple[Structure, int]:
    """Read the head of a Maya IFF; return it with the number of tiles."""
    width, height, _, _, flags, depth, tiles = file.unpack(">IIHHIHH")
    channels = name_channels(3 + bool(flags & 2)) if flags & 1 else ""
    return Structure(width, height, channels, "16-bit" if depth else "8-bit"), tiles
