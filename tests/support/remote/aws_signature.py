"""The server's side of AWS Signature Version 4, written from AWS's description of it."""

import hashlib
import hmac
import time
from calendar import timegm
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlsplit

from support.servers.http_server import Request

_ALGORITHM = "AWS4-HMAC-SHA256"
_LIVES_SECONDS = 300.0


class SignatureRefused(Exception):
    """A request that is not signed as it must be."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def check_signature(request: Request, secrets: Mapping[str, str], *, region: str, service: str) -> None:
    """Pass when one of these keys signed the request, for this service and region, within five minutes.

    Raises:
        SignatureRefused: It did not; the code is AWS's.
    """
    header = request.headers.get("authorization", "")
    if not header.startswith(f"{_ALGORITHM} "):
        raise SignatureRefused("MissingAuthenticationTokenException", "Missing Authentication Token")
    parts = dict(part.strip().split("=", 1) for part in header.removeprefix(_ALGORITHM).split(","))
    access_key, date, *scope = parts["Credential"].split("/")
    if access_key not in secrets:
        said = "The security token included in the request is invalid."
        raise SignatureRefused("UnrecognizedClientException", said)
    when = request.headers["x-amz-date"]
    if scope != [region, service, "aws4_request"] or not when.startswith(date):
        said = f"Credential should be scoped to a valid region: {region}, and correct service: {service}."
        raise SignatureRefused("InvalidSignatureException", said)
    if abs(timegm(time.strptime(when, "%Y%m%dT%H%M%SZ")) - time.time()) > _LIVES_SECONDS:
        raise SignatureRefused("InvalidSignatureException", f"Signature expired: {when} is now earlier than 5 min. ago")
    text = "\n".join((_ALGORITHM, when, "/".join((date, *scope)), _digest(_canonical(request, parts["SignedHeaders"]))))
    key = f"AWS4{secrets[access_key]}".encode()
    for word in (date, *scope, text):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(key.hex(), parts["Signature"]):
        # AWS tells the whole canonical request here, a session token in it included.
        said = f"The request signature we calculated does not match.\n\nThe Canonical String was\n'{text}'"
        raise SignatureRefused("InvalidSignatureException", said)


def _canonical(request: Request, signed: str) -> str:
    url = urlsplit(request.target)
    query = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parse_qsl(url.query, True))
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in signed.split(";"))
    payload = request.headers.get("x-amz-content-sha256") or hashlib.sha256(request.body).hexdigest()
    # Every service but S3 has the encoded path encoded once more.
    path = quote(url.path, safe="/-_.~")
    return "\n".join((request.method, path, "&".join(f"{n}={v}" for n, v in query), headers, signed, payload))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
