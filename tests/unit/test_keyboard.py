"""Keys of a terminal: names of what it sends, in one piece or in several."""

import pytest

from longtake.cli.keyboard import KeyDecoder


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"jk/", ["j", "k", "/"]),
        (b"\x1b[A\x1b[B\x1bOA", ["up", "down", "up"]),
        (b"\x1b[5~\x1b[6~\x1b[H\x1b[4~", ["page up", "page down", "home", "end"]),
        (b"\r\x7f\t", ["enter", "backspace", "tab"]),
        ("é界".encode(), ["é", "界"]),
        (b"\x1b[1;5Cq", ["q"]),
        (b"\x1b[<0;12;4Mq", ["q"]),
        (b"\x01\xffq", ["q"]),
    ],
)
def test_what_a_terminal_sends_has_names(sent: bytes, keys: list[str]) -> None:
    whole, pieces = KeyDecoder(), KeyDecoder()

    assert whole.feed(sent) == keys
    assert [key for byte in sent for key in pieces.feed(bytes([byte]))] == keys


def test_a_sequence_that_does_not_go_on_was_the_escape_key() -> None:
    decoder = KeyDecoder()

    assert decoder.feed(b"\x1b") == []
    assert decoder.is_open
    assert decoder.flush() == ["escape"]
    assert not decoder.is_open
    assert decoder.feed(b"\x1bq") == ["escape", "q"]
