"""Payloads are encrypted as the specification says, decrypted by today's and earlier keys, and no error has a key."""

import base64
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload

from longtake.encryption import AesGcmCodec, aes_gcm, decrypt, encrypt, parse_keys, read_keys
from longtake.errors import LongtakeError, UndecodedPayloadError

OLD, NEW = bytes(range(32)), bytes(range(100, 132))
PLAIN = Payload(metadata={"encoding": b"json/plain", "messageType": b"x"}, data=b'{"TOKEN":"hunter2"}')


def text_of(key: bytes) -> str:
    return base64.b64encode(key).decode()


def test_it_is_xaes_256_gcm() -> None:
    """The test vector of https://c2sp.org/XAES-256-GCM."""
    key, nonce = b"\x01" * 32, b"ABCDEFGHIJKLMNOPQRSTUVWX"
    encrypted = encrypt(key, nonce, b"XAES-256-GCM")

    assert encrypted.hex() == "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"
    assert decrypt(key, nonce, encrypted) == b"XAES-256-GCM"
    with pytest.raises(InvalidTag):
        decrypt(key, nonce, encrypted[:-1] + b"\x00")


@given(data=st.binary(max_size=200), metadata=st.dictionaries(st.text(max_size=9), st.binary(max_size=9), max_size=3))
async def test_a_payload_comes_back_as_it_was(data: bytes, metadata: dict[str, bytes]) -> None:
    codec = AesGcmCodec({"a": NEW})
    given = Payload(metadata=metadata, data=data)

    (encoded,) = await codec.encode([given])
    assert encoded.metadata["encoding"] == b"binary/encrypted"
    assert await codec.decode([encoded]) == [given]


async def test_nothing_of_a_payload_can_be_seen_and_no_two_look_alike() -> None:
    codec = AesGcmCodec({"a": NEW})
    first, second = await codec.encode([PLAIN, PLAIN])

    assert first.data != second.data
    for hidden in (b"hunter2", b"TOKEN", b"json/plain", b"messageType", NEW):
        assert hidden not in first.SerializeToString()


async def test_the_first_key_encrypts_and_all_decrypt() -> None:
    (before,) = await AesGcmCodec({"2025": OLD}).encode([PLAIN])
    rotated = AesGcmCodec({"2026": NEW, "2025": OLD})

    (after,) = await rotated.encode([PLAIN])
    assert after.metadata["encryption-key-id"] == b"2026"
    assert await rotated.decode([before, after]) == [PLAIN, PLAIN]


async def test_what_was_written_before_the_codec_stays_as_it_is() -> None:
    others = [PLAIN, Payload(), Payload(metadata={"encoding": b"binary/null"})]

    assert await AesGcmCodec({"a": NEW}).decode(others) == others


async def test_a_payload_of_a_missing_key_says_which_and_what_to_set() -> None:
    (encoded,) = await AesGcmCodec({"2025": OLD}).encode([PLAIN])

    with pytest.raises(UndecodedPayloadError) as missing:
        await AesGcmCodec({"2026": NEW, "2027": NEW}).decode([encoded])
    assert str(missing.value) == (
        "is encrypted with the key '2025', and LONGTAKE_CODEC_KEYS here has 2026, 2027; "
        "add that key behind the first one"
    )


@pytest.mark.parametrize("change", ["key", "data", "short", "empty"])
async def test_what_another_key_of_the_same_id_or_a_change_makes_is_refused(change: str) -> None:
    (encoded,) = await AesGcmCodec({"a": OLD if change == "key" else NEW}).encode([PLAIN])
    data = encoded.data
    changed = {"key": data, "data": data[:-1] + bytes([data[-1] ^ 1]), "short": data[:20], "empty": b""}[change]
    encoded.data = changed

    with pytest.raises(UndecodedPayloadError, match="is not decrypted by the key a of LONGTAKE_CODEC_KEYS"):
        await AesGcmCodec({"a": NEW}).decode([encoded])


async def test_a_payload_of_another_codec_is_known_as_that() -> None:
    # As the samples of Temporal write them.
    other = Payload(metadata={"encoding": b"binary/encrypted", "encryption-key-id": b"test"}, data=b"x" * 50)

    with pytest.raises(UndecodedPayloadError, match="is encrypted with the key 'test' by another codec"):
        await AesGcmCodec({"a": NEW}).decode([other])


@pytest.mark.parametrize(
    "text", ["new={new},old={old}", "new={new} old={old}", "# ours\n\nnew={new}\n#x\n old={old}\n,"]
)
def test_keys_are_read_in_their_order(text: str) -> None:
    keys = parse_keys(text.format(new=text_of(NEW), old=text_of(OLD)), "LONGTAKE_CODEC_KEYS")

    assert list(keys.items()) == [("new", NEW), ("old", OLD)]


BAD_KEYS = {
    "": "LONGTAKE_CODEC_KEYS has no key; write id=key, where `openssl rand -base64 32` prints one",
    text_of(NEW): "LONGTAKE_CODEC_KEYS: key 1 is not of the form id=key; write an id",
    f"a={text_of(OLD)},{text_of(NEW)}": "LONGTAKE_CODEC_KEYS: key 2 is not of the form id=key",
    f"a/b={text_of(NEW)}": "LONGTAKE_CODEC_KEYS: key 1 is not of the form id=key",
    "a=": "LONGTAKE_CODEC_KEYS: key 1 is not of the form id=key",
    f"a={text_of(NEW)[:-2]}": "LONGTAKE_CODEC_KEYS: the key a is no base64",
    f"a={text_of(NEW[:16])}": "LONGTAKE_CODEC_KEYS: the key a has 16 bytes and needs 32; `openssl",
    f"a={text_of(NEW)} a={text_of(OLD)}": "LONGTAKE_CODEC_KEYS: there are two keys a; give each an id of its own",
}


@pytest.mark.parametrize("text", BAD_KEYS)
def test_keys_that_are_none_are_refused_in_a_sentence_without_them(text: str) -> None:
    with pytest.raises(LongtakeError) as refused:
        read_keys({"LONGTAKE_CODEC_KEYS": text})

    assert str(refused.value).startswith(BAD_KEYS[text])
    for key in (NEW, OLD):
        assert text_of(key)[:12] not in str(refused.value)


def test_keys_come_from_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# first\nnew={text_of(NEW)}\nold={text_of(OLD)}\n")

    assert list(read_keys({"LONGTAKE_CODEC_KEYS_FILE": str(path)})) == ["new", "old"]
    with pytest.raises(LongtakeError, match="are both set; leave one of them out"):
        read_keys({"LONGTAKE_CODEC_KEYS_FILE": str(path), "LONGTAKE_CODEC_KEYS": "x"})
    with pytest.raises(LongtakeError, match=r"LONGTAKE_CODEC_KEYS_FILE: '.*/missing' cannot be read \(No such file"):
        read_keys({"LONGTAKE_CODEC_KEYS_FILE": str(tmp_path / "missing")})
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(LongtakeError, match=r"cannot be read \(no text\)"):
        read_keys({"LONGTAKE_CODEC_KEYS_FILE": str(path)})
    monkeypatch.setenv("LONGTAKE_CODEC_KEYS", f"a={text_of(NEW)}")
    assert text_of(NEW) not in repr(aes_gcm()) + str(vars(aes_gcm()).keys())
