"""Encrypt payloads with AES-256-GCM: the codec `LONGTAKE_CODEC=longtake.encryption:aes_gcm`.

A key encrypts as many payloads as a farm ever writes: each has a random nonce of 24 bytes, from which an AES key of its
own is derived (XAES-256-GCM, https://c2sp.org/XAES-256-GCM). The 12 bytes of plain AES-GCM are good for 2**32 payloads,
which the heartbeats of a thousand renders write in two weeks.
"""

import base64
import binascii
import os
import re
import secrets
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from longtake.codec import ENCRYPTED, KEY_ID, KEYS_FILE_VARIABLE, KEYS_VARIABLE
from longtake.errors import LongtakeError, UndecodedPayloadError
from longtake.text import quote_value

CIPHER = "encryption-cipher"
XAES_256_GCM = b"XAES-256-GCM"

_KEY_BYTES = 32
_NONCE_BYTES = 24
_MAKE_KEY = "`openssl rand -base64 32` prints one"

# It stands in each payload, and in sentences.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def aes_gcm() -> PayloadCodec:
    """Make the codec with the keys of this process's environment.

    Raises:
        LongtakeError: There are no keys, or one is none; the sentence holds no key.
    """
    return AesGcmCodec(read_keys(os.environ))


def read_keys(environ: Mapping[str, str]) -> dict[str, bytes]:
    """Read keys by their ids, in their order, from `LONGTAKE_CODEC_KEYS` or the file of `LONGTAKE_CODEC_KEYS_FILE`.

    Raises:
        LongtakeError: There are no keys, or one is none; the sentence holds no key.
    """
    text, path = (environ.get(name, "").strip() for name in (KEYS_VARIABLE, KEYS_FILE_VARIABLE))
    if text and path:
        raise LongtakeError(f"{KEYS_VARIABLE} and {KEYS_FILE_VARIABLE} are both set; leave one of them out")
    name = KEYS_FILE_VARIABLE if path else KEYS_VARIABLE
    if path:
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no text"
            raise LongtakeError(
                f"{name}: {quote_value(path, 200)} cannot be read ({why}); name a file of keys"
            ) from error
    return parse_keys(text, name)


def parse_keys(text: str, name: str) -> dict[str, bytes]:
    """Parse `id=key` of each key, split by commas or white space; lines that begin with `#` are comments.

    Args:
        text: The keys, in base64.
        name: The setting, for errors.

    Raises:
        LongtakeError: There are no keys, or one is none; the sentence holds no key.
    """
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    keys: dict[str, bytes] = {}
    for place, word in enumerate(re.split(r"[,\s]+", " ".join(lines).strip(", \t"))):
        key_id, equals, encoded = word.partition("=")
        if not word:
            raise LongtakeError(f"{name} has no key; write id=key, where {_MAKE_KEY}")
        # What is no id may be a key that was pasted without one.
        if not equals or not encoded.strip("=") or not _ID.fullmatch(key_id):
            raise LongtakeError(
                f"{name}: key {place + 1} is not of the form id=key; write an id of letters, digits, '.', '_' and '-' "
                f"before it, where {_MAKE_KEY}"
            )
        if key_id in keys:
            raise LongtakeError(f"{name}: there are two keys {key_id}; give each an id of its own")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise LongtakeError(f"{name}: the key {key_id} is no base64; {_MAKE_KEY}") from error
        if len(key) != _KEY_BYTES:
            raise LongtakeError(f"{name}: the key {key_id} has {len(key)} bytes and needs {_KEY_BYTES}; {_MAKE_KEY}")
        keys[key_id] = key
    return keys


class AesGcmCodec(PayloadCodec):
    """Encrypt payloads with the first key, and decrypt those of all keys; leave what is not encrypted as it is.

    Args:
        keys: Keys of 32 bytes, by their ids.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self._first = next(iter(self._keys))

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt payloads, with their metadata."""
        return [self._encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt payloads; those that were written without a codec come back as they are.

        Raises:
            UndecodedPayloadError: A payload is encrypted with another key or in another way.
        """
        return [self._decrypt(payload) for payload in payloads]

    def _encrypt(self, payload: Payload) -> Payload:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return Payload(
            metadata={"encoding": ENCRYPTED, CIPHER: XAES_256_GCM, KEY_ID: self._first.encode()},
            data=nonce + encrypt(self._keys[self._first], nonce, payload.SerializeToString()),
        )

    def _decrypt(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCRYPTED:
            return payload
        key_id = payload.metadata.get(KEY_ID, b"").decode("utf-8", "replace")
        shown = f"with the key {quote_value(key_id)}" if key_id else "with a key that has no id"
        if payload.metadata.get(CIPHER) != XAES_256_GCM:
            raise UndecodedPayloadError(f"is encrypted {shown} by another codec; set LONGTAKE_CODEC to that")
        if key_id not in self._keys:
            known = ", ".join(self._keys)
            raise UndecodedPayloadError(
                f"is encrypted {shown}, and {KEYS_VARIABLE} here has {known}; add that key behind the first one"
            )
        nonce, encrypted = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        try:
            return Payload.FromString(decrypt(self._keys[key_id], nonce, encrypted))
        except (InvalidTag, ValueError) as error:
            raise UndecodedPayloadError(
                f"is not decrypted by the key {key_id} of {KEYS_VARIABLE}: that key is another one than the writer's, "
                "or the payload was changed; give both the same key"
            ) from error


def encrypt(key: bytes, nonce: bytes, plain: bytes) -> bytes:
    """Encrypt a text by XAES-256-GCM.

    Args:
        key: 32 bytes.
        nonce: 24 random bytes.
        plain: The text.
    """
    return _derive(key, nonce).encrypt(nonce[12:], plain, None)


def decrypt(key: bytes, nonce: bytes, encrypted: bytes) -> bytes:
    """Decrypt a text of `encrypt`.

    Raises:
        InvalidTag: It was encrypted otherwise, or changed.
        ValueError: It is too short to be one.
    """
    return _derive(key, nonce).decrypt(nonce[12:], encrypted, None)


def _derive(key: bytes, nonce: bytes) -> AESGCM:
    """Derive the key of one payload from its nonce, by CMAC in counter mode (NIST SP 800-108)."""
    halves = []
    for counter in (b"\x00\x01", b"\x00\x02"):
        mac = CMAC(AES(key))
        mac.update(counter + b"X\x00" + nonce[:12])
        halves.append(mac.finalize())
    return AESGCM(b"".join(halves))
