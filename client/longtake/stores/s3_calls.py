"""Retry calls to a bucket while that is safe and may help, and turn failures into one sentence each."""

import errno
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

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

from longtake.stores.store import StoreError
from longtake.text import escape_text

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


# What a call to a store raises when the store, or the way to it, is at fault.
StoreFault = (BotoCoreError, ClientError, HTTPError)


class S3Answer(StrEnum):
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
class S3Problem:
    """What is to be made of a failed call.

    Args:
        sentence: What happened and the fix.
        is_temporary: Whether it may work later as it is.
        is_retryable: Whether to try again at once, after a pause.
    """

    sentence: str
    is_temporary: bool = False
    is_retryable: bool = False


_ANSWERS = {
    "404": S3Answer.MISSING,
    "NoSuchKey": S3Answer.MISSING,
    "412": S3Answer.PRECONDITION,
    "PreconditionFailed": S3Answer.PRECONDITION,
    "ConditionalRequestConflict": S3Answer.CONFLICT,
    "OperationAborted": S3Answer.CONFLICT,
    "NoSuchUpload": S3Answer.NO_UPLOAD,
    "InvalidRange": S3Answer.RANGE,
    "416": S3Answer.RANGE,
    "BadDigest": S3Answer.DIGEST,
    "XAmzContentChecksumMismatch": S3Answer.DIGEST,
    "XAmzContentSHA256Mismatch": S3Answer.DIGEST,
    "IncompleteBody": S3Answer.DIGEST,
    "ExpiredToken": S3Answer.EXPIRED,
    "ExpiredTokenException": S3Answer.EXPIRED,
    "TokenRefreshRequired": S3Answer.EXPIRED,
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
    "NotImplemented": "the store cannot make a file only where there is none (If-None-Match); use S3, SeaweedFS or R2",
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


def classify_answer(error: Exception) -> S3Answer | None:
    """Return which answer this is; None for a silence, and for what nobody but a person can deal with."""
    return _ANSWERS.get(error_code(error)) if isinstance(error, ClientError) else None


def error_code(error: ClientError) -> str:
    """Return the store's own name for what is wrong; for a HEAD, which has no text, the HTTP status."""
    return str(error.response.get("Error", {}).get("Code") or http_status(error))


def describe_problem(error: Exception) -> S3Problem:
    """Return what is to be made of what a call raised."""
    if isinstance(error, ClientError):
        message = str(error.response.get("Error", {}).get("Message") or "no reason given")
        return describe_refusal(error.operation_name, error_code(error), message, http_status(error))
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return S3Problem(f"this host has no AWS credentials for the store; {_CREDENTIALS}")
    if isinstance(error, ParamValidationError):
        return S3Problem("the store cannot be asked for this name; shorten or simplify it")
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return S3Problem("this host does not trust the store's certificate; name its authority's file in AWS_CA_BUNDLE")
    # The name of the error alone: its text may quote the URL, and that a password.
    return S3Problem(
        f"the store does not answer ({type(error).__name__}); it is tried again later, and AWS_ENDPOINT_URL_S3 says "
        "where it is, if it is not AWS's",
        is_temporary=True,
        is_retryable=True,
    )


def describe_full_disk(error: OSError, folder: object) -> S3Problem | None:
    """Return what to say of a disk of this host that is full; None where something else is wrong with it."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return S3Problem(f"the disk of this host is full: {folder} has no room for it; free some", is_temporary=True)


def describe_refusal(operation: str, code: str, message: str = "no reason given", status: int = 0) -> S3Problem:
    """Return what is to be made of a refusal.

    Args:
        operation: What was asked, by the name of its call.
        code: The store's own name for what is wrong.
        message: Its words.
        status: The HTTP status, where there is one.
    """
    if code in _FULL:
        return S3Problem("the store is full; make room in it", is_temporary=True)
    if code in _BUSY or (status >= 500 and code not in _SENTENCES):
        return S3Problem(
            f"the store is busy or in trouble ({code} to each {operation}); it is tried again later",
            is_temporary=True,
            is_retryable=True,
        )
    if code in _DENIED:
        permission = _PERMISSIONS.get(operation, f"s3:{operation}")
        return S3Problem(f"the store denies it; allow {permission} to the credentials that this host uses")
    match _ANSWERS.get(code):
        case S3Answer.CONFLICT:
            return S3Problem("others write to this name all the time; try again", is_temporary=True, is_retryable=True)
        case S3Answer.DIGEST:
            sentence = "it does not arrive at the store as it leaves this host; check the network between, and its file"
            return S3Problem(sentence, is_temporary=True, is_retryable=True)
        case S3Answer.EXPIRED:
            return S3Problem(f"the AWS credentials of this host have expired; {_CREDENTIALS}")
        case S3Answer.MISSING | S3Answer.NO_UPLOAD | S3Answer.PRECONDITION:
            return S3Problem("another program has changed or removed it meanwhile; try again", is_temporary=True)
    if code in _SENTENCES:
        return S3Problem(_SENTENCES[code])
    said = escape_text(message, 200).rstrip(".")
    return S3Problem(f"the store refuses {operation} ({escape_text(code)}: {said}); mend that, then try again")


def http_status(error: ClientError) -> int:
    """Return the HTTP status of an answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


Result = TypeVar("Result")

_log = logging.getLogger(__name__)

# A body that is damaged on its way more often than this is damaged by something that stays.
_DIGEST_TRIES = 4


@dataclass(frozen=True)
class RetryPolicy:
    """How long a store may be away, counted from the first failure of a call.

    Args:
        seconds: Time after which nothing is tried again. Long enough for a restart of a server and for the minute that
            S3 may take to split a busy prefix, short enough for an activity's attempt.
        first_seconds: Pause after the first failure; each later one is twice as long.
        most_seconds: The longest pause.
    """

    seconds: float = 75.0
    first_seconds: float = 0.1
    most_seconds: float = 10.0

    def pause(self, failures: int) -> float:
        """Return how long to wait; spread, so that many who failed together do not come back together."""
        longest: float = min(self.most_seconds, self.first_seconds * 2.0 ** min(failures - 1, 30))
        return longest * random.uniform(0.5, 1.0)


RETRY_POLICY = RetryPolicy()

# What is left behind costs a little money and hides nothing; work is not kept waiting for it.
_CLEANUP_POLICY = RetryPolicy(seconds=10.0)


class ExpectedAnswer(Exception):
    """The store gave an answer that its caller asked to see.

    Args:
        answer: The answer.
        may_be_done: Whether an earlier try failed so that it may have been carried out all the same.
    """

    def __init__(self, answer: S3Answer, *, may_be_done: bool) -> None:
        super().__init__(answer)
        self.answer = answer
        self.may_be_done = may_be_done


class S3Retrier:
    """Asks a store; safe to use from many threads.

    Args:
        client: A client that tries nothing again by itself.
        renew: Makes a client with fresh credentials; None where there can be none.
        patience: How long the store may be away.
        stop: Lets all calls fail that have not begun when it is set, but those that clean up.
    """

    def __init__(
        self,
        client: "S3Client",
        *,
        renew: "Callable[[], S3Client] | None" = None,
        patience: RetryPolicy = RETRY_POLICY,
        stop: threading.Event | None = None,
    ) -> None:
        self._stop = stop or threading.Event()
        self._client = client
        self._renew = renew
        self._patience = patience
        self._renewing = threading.Lock()

    def call(
        self,
        ask: "Callable[[S3Client], Result]",
        location: str,
        *,
        expected: Collection[S3Answer] = frozenset(),
        is_cleanup: bool = False,
    ) -> Result:
        """Return what the store answers.

        Args:
            ask: Asks once; what it asks for must do no harm when it is done twice.
            location: What it is about, for errors.
            expected: Answers that are raised as `Answered`.
            is_cleanup: It takes away what was begun: done after a stop too, and given up soon.

        Raises:
            Answered: It is one of those.
            FileNotFoundError: There is no such file.
            StoreError: The store refuses, or was away for longer than patience lasts.
        """
        patience = _CLEANUP_POLICY if is_cleanup else self._patience
        failures = 0
        deadline = 0.0
        renewed = False
        while True:
            if self._stop.is_set() and not is_cleanup:
                raise problem_error(S3Problem("was interrupted before it was done", is_temporary=True), location)
            client = self._client
            try:
                return ask(client)
            except StoreFault as error:
                fault = error
            answer = classify_answer(fault)
            if answer is not None and answer in expected:
                raise ExpectedAnswer(answer, may_be_done=failures > 0) from fault
            if answer is S3Answer.MISSING:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location) from None
            if not renewed and self._renews(fault, client):
                renewed = True
                continue
            problem = describe_problem(self._in_words(fault, location))
            failures += 1
            deadline = deadline or time.monotonic() + patience.seconds
            pause = patience.pause(failures)
            hopeless = answer is S3Answer.DIGEST and failures >= _DIGEST_TRIES
            if not problem.is_retryable or hopeless or time.monotonic() + pause > deadline:
                raise problem_error(problem, location) from fault
            _log.info("%s: %s; try %d failed", location, problem.sentence, failures)
            # A stop that has come does not make those hurry who tidy up after it.
            time.sleep(pause) if is_cleanup else self._stop.wait(pause)

    def _renews(self, fault: Exception, used: "S3Client") -> bool:
        """Take fresh credentials once the old ones have expired; return whether that may help."""
        # A HEAD has no text that tells an expired token (400) from anything else.
        expired = classify_answer(fault) is S3Answer.EXPIRED or (
            isinstance(fault, ClientError) and fault.operation_name == "HeadObject" and http_status(fault) == 400
        )
        if not expired or self._renew is None:
            return False
        with self._renewing:
            if self._client is used:
                self._client = self._renew()
        return True

    def _in_words(self, fault: Exception, location: str) -> Exception:
        """Return a refusal that says why, for that of a HEAD, which does not: that of a listing of the same name."""
        if not isinstance(fault, ClientError) or fault.operation_name != "HeadObject" or http_status(fault) >= 500:
            return fault
        bucket, _, key = location.removeprefix("s3://").partition("/")
        try:
            self._client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        except StoreFault as error:
            return error
        return fault


def problem_error(problem: S3Problem, location: str) -> StoreError:
    """Return the error that is raised for it."""
    return StoreError(problem.sentence, location, is_temporary=problem.is_temporary)
