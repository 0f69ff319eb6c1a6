"""What Lambda answers when it does not run a function, and what each of it means for the chunk."""

import json
from typing import Any

from activities.errors import AttemptError, ThrottledError
from activities.remote.service import Answer, CallLostError
from longtake.plaintext import short_line

# Codes: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_Errors and CommonErrors.
# No room, or not ready yet: the function's code was not begun, and later it may be.
_NOT_NOW = frozenset({
    "TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded",
    "ServiceUnavailable", "ServiceUnavailableException", "SlowDown",
    "EC2ThrottledException", "EC2UnexpectedException", "ENILimitReachedException", "ENINotReadyException",
    "SubnetIPAddressLimitReachedException", "ResourceNotReadyException", "ResourceConflictException",
    "SnapStartNotReadyException", "SnapStartTimeoutException", "CodeArtifactUserPendingException",
    "EFSMountConnectivityException", "EFSMountTimeoutException",
    "S3FilesMountConnectivityException", "S3FilesMountTimeoutException",
})  # fmt: skip

# What to mend, where asking again is pointless until somebody does.
_FIXES: dict[str, tuple[str, ...]] = {
    "name a function of this account and region in the job or in LONGTAKE_LAMBDA_FUNCTIONS": (
        "ResourceNotFoundException", "NoPublishedVersionException",
    ),
    "allow the worker's role lambda:InvokeFunction on it": ("AccessDeniedException", "AccessDenied", "OptInRequired"),
    "an order is a few hundred bytes and may have 6 MB": (
        "RequestTooLargeException", "RequestEntityTooLargeException", "SerializedRequestEntityTooLargeException",
    ),
    "check the function's name and deploy one version of Longtake on both sides": (
        "InvalidParameterValueException", "InvalidRequestContentException", "UnsupportedMediaTypeException",
        "ModeNotSupportedException", "ValidationException",
    ),
    "deploy the function again, with a runtime that AWS supports": (
        "InvalidRuntimeException", "InvalidZipFileException", "RuntimeVersionDeletedException", "SnapStartException",
        "SnapStartRegenerationFailureException", "RuntimeAliasDeletedException",
    ),
    "mend the network settings of the function": (
        "EC2AccessDeniedException", "InvalidSubnetIDException", "InvalidSecurityGroupIDException",
    ),
    "let the function's role use the KMS key of its settings, and see that the key is enabled": (
        "KMSAccessDeniedException", "KMSDisabledException", "KMSInvalidStateException", "KMSNotFoundException",
    ),
    "mend the file system settings of the function": ("EFSMountFailureException", "S3FilesMountFailureException"),
    "the function may not call itself": ("RecursiveInvocationException",),
}  # fmt: skip
_FIX = {code: fix for fix, codes in _FIXES.items() for code in codes}

# AWS's own words for these hold the request as it was signed, a session token included: never shown.
_EXPIRED = "the worker's AWS credentials have expired; renew them"
_INVALID = "the worker's AWS credentials are not valid there; check keys, region and the worker's clock"
_CREDENTIALS = {
    **dict.fromkeys(("ExpiredTokenException", "ExpiredToken", "RequestExpired"), _EXPIRED),
    **dict.fromkeys((
        "UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationTokenException",
        "MissingAuthenticationToken", "InvalidSignatureException", "SignatureDoesNotMatch",
        "IncompleteSignatureException", "IncompleteSignature", "InvalidAccessKeyId",
    ), _INVALID),
}  # fmt: skip

_LONGEST_MESSAGE = 400


def refusal(where: str, answer: Answer) -> AttemptError | ThrottledError | CallLostError:
    """Return the error that this answer of the Invoke API stands for.

    Nobody says of a 500 (`ServiceException`) or of an unknown 5xx whether the function was begun: it counts as a
    connection that broke, so that the store is asked before anything is paid twice.

    Args:
        where: What people call the function.
        answer: The answer, of a status other than 2xx.
    """
    code, message, reason = _read(answer)
    if code in _CREDENTIALS:
        return AttemptError(f"{where} refuses the call ({code}): {_CREDENTIALS[code]}", fatal=True)
    said = f"{code or f'HTTP {answer.status}'}{f': {message}' if message else ''}{f' ({reason})' if reason else ''}"
    if code in _NOT_NOW or (code not in _FIX and answer.status in (429, 503)):
        return ThrottledError(f"{where} has no room now: {said}", wait_seconds=_wait_seconds(answer))
    if code in _FIX:
        return AttemptError(f"{where} refuses the call: {said}; {_FIX[code]}", fatal=True)
    if answer.status >= 500 or answer.status in (408, 410):
        return CallLostError(f"{where} failed, and whether it had begun is not known: {said}", begun=True)
    return AttemptError(f"{where} refuses the call: {said}; check its name, region and endpoint", fatal=True)


def _read(answer: Answer) -> tuple[str, str, str]:
    """Return code, message and reason, by the rules of AWS's restJson1 protocol; empty where there is none."""
    try:
        body: Any = json.loads(answer.body)
    except (ValueError, RecursionError):
        body = None
    fields = body if isinstance(body, dict) else {}
    code = answer.headers.get("x-amzn-errortype") or fields.get("code") or fields.get("__type") or ""
    message = fields.get("message") or fields.get("Message") or ""
    # `aws.protocols#FooError:http://internal.amazon.com/...` is FooError.
    plain = str(code).partition(":")[0].rpartition("#")[2]
    return plain, short_line(str(message), _LONGEST_MESSAGE), str(fields.get("Reason") or "")


def _wait_seconds(answer: Answer) -> float | None:
    """Return what `Retry-After` asks for; Lambda writes it in seconds."""
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None
