"""Write text, times, amounts, tables and legends as HTML: what others have named is escaped here, and nowhere else."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape

from longtake.text import flatten_text


def to_text(value: object) -> str:
    """Return text of others as one line that is shown as it is."""
    return escape(flatten_text(f"{value}"))


def to_code(text: str) -> str:
    """Return text of others in which words between backticks are code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", to_text(text))


def name_zone(when: datetime) -> str:
    """Return the time zone of this host at a time."""
    return f"{when.astimezone():%Z (UTC%z)}"


def format_when(when: datetime | None, form: str = "%Y-%m-%d %H:%M") -> str:
    """Return a time in the zone of this host; empty where there is none."""
    return f"{when.astimezone():{form}}" if when is not None else ""


def format_span(seconds: float) -> str:
    """Return a duration for people: `0.42 s`, `48 s`, `6 min 12 s`, `2 h 14 min`, `3 d 4 h`."""
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds else "0 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 and whole < 1200 else "")
    if whole < 48 * 3600:
        return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def format_work(seconds: float) -> str:
    """Return the time of many hosts together, in hours where it is long: `1,785 h`."""
    return f"{seconds / 3600:,.0f} h" if seconds >= 24 * 3600 else format_span(seconds)


def count_nouns(number: int, noun: str) -> str:
    """Return a count with its noun: `1 frame`, `2,400 frames`, `3 tries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("try") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def write_section(title: str, note: str, body: str, *, kind: str = "") -> str:
    """Return a section with its title and a note beside it; nothing where it has no body."""
    head = f'<header><h2>{escape(title)}</h2><span class="faint">{note}</span></header>'
    return f'<section class="{kind}">{head}{body}</section>' if body else ""


def write_pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Return names and values, without those that have no value."""
    found = (f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in rows if value)
    return f'<dl class="pairs">{"".join(found)}</dl>'


def write_table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> str:
    """Return a table.

    Args:
        columns: Title and class of each column.
        rows: The cells of each row.
    """
    head = "".join(f'<th class="{kind}">{title}</th>' for title, kind in columns)

    def write_row(cells: Sequence[str]) -> str:
        return "".join(f'<td class="{kind}">{cell}</td>' for cell, (_, kind) in zip(cells, columns, strict=True))

    body = "".join(f"<tr>{write_row(cells)}</tr>" for cells in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def write_legend(signs: Iterable[tuple[str, str]]) -> str:
    """Return a legend: a drawing of 12 by 12 pixels and words for each entry."""
    entries = (
        f'<span><svg viewBox="0 0 12 12" aria-hidden="true">{drawing}</svg>{words}</span>' for drawing, words in signs
    )
    return f'<div class="legend">{"".join(entries)}</div>'
