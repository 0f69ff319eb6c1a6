"""Load the payload codec that `LONGTAKE_CODEC` names, and say of a payload why nothing here decodes it."""

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from functools import reduce

from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec, SerializationContext, WithSerializationContext

from longtake.errors import LongtakeError, UndecodedPayloadError
from longtake.text import escape_text, quote_value

CODEC_VARIABLE = "LONGTAKE_CODEC"
KEYS_VARIABLE = "LONGTAKE_CODEC_KEYS"
KEYS_FILE_VARIABLE = "LONGTAKE_CODEC_KEYS_FILE"
AES_GCM = "longtake.encryption:aes_gcm"

# As codecs of Temporal's own samples write them: other programs know an encrypted payload by these.
ENCRYPTED = b"binary/encrypted"
KEY_ID = "encryption-key-id"

# Why a payload was not decoded, left in its metadata for whoever reads it.
_REASON = "longtake-undecoded"

_log = logging.getLogger(__name__)


def load_codec(environ: Mapping[str, str] | None = None) -> PayloadCodec | None:
    """Load the codec that `LONGTAKE_CODEC` names, as `module:attribute`; return None where it is not set.

    The attribute is called without arguments and returns a `temporalio.converter.PayloadCodec`.

    Args:
        environ: The environment; default: that of this process.

    Raises:
        LongtakeError: There is no such codec, or its settings are off; or keys are set, and no codec.
    """
    environ = os.environ if environ is None else environ
    name = environ.get(CODEC_VARIABLE, "").strip()
    if not name:
        for keys in (KEYS_VARIABLE, KEYS_FILE_VARIABLE):
            if environ.get(keys, "").strip():
                # Whoever has set keys believes that payloads are encrypted.
                raise LongtakeError(
                    f"{keys} is set and {CODEC_VARIABLE} is not, and payloads would be written as plain text; set "
                    f"{CODEC_VARIABLE}={AES_GCM}, or take the keys away"
                )
        return None
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise LongtakeError(f"{CODEC_VARIABLE} is {quote_value(name)}; write module:attribute, such as {AES_GCM}")
    try:
        codec = reduce(getattr, attribute.split("."), importlib.import_module(module))()  # type: ignore[operator]
    except LongtakeError:
        raise
    except ModuleNotFoundError as error:
        fix = "pip install 'longtake[codec]'" if error.name == "cryptography" else "install it where this runs"
        raise LongtakeError(f"{CODEC_VARIABLE}={name} needs the module {error.name}; {fix}") from error
    except Exception as error:
        said = escape_text(f"{type(error).__name__}: {error}", 200)
        raise LongtakeError(f"{CODEC_VARIABLE}={name} makes no codec ({said}); mend it there") from error
    if not isinstance(codec, PayloadCodec):
        raise LongtakeError(
            f"{CODEC_VARIABLE}={name} made a {type(codec).__name__}; it must return a temporalio PayloadCodec"
        )
    return TolerantCodec(codec)


class TolerantCodec(PayloadCodec, WithSerializationContext):
    """Hand on what a codec cannot decode, with the reason, for `explain_undecoded`.

    What a codec raises while a workflow task is decoded would fail that task for ever, without a word to anybody.

    Args:
        codec: The codec.
    """

    def __init__(self, codec: PayloadCodec) -> None:
        self._codec = codec

    def with_context(self, context: SerializationContext) -> "TolerantCodec":
        """Return the codec with a context, if it uses one."""
        if not isinstance(self._codec, WithSerializationContext):
            return self
        codec = self._codec.with_context(context)
        assert isinstance(codec, PayloadCodec)
        return TolerantCodec(codec)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encode payloads."""
        return await self._codec.encode(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decode payloads; those that cannot be decoded come back as they are, with the reason in their metadata."""
        try:
            return await self._codec.decode(payloads)
        except Exception as error:
            if len(payloads) == 1:
                return [_note_reason(payloads[0], error)]
        return [decoded for payload in payloads for decoded in await self.decode([payload])]


def _note_reason(payload: Payload, error: Exception) -> Payload:
    reason = str(error) if isinstance(error, UndecodedPayloadError) else ""
    if not reason:
        _log.warning("a payload cannot be decoded", exc_info=error)
        reason = f"is one that the codec cannot decode ({escape_text(f'{type(error).__name__}: {error}', 200)})"
    noted = Payload()
    noted.CopyFrom(payload)
    noted.metadata[_REASON] = reason.encode()
    return noted


def explain_undecoded(payload: Payload) -> str:
    """Return why a payload cannot be decoded without another codec or key, as the rest of a sentence; empty if it can.

    Args:
        payload: A payload as a codec, if there is one, has left it.
    """
    encoding = payload.metadata.get("encoding", b"")
    if reason := payload.metadata.get(_REASON):
        return escape_text(reason.decode("utf-8", "replace"), 500)
    if encoding != ENCRYPTED:
        return ""
    key = payload.metadata.get(KEY_ID)
    named = f" with the key {quote_value(key.decode('utf-8', 'replace'))}" if key else ""
    return (
        f"is encrypted{named}, and no codec is set here; set {CODEC_VARIABLE}={AES_GCM} with that key in "
        f"{KEYS_VARIABLE}, or the codec that has written it"
    )


def drop_reason(payload: Payload) -> Payload:
    """Return a payload as it was before a codec failed to decode it."""
    plain = Payload()
    plain.CopyFrom(payload)
    plain.metadata.pop(_REASON, None)
    return plain


def require_decoded(payload: Payload, what: str) -> None:
    """Raise `UndecodedPayloadError` for a payload that only another codec or key decodes.

    Args:
        payload: A payload as a codec, if there is one, has left it.
        what: What the payload is, as the beginning of a sentence.
    """
    if why := explain_undecoded(payload):
        raise UndecodedPayloadError(f"{what} {why}")
