"""What a bucket's answers and silences mean: one sentence each, and whether asking again may help."""

import errno
from dataclasses import dataclass
from enum import StrEnum

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
)
from urllib3.exceptions import HTTPError

from longtake.text import plainly

# What a call to a store raises when the store, or the way to it, is at fault.
StoreFault = (BotoCoreError, ClientError, HTTPError)


class Answer(StrEnum):
    """Answers that the one who asked may have to deal with."""

    MISSING = "missing"
    # `If-None-Match: *` met a file, or `If-Match` met another one.
    PRECONDITION = "precondition"
    # Two conditional writes met: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    CONFLICT = "conflict"
    NO_UPLOAD = "no upload"
    # The file has no such byte: it is empty.
    RANGE = "range"
    # What arrived is not what was sent.
    DIGEST = "digest"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Trouble:
    """What is to be made of a failed call.

    Args:
        sentence: What happened and the fix.
        passing: Whether it may work later as it is.
        again: Whether to try again at once, after a pause.
    """

    sentence: str
    passing: bool = False
    again: bool = False


_ANSWERS = {
    "404": Answer.MISSING,
    "NoSuchKey": Answer.MISSING,
    "412": Answer.PRECONDITION,
    "PreconditionFailed": Answer.PRECONDITION,
    "ConditionalRequestConflict": Answer.CONFLICT,
    "OperationAborted": Answer.CONFLICT,
    "NoSuchUpload": Answer.NO_UPLOAD,
    "InvalidRange": Answer.RANGE,
    "416": Answer.RANGE,
    "BadDigest": Answer.DIGEST,
    "XAmzContentChecksumMismatch": Answer.DIGEST,
    "XAmzContentSHA256Mismatch": Answer.DIGEST,
    "IncompleteBody": Answer.DIGEST,
    "ExpiredToken": Answer.EXPIRED,
    "ExpiredTokenException": Answer.EXPIRED,
    "TokenRefreshRequired": Answer.EXPIRED,
}

# Busy, slow or in the middle of something, beside all answers from 500 up.
_BUSY = frozenset({"SlowDown", "RequestTimeout", "TooManyRequests", "Throttling", "ThrottlingException", "429"})

_CREDENTIALS = "mend the AWS credentials that this host uses (AWS_ACCESS_KEY_ID, a profile, or the role of the host)"

_SENTENCES = {
    "NoSuchBucket": "there is no such bucket; make it, or mend the name in the job's store",
    "InvalidBucketName": "there can be no such bucket; mend the name in the job's store",
    "InvalidAccessKeyId": f"the store does not know the access key; {_CREDENTIALS}",
    "InvalidToken": f"the store does not know the session token; {_CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret key does not belong to the access key; {_CREDENTIALS}",
    "RequestTimeTooSkewed": "the clock of this host and that of the store are more than 15 minutes apart; "
    "set this host's clock, by NTP for example",
    "NotImplemented": "the store cannot make a file only where there is none (If-None-Match); use S3, MinIO or R2",
    "EntityTooLarge": "the file is larger than the store takes; render it in several files",
    "KeyTooLongError": "the name is longer than the store takes; shorten it",
}

# Which permission a denied call takes, where it is not that of its own name.
_PERMISSIONS = {
    "HeadObject": "s3:GetObject and s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "DeleteObjects": "s3:DeleteObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "UploadPartCopy": "s3:GetObject and s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
}

_FULL = frozenset({"XMinioStorageFull", "507", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"})
_DENIED = frozenset({"AccessDenied", "403", "AllAccessDisabled", "AccountProblem"})


def answer_of(error: Exception) -> Answer | None:
    """Return which answer this is; None for a silence, and for what nobody but a person can deal with."""
    return _ANSWERS.get(code_of(error)) if isinstance(error, ClientError) else None


def code_of(error: ClientError) -> str:
    """Return the store's own name for what is wrong; for a HEAD, which has no text, the HTTP status."""
    return str(error.response.get("Error", {}).get("Code") or status_of(error))


def trouble_of(error: Exception) -> Trouble:
    """Return what is to be made of what a call raised."""
    if isinstance(error, ClientError):
        message = str(error.response.get("Error", {}).get("Message") or "no reason given")
        return refused(error.operation_name, code_of(error), message, status_of(error))
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return Trouble(f"this host has no AWS credentials for the store; {_CREDENTIALS}")
    if isinstance(error, ParamValidationError):
        return Trouble("the store cannot be asked for this name; shorten or simplify it")
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Trouble("this host does not trust the store's certificate; name its authority's file in AWS_CA_BUNDLE")
    # The name of the error alone: its text may quote the URL, and that a password.
    return Trouble(
        f"the store does not answer ({type(error).__name__}); it is tried again later, and AWS_ENDPOINT_URL_S3 says "
        "where it is, if it is not AWS's",
        passing=True,
        again=True,
    )


def no_room(error: OSError, folder: object) -> Trouble | None:
    """Return what to say of a disk of this host that is full; None where something else is wrong with it."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return Trouble(f"the disk of this host is full: {folder} has no room for it; free some", passing=True)


def refused(operation: str, code: str, message: str = "no reason given", status: int = 0) -> Trouble:
    """Return what is to be made of a refusal.

    Args:
        operation: What was asked, by the name of its call.
        code: The store's own name for what is wrong.
        message: Its words.
        status: The HTTP status, where there is one.
    """
    if code in _FULL:
        return Trouble("the store is full; make room in it", passing=True)
    if code in _BUSY or (status >= 500 and code not in _SENTENCES):
        return Trouble(
            f"the store is busy or in trouble ({code} to each {operation}); it is tried again later",
            passing=True,
            again=True,
        )
    if code in _DENIED:
        permission = _PERMISSIONS.get(operation, f"s3:{operation}")
        return Trouble(f"the store denies it; allow {permission} to the credentials that this host uses")
    match _ANSWERS.get(code):
        case Answer.CONFLICT:
            return Trouble("others write to this name all the time; try again", passing=True, again=True)
        case Answer.DIGEST:
            sentence = "it does not arrive at the store as it leaves this host; check the network between, and its file"
            return Trouble(sentence, passing=True, again=True)
        case Answer.EXPIRED:
            return Trouble(f"the AWS credentials of this host have expired; {_CREDENTIALS}")
        case Answer.MISSING | Answer.NO_UPLOAD | Answer.PRECONDITION:
            return Trouble("another program has changed or removed it meanwhile; try again", passing=True)
    if code in _SENTENCES:
        return Trouble(_SENTENCES[code])
    said = plainly(message, 200).rstrip(".")
    return Trouble(f"the store refuses {operation} ({plainly(code)}: {said}); mend that, then try again")


def status_of(error: ClientError) -> int:
    """Return the HTTP status of an answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
