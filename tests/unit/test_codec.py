"""The codec that is named is the one that is used, and what it cannot decode is handed on with the reason."""

import secrets
from collections.abc import Sequence

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from longtake.codec import TolerantCodec, drop_reason, explain_undecoded, load_codec, require_decoded
from longtake.encryption import AesGcmCodec
from longtake.errors import LongtakeError, UndecodedPayloadError

PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b"1")


class ReversingCodec(PayloadCodec):
    """A codec of somebody else's: it reverses bytes, and raises for what is not reversed."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload(metadata={"encoding": b"mine"}, data=payload.data[::-1]) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        if any(payload.metadata["encoding"] != b"mine" for payload in payloads):
            raise RuntimeError("not\x1b[31m mine")
        return [Payload(metadata={"encoding": b"json/plain"}, data=payload.data[::-1]) for payload in payloads]


def make_nothing() -> None:
    return None


@pytest.fixture(autouse=True)
def this_module_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "my_codecs", __import__("sys").modules[__name__])


@pytest.mark.parametrize("environ", [{}, {"LONGTAKE_CODEC": ""}, {"LONGTAKE_CODEC": " ", "LONGTAKE_CODEC_KEYS": ""}])
def test_without_the_setting_there_is_none(environ: dict[str, str]) -> None:
    assert load_codec(environ) is None


@pytest.mark.parametrize("name", ["LONGTAKE_CODEC_KEYS", "LONGTAKE_CODEC_KEYS_FILE"])
def test_keys_without_a_codec_never_mean_plain_text(name: str) -> None:
    with pytest.raises(LongtakeError, match=rf"^{name} is set and LONGTAKE_CODEC is not, and payloads would"):
        load_codec({name: "a=b"})


BAD_NAMES = {
    "aes": "LONGTAKE_CODEC is 'aes'; write module:attribute, such as longtake.encryption:aes_gcm",
    "longtake.encryption:": "LONGTAKE_CODEC is 'longtake.encryption:'; write module:attribute",
    "no_such_module:codec": "LONGTAKE_CODEC=no_such_module:codec needs the module no_such_module; install it",
    "my_codecs:lacking": "LONGTAKE_CODEC=my_codecs:lacking makes no codec (AttributeError",
    "my_codecs:PLAIN": "LONGTAKE_CODEC=my_codecs:PLAIN makes no codec (TypeError",
    "my_codecs:make_nothing": "LONGTAKE_CODEC=my_codecs:make_nothing made a NoneType; it must return",
    "longtake.encryption:aes_gcm": "LONGTAKE_CODEC_KEYS has no key; write id=key",
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_without_a_codec_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(LongtakeError) as refused:
        load_codec({"LONGTAKE_CODEC": name})

    assert str(refused.value).startswith(BAD_NAMES[name])
    assert "\n" not in str(refused.value)


async def test_any_payload_codec_can_be_named() -> None:
    codec = load_codec({"LONGTAKE_CODEC": "my_codecs:ReversingCodec"})
    assert codec is not None

    (encoded,) = await codec.encode([Payload(data=b"abc")])
    assert encoded.data == b"cba"
    (decoded,) = await codec.decode([encoded])
    assert decoded.data == b"abc"


async def test_what_a_codec_raises_for_costs_only_that_payload() -> None:
    codec = TolerantCodec(ReversingCodec())
    mine = await codec.encode([Payload(data=b"abc")])

    first, other, last = await codec.decode([*mine, PLAIN, *mine])
    assert (first.data, last.data) == (b"abc", b"abc")
    assert drop_reason(other) == PLAIN
    assert explain_undecoded(other) == "is one that the codec cannot decode (RuntimeError: not\\x1b[31m mine)"
    with pytest.raises(UndecodedPayloadError, match=r"^a memo is one that the codec cannot decode"):
        require_decoded(other, "a memo")


async def test_the_reason_of_a_missing_key_is_handed_on() -> None:
    (encoded,) = await AesGcmCodec({"b": secrets.token_bytes(32)}).encode([PLAIN])

    (left,) = await TolerantCodec(AesGcmCodec({"a": secrets.token_bytes(32)})).decode([encoded])
    assert explain_undecoded(left).startswith("is encrypted with the key 'b', and LONGTAKE_CODEC_KEYS here has a; add")
    assert drop_reason(left) == encoded


def test_without_a_codec_the_setting_and_the_key_are_named() -> None:
    encrypted = Payload(metadata={"encoding": b"binary/encrypted", "encryption-key-id": b"k\x1b7"}, data=b"x")

    assert explain_undecoded(PLAIN) == ""
    assert explain_undecoded(encrypted) == (
        "is encrypted with the key 'k\\x1b7', and no codec is set here; set LONGTAKE_CODEC=longtake.encryption:aes_gcm "
        "with that key in LONGTAKE_CODEC_KEYS, or the codec that has written it"
    )
