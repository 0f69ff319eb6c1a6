"""Every codec in every container of films: what is joined equals one unchunked encode, and the page says so."""

from pathlib import Path

import pytest
from support.media.film_matrix import BEGIN, CODECS, END, JOINED, heads, measure_codec
from support.media.image_matrix import PAGE


@pytest.mark.parametrize("name", CODECS)
def test_chunks_become_the_film_that_the_page_tells(name: str, tmp_path: Path, ffmpeg: str) -> None:
    row = measure_codec(name, tmp_path, ffmpeg)

    assert row.films[".mkv"] == JOINED
    assert f"\n{row}\n" in PAGE.read_text(), f"`make media-matrix ARGS=--write`: {row}"


def test_the_table_holds_all_codecs_and_no_others() -> None:
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip().splitlines()

    assert table[:2] == list(heads())
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[2:]] == list(CODECS)
