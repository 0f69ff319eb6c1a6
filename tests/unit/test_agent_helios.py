"""Requests and answers of Helios' clients."""

import json

import pytest

from agent.helios import MOST_BYTES, decode_tail, parse_request


def test_the_end_of_an_output_begins_with_a_whole_character() -> None:
    assert decode_tail(b"a\xc3\xa9", 2) == "\u00e9"
    assert decode_tail(b"a\xc3\xa9", 1) == ""
    assert decode_tail(b"\xff\xfe") == "\ufffd\ufffd"
    assert len(decode_tail(b"x" * (MOST_BYTES + 5))) == MOST_BYTES


@pytest.mark.parametrize("document", [None, [], "x", 1, {}, {"jobPath": "x"}, {"jobPath": "x", "chunkIndex": "0"}])
def test_wrong_keys_are_no_request(document: object) -> None:
    assert parse_request(document) is None


def test_numbers_of_chunks_are_what_javascript_takes_for_one() -> None:
    assert parse_request(json.loads('{"jobPath": "x", "chunkIndex": 1.0}')) is not None
    assert parse_request(json.loads('{"jobPath": "x", "chunkIndex": true}')) is None
