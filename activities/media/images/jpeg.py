"""Structure of JPEG and JPEG-LS files, followed from segment to segment up to the end mark (ITU-T T.81, T.87)."""

import re
import struct

from activities.media.images.chunk_formats import short_digest
from activities.media.images.image_file import ImageFile, Structure
from activities.media.images.jpeg_codes import CodeTable, ScanComponent, SequentialScan, read_code_tables

_CODE_TABLES, _END, _START_OF_SCAN, _HEIGHT, _RESTART_INTERVAL = 0xC4, 0xD9, 0xDA, 0xDC, 0xDD
_PROFILE, _ADOBE = 0xE2, 0xEE
_LOSSLESS_LS = 0xF7
# Huffman codes, in the order of the picture.
_SEQUENTIAL = frozenset({0xC0, 0xC1})
# All SOFn except DHT, JPG and DAC, which share their range; and that of JPEG-LS.
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {_LOSSLESS_LS}
# Markers without a length, which may stand between segments: TEM and restarts.
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})

# What ends coded pixels. A zero after 0xFF is a stuffed byte in JPEG; JPEG-LS stuffs one bit, so that a value below
# 0x80 is no marker.
_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)
_MARKER_LS = re.compile(rb"\xff+[\x80-\xfe]", re.DOTALL)

_MOST_SEGMENTS = 1 << 16
_MOST_TABLES = 64


class _Picture:
    """What the segments of a JPEG have said so far."""

    def __init__(self) -> None:
        self.marker = 0
        self.width = self.height = self.depth = 0
        self.components: list[ScanComponent] = []
        self.tables: list[bytes] = []
        self.restart_interval = 0
        self.transform = self.profile = ""
        self.scans = 0
        self.is_doubtful = False

    @property
    def is_ls(self) -> bool:
        return self.marker == _LOSSLESS_LS

    def take(self, marker: int, body: bytes) -> None:
        """Take what a segment says."""
        if marker in _FRAME_HEADERS and not self.marker:
            self.marker = marker
            self.depth, self.height, self.width, count = struct.unpack(">BHHB", body[:6])
            self.components = [
                ScanComponent(body[at], body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, 6 + 3 * count, 3)
            ]
        elif marker == _CODE_TABLES:
            # Later ones take the place of earlier ones.
            self.tables = [*self.tables[-_MOST_TABLES:], body]
        elif marker == _RESTART_INTERVAL:
            (self.restart_interval,) = struct.unpack(">H", body[:2])
        elif marker == _HEIGHT and not self.height:
            (self.height,) = struct.unpack(">H", body[:2])
        elif marker == _PROFILE and body.startswith(b"ICC_PROFILE\0"):
            self.profile = short_digest(self.profile.encode() + body[14:])
        elif marker == _ADOBE and body.startswith(b"Adobe"):
            self.transform = {0: "RGB", 1: "YCbCr", 2: "YCCK"}.get(body[11], "")

    def check_scan(self, file: ImageFile, header: bytes) -> None:
        """Check the coded pixels that begin here, up to the next marker."""
        if not self.marker:
            raise ValueError("is damaged: it has pixels but no size")
        self.scans += 1
        start, end = _find_scan_end(file, _MARKER_LS if self.is_ls else _MARKER)
        if file.has_zeros(start, end - start):
            self._explain_zeros(file, header, start, end)
        file.seek(end)

    def _explain_zeros(self, file: ImageFile, header: bytes, start: int, end: int) -> None:
        if self.marker not in _SEQUENTIAL or not self.height or self.depth != 8:
            self.is_doubtful = True
            return
        tables: dict[int, CodeTable] = {}
        for segment in self.tables:
            tables |= read_code_tables(segment)
        scan = SequentialScan((self.width, self.height), self.components, header, tables, self.restart_interval)
        if not scan.can_be_followed:
            self.is_doubtful = True
            return
        scan.follow(b"".join(file.read_blocks(end - start, at=start)))

    def describe(self) -> Structure:
        """Return what the whole file is."""
        if not self.scans:
            raise ValueError("holds no pixels")
        count = len(self.components)
        colours = "RGB" if self.is_ls else self.transform or "YCbCr"
        # Adobe's mark tells how three or four components were transformed; of four, "none" leaves CMYK.
        four = "YCCK" if self.transform == "YCCK" else "CMYK"
        channels = {1: "grey", 3: colours, 4: four}.get(count, f"{count} channels")
        colour = f"ICC profile {self.profile}" if self.profile else ""
        return Structure(self.width, self.height, channels, f"{self.depth}-bit", colour, self.is_doubtful)


def check_jpeg(file: ImageFile) -> Structure:
    """Check the segments and scans of a JPEG up to its end mark."""
    file.seek(2)
    picture = _Picture()
    for _ in range(_MOST_SEGMENTS):
        marker = _read_marker(file, bool(picture.scans))
        if marker == _END:
            return picture.describe()
        if marker in _BARE_MARKERS:
            continue
        if file.rest_bytes < 2:
            raise ValueError("is cut short before its pixels")
        (length,) = file.unpack(">H")
        if length < 2 or length - 2 > file.rest_bytes:
            raise ValueError(
                "is cut short: its end mark is missing" if picture.scans else "is cut short before its pixels"
            )
        body = file.read(length - 2)
        if marker == _START_OF_SCAN:
            picture.check_scan(file, body)
        else:
            picture.take(marker, body)
    raise ValueError(f"is damaged: it has more than {_MOST_SEGMENTS} segments")


def _read_marker(file: ImageFile, has_scan: bool) -> int:
    """Read the marker of the next segment, which any number of fill bytes may precede."""
    head = file.peek(1)
    if head not in (b"", b"\xff"):
        raise ValueError(f"is damaged: byte {file.position} begins no segment")
    while head == b"\xff" and file.rest_bytes:
        head = file.read(1)
        if head != b"\xff":
            return head[0]
    raise ValueError("is cut short: its end mark is missing" if has_scan else "is cut short before its pixels")


def _find_scan_end(file: ImageFile, marker: re.Pattern[bytes]) -> tuple[int, int]:
    """Find where the coded pixels that begin here end; return both positions."""
    start = file.position
    before, position = b"", start
    for block in file.read_blocks(file.size_bytes - start):
        data = before + block
        if (found := marker.search(data)) is not None:
            return start, position - len(before) + found.start()
        position += len(block)
        # A marker may lie across two blocks.
        before = data[len(data.rstrip(b"\xff")) :]
    raise ValueError("is cut short: its end mark is missing")
