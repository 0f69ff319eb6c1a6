"""Draw the pictures of a report without scripts: maps of all chunks, the timeline of hosts, frame times, progress.

Small maps are SVG with a shape for each state; maps of more chunks are a PNG of a pixel a chunk, inside of SVG.
"""

import struct
import zlib
from base64 import b64encode
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from math import ceil, floor, log10, sqrt

from longtake.chunk_history import ChunkHistory, ChunkState
from longtake.render_timeline import BarKind, FrameTimes, TimelineBar
from longtake.report.looks import BAR_LOOKS, HOST_COLOURS, RAMP, STATE_LOOKS

_WIDTH = 1080
_GUTTER = 58

# More cells than this have no shapes of their own.
_MOST_SHAPES = 4_000
_MAP_HEIGHT = 330.0
_LARGEST_CELL, _SMALLEST_CELL = 20, 6

_MOST_LANES_HEIGHT = 22
_MOST_HOSTS = 60
_MOST_LANES = 8


@dataclass(frozen=True)
class Grid:
    """Where the cells of a map stand.

    Args:
        count: Number of cells.
        cell: Width and height of a cell.
    """

    count: int
    cell: float

    @classmethod
    def fit(cls, count: int) -> "Grid":
        """Return the grid of so many cells that fills a map."""
        wanted = sqrt((_WIDTH - _GUTTER) * _MAP_HEIGHT / max(1, count))
        if count <= _MOST_SHAPES:
            return cls(count, max(_SMALLEST_CELL, min(_LARGEST_CELL, floor(wanted))))
        return cls(count, max(1.0, floor(wanted)))

    @property
    def columns(self) -> int:
        """Cells of a row."""
        return max(1, int((_WIDTH - _GUTTER) // self.cell))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return ceil(self.count / self.columns)

    @property
    def height(self) -> float:
        """Height of all rows."""
        return self.rows * self.cell

    def place(self, index: int) -> tuple[float, float]:
        """Return the left upper corner of a cell."""
        return _GUTTER + index % self.columns * self.cell, index // self.columns * self.cell


def draw_state_map(history: ChunkHistory) -> str:
    """Draw a cell for each chunk by its state."""
    grid = Grid.fit(len(history))
    if len(history) <= _MOST_SHAPES:
        body = "".join(_draw_shapes(history, grid))
    else:
        colours = [STATE_LOOKS[state].pixel for state in ChunkState]
        states = _spread_failures(history.states, grid)
        body = f"{_draw_paper(grid)}{_draw_image(states, colours, grid)}"
    return _draw_map(body, history, grid, "Map of all chunks by state")


def draw_value_map(history: ChunkHistory, values: Sequence[float], limits: Sequence[float], label: str) -> str:
    """Draw a cell for each finished chunk, the brighter the larger its value.

    Args:
        history: What became of each chunk.
        values: The value of each chunk.
        limits: Upper limits of all colours but the last.
        label: What is shown, for people who do not see it.
    """
    done = ChunkState.DONE.number
    cells = bytearray(
        1 + bisect_right(limits, value) if state == done and value > 0 else 0
        for state, value in zip(history.states, values, strict=True)
    )
    return _draw_colours(cells, ["00000000", *(f"{colour}ff" for colour in RAMP)], history, label)


def draw_host_map(history: ChunkHistory, hosts: Sequence[str]) -> str:
    """Draw a cell for each finished chunk by its host; all but the first ones share the last colour.

    Args:
        history: What became of each chunk.
        hosts: Names of hosts, in the order of their colours.
    """
    last = len(HOST_COLOURS)
    colour_of = {host: min(number, last) for number, host in enumerate(hosts, 1)}
    table = [0, *(colour_of.get(host, last) for host in history.hosts)]
    cells = bytearray(table[number] for number in history.facts.host)
    return _draw_colours(cells, ["00000000", *(f"{each}ff" for each in HOST_COLOURS)], history, "Map of chunks by host")


def _draw_colours(cells: bytearray, colours: Sequence[str], history: ChunkHistory, label: str) -> str:
    grid = Grid.fit(len(history))
    return _draw_map(f"{_draw_paper(grid)}{_draw_image(cells, colours, grid)}{_draw_gaps(grid)}", history, grid, label)


def _draw_gaps(grid: Grid) -> str:
    """Draw the gaps between the cells of a picture, as wide as those between shapes."""
    if grid.cell < _SMALLEST_CELL:
        return ""
    gap = grid.cell - _find_side(grid)
    lines = [
        f"M{_GUTTER + column * grid.cell - gap:g} 0h{gap:g}v{grid.height:g}h{-gap:g}z"
        for column in range(1, grid.columns + 1)
    ]
    lines += [
        f"M{_GUTTER} {row * grid.cell - gap:g}h{grid.columns * grid.cell:g}v{gap:g}H{_GUTTER}z"
        for row in range(1, grid.rows + 1)
    ]
    return f'<path class="gap" d="{"".join(lines)}"/>'


def _find_side(grid: Grid) -> float:
    return grid.cell - (1 if grid.cell < 10 else 1.5)


def _draw_map(body: str, history: ChunkHistory, grid: Grid, label: str) -> str:
    every = ceil(16 / grid.cell)
    labels = "".join(
        f'<text x="{_GUTTER - 8}" y="{row * grid.cell + min(grid.cell, 11) - 1:g}" class="end">'
        f"{_name_first(history, row * grid.columns)}</text>"
        for row in range(0, grid.rows, max(every, grid.rows // 12))
    )
    return _svg(_WIDTH, grid.height + 4, labels + body, label)


def _name_first(history: ChunkHistory, chunk: int) -> str:
    frames = history.frames(chunk)
    return f"{frames[0]}" if frames else f"{chunk}"


def _draw_paper(grid: Grid) -> str:
    """Draw what is below the cells: all that is to do."""
    full, rest = divmod(grid.count, grid.columns)
    parts = [(grid.columns, full, 0.0)] if full else []
    parts += [(rest, 1, full * grid.cell)] if rest else []
    return "".join(
        f'<rect class="todo" x="{_GUTTER}" y="{top:g}" width="{columns * grid.cell:g}" height="{rows * grid.cell:g}"/>'
        for columns, rows, top in parts
    )


def _draw_shapes(history: ChunkHistory, grid: Grid) -> Iterator[str]:
    side = _find_side(grid)
    places: dict[ChunkState, list[tuple[float, float]]] = defaultdict(list)
    for chunk in range(len(history)):
        places[history.state(chunk)].append(grid.place(chunk))
    for state, found in places.items():
        yield from (f'<path class="{kind}" d="{path}"/>' for kind, path in _draw_state(state, found, side))
    # What is rare can be asked: a finished chunk looks like its neighbours.
    for chunk in history.find(ChunkState.FAILED, ChunkState.RUNNING, ChunkState.WAITING, ChunkState.FROZEN):
        left, top = grid.place(chunk)
        frames = history.frames(chunk)
        what = f"chunk {chunk}, frames {frames[0]} to {frames[-1]}" if frames else f"chunk {chunk}"
        yield (
            f'<rect class="hit" x="{left:g}" y="{top:g}" width="{side:g}" height="{side:g}">'
            f"<title>{what}: {STATE_LOOKS[history.state(chunk)].words}</title></rect>"
        )


def draw_sign(state: ChunkState) -> str:
    """Draw what a chunk of a state looks like in a map, 12 pixels wide."""
    return "".join(f'<path class="{kind}" d="{path}"/>' for kind, path in _draw_state(state, [(0, 0)], 12))


def _draw_state(state: ChunkState, places: Sequence[tuple[float, float]], side: float) -> Iterator[tuple[str, str]]:
    """Yield classes and paths of the cells of one state: each state has a shape of its own, too."""

    def boxes(dx: float, dy: float, width: float, height: float) -> str:
        return "".join(f"M{x + dx:g} {y + dy:g}h{width:g}v{height:g}h{-width:g}z" for x, y in places)

    half, kind = side / 2, STATE_LOOKS[state].css_class
    match state:
        case ChunkState.DONE | ChunkState.TODO:
            yield kind, boxes(0, 0, side, side)
        case ChunkState.RUNNING:
            yield f"{kind} soft-fill", boxes(0, 0, side, side)
            yield kind, boxes(0, half, side, half)
        case ChunkState.WAITING:
            yield f"{kind}-line", boxes(0.75, 0.75, side - 1.5, side - 1.5)
        case ChunkState.FROZEN:
            yield kind, boxes(0, 0, side * 0.36, side) + boxes(side * 0.64, 0, side * 0.36, side)
        case ChunkState.FAILED:
            yield f"{kind} soft-fill", boxes(0, 0, side, side)
            cross = "".join(
                f"M{x + 2:g} {y + side - 2:g}l{side - 4:g} {4 - side:g}M{x + 2:g} {y + 2:g}l{side - 4:g} {side - 4:g}"
                for x, y in places
            )
            yield f"{kind}-line", boxes(0.75, 0.75, side - 1.5, side - 1.5) + cross
        case ChunkState.LEFT_OUT:
            yield STATE_LOOKS[ChunkState.TODO].css_class, boxes(0, 0, side, side)
            yield kind, "".join(f"M{x:g} {y:g}h{side:g}L{x:g} {y + side:g}z" for x, y in places)


def _spread_failures(states: bytearray, grid: Grid) -> bytearray:
    """Return the states with failures that are seen: of cells of a pixel or two, neighbours show them as well."""
    failed = ChunkState.FAILED.number
    if grid.cell > 2 or states.count(failed) > len(states) // 500:
        return states
    spread, reach = bytearray(states), 2 if grid.cell < 2 else 1
    place = states.find(failed)
    while place >= 0:
        for row in range(-reach, reach + 1):
            start = place + row * grid.columns
            for near in range(max(0, start - reach), min(len(states), start + reach + 1)):
                spread[near] = failed
        place = states.find(failed, place + 1)
    return spread


def _draw_image(cells: bytearray, colours: Sequence[str], grid: Grid) -> str:
    padded = bytes(cells) + bytes(grid.rows * grid.columns - len(cells))
    png = b64encode(encode_png(padded, grid.columns, colours)).decode("ascii")
    return (
        f'<image x="{_GUTTER}" y="0" width="{grid.columns * grid.cell:g}" height="{grid.height:g}" '
        f'preserveAspectRatio="none" image-rendering="pixelated" href="data:image/png;base64,{png}"/>'
    )


def encode_png(pixels: bytes, width: int, colours: Sequence[str]) -> bytes:
    """Return a PNG of palette pixels; https://www.w3.org/TR/png-3/.

    Args:
        pixels: A number of a colour for each pixel, row by row.
        width: Pixels of a row.
        colours: The palette: eight hexadecimal digits each, the last two for opacity.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + pixels[start : start + width] for start in range(0, len(pixels), width))
    palette = [bytes.fromhex(colour) for colour in colours]
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(pixels) // width, 8, 3, 0, 0, 0)),
            chunk(b"PLTE", b"".join(colour[:3] for colour in palette)),
            chunk(b"tRNS", bytes(colour[3] for colour in palette)),
            chunk(b"IDAT", zlib.compress(b"".join(rows), 9)),
            chunk(b"IEND", b""),
        )
    )


def draw_progress(shares: Iterable[tuple[str, float]]) -> str:
    """Draw a bar of parts one after the other: class and share of each, 0 to 1."""
    left, parts = 0.0, []
    for kind, share in shares:
        width = share * _WIDTH
        if width > 0:
            parts.append(f'<rect class="{kind}" x="{left:.2f}" y="0" width="{max(width, 1.5):.2f}" height="10"/>')
        left += width
    clip = f'<clipPath id="bar"><rect width="{_WIDTH}" height="10" rx="5"/></clipPath>'
    body = f'<rect class="todo" width="{_WIDTH}" height="10"/>{"".join(parts)}'
    return _svg(_WIDTH, 10, f'{clip}<g clip-path="url(#bar)">{body}</g>', "Progress", stretch=True)


def draw_timeline(bars: Sequence[TimelineBar], hosts: Sequence[str]) -> str:
    """Draw who rendered when: a row for each host, in which bars of one moment stand above each other."""
    if not bars:
        return ""
    by_host: dict[str, list[TimelineBar]] = defaultdict(list)
    for bar in bars:
        by_host[bar.host].append(bar)
    shown = [host for host in hosts if host in by_host][:_MOST_HOSTS]
    start = min(bar.start for host in shown for bar in by_host[host])
    stop = max(max(bar.stop for host in shown for bar in by_host[host]), start + 1)
    gutter = 130
    scale = (_WIDTH - gutter) / (stop - start)
    height = _MOST_LANES_HEIGHT if len(shown) <= 30 else 14
    bottom = len(shown) * height
    parts = [_draw_ticks(start, stop, scale, gutter, bottom)]
    for row, host in enumerate(shown):
        top = row * height
        name = escape(host or "unknown")
        name = f"{name[:16]}…" if len(host) > 17 else name
        parts.append(f'<text x="{gutter - 10}" y="{top + height / 2 + 4:g}" class="end">{name}</text>')
        parts.append(
            f'<rect class="track" x="{gutter}" y="{top + 2}" width="{_WIDTH - gutter}" height="{height - 4}"/>'
        )
        parts += _draw_row(by_host[host], gutter, start, scale, top + 2.0, height - 4.0)
    return _svg(_WIDTH, bottom + 26, "".join(parts), "Timeline of hosts")


def _draw_row(
    bars: Sequence[TimelineBar], left: float, start: float, scale: float, top: float, height: float
) -> Iterator[str]:
    lanes: list[float] = []
    paths: dict[BarKind, list[str]] = defaultdict(list)
    placed = []
    for bar in sorted(bars, key=lambda bar: bar.start):
        # A little less: records of one span overlap by milliseconds.
        lane = next((lane for lane, end in enumerate(lanes) if end <= bar.start + 0.05), None)
        if lane is None and len(lanes) < _MOST_LANES:
            lane = len(lanes)
            lanes.append(0.0)
        lane = lane if lane is not None else min(range(len(lanes)), key=lanes.__getitem__)
        lanes[lane] = max(lanes[lane], bar.stop)
        placed.append((bar, lane))
    each = height / max(1, len(lanes))
    for bar, lane in placed:
        least = 2.5 if bar.kind is BarKind.FAILED else 0.75
        width = max((bar.stop - bar.start) * scale - 0.6, least)
        x = min(left + (bar.start - start) * scale, _WIDTH - width)
        paths[bar.kind].append(f"M{x:.1f} {top + lane * each:.1f}h{width:.1f}v{max(1, each - 0.6):.1f}h{-width:.1f}z")
    for kind, look in BAR_LOOKS.items():
        if kind in paths:
            yield f'<path class="{look.css_class}" d="{"".join(paths[kind])}"/>'


_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)


def _draw_ticks(start: float, stop: float, scale: float, left: float, bottom: float) -> str:
    step = next((step for step in _STEPS if step * scale >= 95), _STEPS[-1])
    # Of a whole day or hour by the clock of this host.
    offset = (datetime.fromtimestamp(start).astimezone().utcoffset() or timedelta()).total_seconds()
    first = ceil((start + offset) / step) * step - offset
    form = (
        "%d %b" if step >= 86400 else "%d %b %H:%M" if stop - start > 86400 else "%H:%M" if step >= 60 else "%H:%M:%S"
    )
    parts, tick = [], first
    while tick <= stop:
        x = left + (tick - start) * scale
        if x < _WIDTH - 20:
            parts.append(f'<path class="grid" d="M{x:.1f} 0v{bottom + 5}"/>')
            word = f"{datetime.fromtimestamp(tick).astimezone():{form}}"
            parts.append(f'<text x="{x:.1f}" y="{bottom + 19}" class="mid">{word}</text>')
        tick += step
    return "".join(parts)


def draw_times(times: FrameTimes, width: int = 520, height: int = 150) -> str:
    """Draw the distribution of frame times, with the median and the 95th percentile."""
    if not times.bins:
        return ""
    most, step = max(times.bins), width / len(times.bins)
    parts = []
    for number, count in enumerate(times.bins):
        tall = max(1.5, count / most * (height - 48)) if count else 0
        is_slow = number == len(times.bins) - 1 and times.slow_count > 0
        kind = "fail" if is_slow else "done"
        parts.append(
            f'<rect class="{kind}" x="{number * step:.1f}" y="{height - 20 - tall:.1f}" width="{step - 1.5:.1f}" '
            f'height="{tall:.1f}"/>'
        )
    parts.append(f'<path class="axis" d="M0 {height - 19.5}H{width}"/>')
    for value, word, line in ((times.p95, "p95", 9), (times.p50, "p50", 20)):
        x = min(value / times.bin_seconds * step, width - 1)
        side = "end" if x > width - 60 else ""
        parts.append(f'<path class="mark" d="M{x:.1f} {line - 8}V{height - 20}"/>')
        parts.append(f'<text x="{x + (-4 if side else 4):.1f}" y="{line}" class="{side}">{word}</text>')
    parts += _draw_time_axis(times, step, width, height)
    return _svg(width, height, "".join(parts), "Distribution of frame times")


def _draw_time_axis(times: FrameTimes, step: float, width: int, height: int) -> Iterator[str]:
    whole = times.bin_seconds * len(times.bins)
    tick = find_nice_step(whole / 5)
    value = tick
    yield f'<text x="0" y="{height - 5}">0</text>'
    while value < whole * 0.97:
        x = value / times.bin_seconds * step
        yield f'<text x="{x:.1f}" y="{height - 5}" class="mid">{format_short(value)}</text>'
        value += tick


def find_nice_step(least: float) -> float:
    """Return the smallest step of 1, 2 or 5 times a power of ten, or of a clock, that is not less."""
    if least >= 60:
        return next(
            (float(step) for step in (60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400) if step >= least), 86400.0
        )
    power = 10.0 ** floor(log10(max(least, 1e-6)))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= least * 0.999)


def format_short(seconds: float) -> str:
    """Return a duration for an axis: `0.4 s`, `12 s`, `5 min`, `2 h`."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _svg(width: float, height: float, body: str, label: str, *, stretch: bool = False) -> str:
    fit = ' preserveAspectRatio="none"' if stretch else ""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}"{fit} '
        f'xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )
