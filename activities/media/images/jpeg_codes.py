"""Following the Huffman codes of a sequential JPEG, which tells whether its coded pixels come to the whole picture.

Libraries decode a JPEG with a hole in it without a word. Codes that are shifted by a hole come to fewer or more blocks
than the picture has, or to none. In Python this takes a second for a photograph of two megapixels, so it is done only
where a long row of zeros makes a file doubtful.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

# Longest that is followed, some seconds; of a larger picture only a decoder tells.
_MOST_BLOCKS = 1 << 21

_RESTART = re.compile(rb"\xff[\xd0-\xd7]")

# By the next 16 bits: length of the code they begin with in the high bits, its symbol in the low eight; 0 for none.
CodeTable = list[int]


@dataclass(frozen=True)
class ScanComponent:
    """One component of a frame, as its header describes it."""

    id: int
    across: int
    down: int


def read_code_tables(segment: bytes) -> dict[int, CodeTable]:
    """Read the tables of a DHT segment, by class and number (ITU-T T.81, sections B.2.4.2 and C.2)."""
    tables = {}
    while segment:
        counts = segment[1:17]
        symbols = segment[17 : 17 + sum(counts)]
        table = [0] * (1 << 16)
        code, position = 0, 0
        for length, count in enumerate(counts, 1):
            for symbol in symbols[position : position + count]:
                first = code << 16 - length
                step = 1 << 16 - length
                table[first : first + step] = [length << 8 | symbol] * step
                code += 1
            position += count
            code <<= 1
        if len(table) != 1 << 16 or len(symbols) < sum(counts):
            raise ValueError("is damaged: a table of its codes is wrong")
        tables[segment[0]] = table
        segment = segment[17 + len(symbols) :]
    return tables


class SequentialScan:
    """One scan of a sequential JPEG.

    Args:
        size: Width and height of the picture.
        components: All components of the frame.
        header: Body of the segment that begins the scan.
        tables: Code tables by class and number.
        restart_interval: How many units stand between restarts; 0 for no restarts.
    """

    def __init__(
        self,
        size: tuple[int, int],
        components: Sequence[ScanComponent],
        header: bytes,
        tables: dict[int, CodeTable],
        restart_interval: int,
    ) -> None:
        chosen = [(header[1 + 2 * at], header[2 + 2 * at]) for at in range(header[0])]
        by_id = {component.id: component for component in components}
        across = max(component.across for component in components)
        down = max(component.down for component in components)
        width, height = size
        self._interval = restart_interval
        # The code tables of each block of a unit.
        self._blocks: list[tuple[CodeTable, CodeTable]] = []
        for id_, which in chosen:
            one = by_id[id_]
            count = one.across * one.down if len(chosen) > 1 else 1
            self._blocks += [(tables[which >> 4], tables[0x10 | which & 15])] * count
        if len(chosen) > 1:
            self._units = math.ceil(width / (8 * across)) * math.ceil(height / (8 * down))
        else:
            one = by_id[chosen[0][0]]
            self._units = math.ceil(width * one.across / across / 8) * math.ceil(height * one.down / down / 8)

    @property
    def can_be_followed(self) -> bool:
        """Whether there are few enough codes to follow them in Python."""
        return self._units * len(self._blocks) <= _MOST_BLOCKS

    def follow(self, data: bytes) -> None:
        """Follow all codes of the scan.

        Raises:
            ValueError: They come to more or fewer blocks than the picture has.
        """
        left = self._units
        pieces = _RESTART.split(data) if self._interval else [data]
        for piece in pieces:
            units = min(left, self._interval) if self._interval else left
            self._follow_piece(piece.replace(b"\xff\x00", b"\xff"), units)
            left -= units
        if left:
            raise ValueError("is damaged: its coded pixels end too early")

    def _follow_piece(self, data: bytes, units: int) -> None:
        # Behind the end, so that the last codes can be looked at in 16 bits.
        padded = data + b"\xff" * 8
        position = bits = count = 0
        end = 8 * len(data)
        for _ in range(units):
            for dc, ac in self._blocks:
                at, table = 0, dc
                while at < 64:
                    while count < 32:
                        bits = (bits << 8 | padded[position]) & 0xFFFFFFFFFF
                        position += 1
                        count += 8
                    found = table[bits >> count - 16 & 0xFFFF]
                    size = found & 15
                    count -= (found >> 8) + size
                    if not found or 8 * position - count > end:
                        raise ValueError("is damaged: its coded pixels end too early")
                    if table is dc:
                        at, table = 1, ac
                    elif size:
                        at += (found >> 4 & 15) + 1
                    elif found & 0xF0 == 0xF0:
                        at += 16
                    else:
                        break
                if at > 64:
                    raise ValueError("is damaged: a block of its coded pixels is too long")
        if end - (8 * position - count) >= 8:
            raise ValueError("is damaged: its coded pixels come to more than the picture")
