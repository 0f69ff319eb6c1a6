"""Retry calls to a bucket while that is safe and may help, and turn failures into one sentence each."""

import errno
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
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

from longtake.concurrency import current_work
from longtake.stores.store import StoreError
from longtake.text import escape_text

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


# Errors of a call that the service, or the network to it, is to blame for.
StoreFault = (BotoCoreError, ClientError, HTTPError)


class S3Answer(StrEnum):
    """Answers of the service that callers of `S3Retrier.call` may handle themselves."""

    MISSING = "missing"
    # `If-None-Match: *` found an object, or `If-Match` found another one.
    PRECONDITION = "precondition"
    # Two conditional writes of one name at the same time: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    CONFLICT = "conflict"
    NO_UPLOAD = "no upload"
    # The object has no byte of the range: it is empty.
    RANGE = "range"
    # The service received other bytes than were sent.
    DIGEST = "digest"
    EXPIRED = "expired"


@dataclass(frozen=True)
class S3Problem:
    """Describe a failed call and say whether to repeat the call.

    Args:
        sentence: What happened and the fix.
        is_temporary: Whether the same call may work later; see `StoreError`.
        is_retryable: Whether `S3Retrier` repeats the call itself, after a pause.
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

# Codes of a busy or slow service, besides all answers with a status from 500 up.
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

# Permissions that calls need, where the permission is not named like the call.
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
    """Return the answer in an error; None if the service did not answer, or only a person can fix the cause."""
    return _ANSWERS.get(error_code(error)) if isinstance(error, ClientError) else None


def error_code(error: ClientError) -> str:
    """Return the code of an error, such as `NoSuchKey`; for a HEAD, whose answer has no text, the HTTP status."""
    return str(error.response.get("Error", {}).get("Code") or http_status(error))


def describe_problem(error: Exception) -> S3Problem:
    """Return the problem behind an error that a call raised."""
    if isinstance(error, ClientError):
        message = str(error.response.get("Error", {}).get("Message") or "no reason given")
        return describe_refusal(error.operation_name, error_code(error), message, http_status(error))
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return S3Problem(f"this host has no AWS credentials for the store; {_CREDENTIALS}")
    if isinstance(error, ParamValidationError):
        return S3Problem("the store cannot be asked for this name; shorten or simplify it")
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return S3Problem("this host does not trust the store's certificate; name its authority's file in AWS_CA_BUNDLE")
    # The name of the error alone is shown: its text may quote the URL, which may hold a password.
    return S3Problem(
        f"the store does not answer ({type(error).__name__}); it is tried again later, and AWS_ENDPOINT_URL_S3 says "
        "where it is, if it is not AWS's",
        is_temporary=True,
        is_retryable=True,
    )


def describe_full_disk(error: OSError, folder: object) -> S3Problem | None:
    """Return the problem of a full local disk; None for any other error."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return S3Problem(f"the disk of this host is full: {folder} has no room for it; free some", is_temporary=True)


def describe_refusal(operation: str, code: str, message: str = "no reason given", status: int = 0) -> S3Problem:
    """Return the problem behind a refusal of the service.

    Args:
        operation: Name of the call, such as `PutObject`.
        code: Code of the error, such as `AccessDenied`.
        message: Text of the error.
        status: HTTP status, if known.
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
    """Return the HTTP status of an error; 0 if the error has none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


Result = TypeVar("Result")

_log = logging.getLogger(__name__)

# A body that arrives damaged more often than this is damaged by a permanent fault.
_DIGEST_TRIES = 4


@dataclass(frozen=True)
class RetryPolicy:
    """Say how long a call is retried while the store is away, from the first failure of the call on.

    Args:
        seconds: Time after the first failure in which the call is retried. Long enough for a restart of a server and
            for the minute that S3 may take to split a busy prefix, short enough for an activity's attempt.
        first_seconds: Pause after the first failure; each later pause is twice as long.
        most_seconds: Longest pause.
    """

    seconds: float = 75.0
    first_seconds: float = 0.1
    most_seconds: float = 10.0

    def pause(self, failures: int) -> float:
        """Return the pause after this many failures, in seconds, with jitter against retries at the same moment."""
        longest: float = min(self.most_seconds, self.first_seconds * 2.0 ** min(failures - 1, 30))
        return longest * random.uniform(0.5, 1.0)


RETRY_POLICY = RetryPolicy()

# Cleanup is given up soon: what stays behind costs a little money and does no harm, and work waits for the cleanup.
_CLEANUP_POLICY = RetryPolicy(seconds=10.0)


class ExpectedAnswer(Exception):
    """Carry an answer that the caller of `S3Retrier.call` handles itself.

    Args:
        answer: The answer.
        may_be_done: Whether an earlier try failed, which the service may have carried out all the same.
    """

    def __init__(self, answer: S3Answer, *, may_be_done: bool) -> None:
        super().__init__(answer)
        self.answer = answer
        self.may_be_done = may_be_done


class S3Retrier:
    """Send calls to a service and retry those that failed; safe to use from many threads.

    Args:
        client: Client without retries of its own.
        renew: Makes a client with fresh credentials; None if credentials cannot be renewed.
        patience: How long calls are retried.
        stop: Event that makes all further calls fail, except those that clean up.
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
        """Send a call, retry it as long as that may help, and return the result.

        Args:
            ask: Sends the call once; must do no harm when the service carries it out twice.
            location: Location that the call is about, for errors.
            expected: Answers that are raised as `ExpectedAnswer`.
            is_cleanup: Whether the call removes leftovers: sent after a stop too, and given up soon.

        Raises:
            ExpectedAnswer: The service gave one of the expected answers.
            FileNotFoundError: There is no such object.
            StoreError: The service refused the call, or was away for longer than the policy allows.
        """
        patience = _CLEANUP_POLICY if is_cleanup else self._patience
        failures = 0
        deadline = 0.0
        renewed = False
        while True:
            work = current_work()
            is_stopped = self._stop.is_set() or (work is not None and work.is_stopped)
            if is_stopped and not is_cleanup:
                raise problem_error(S3Problem("was interrupted before it was done", is_temporary=True), location)
            client = self._client
            try:
                with work.time_call() if work is not None else nullcontext():
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
            problem = describe_problem(self._with_text(fault, location))
            failures += 1
            deadline = deadline or time.monotonic() + patience.seconds
            pause = patience.pause(failures)
            hopeless = answer is S3Answer.DIGEST and failures >= _DIGEST_TRIES
            if not problem.is_retryable or hopeless or time.monotonic() + pause > deadline:
                raise problem_error(problem, location) from fault
            _log.info("%s: %s; try %d failed", location, problem.sentence, failures)
            # Cleanup runs after a stop, so that waiting for the stop would be no pause at all.
            time.sleep(pause) if is_cleanup else self._stop.wait(pause)

    def _renews(self, fault: Exception, used: "S3Client") -> bool:
        """Renew credentials that have expired; return whether the call may work now."""
        # The answer to a HEAD has no text: an expired token is a mere 400 there.
        expired = classify_answer(fault) is S3Answer.EXPIRED or (
            isinstance(fault, ClientError) and fault.operation_name == "HeadObject" and http_status(fault) == 400
        )
        if not expired or self._renew is None:
            return False
        with self._renewing:
            if self._client is used:
                self._client = self._renew()
        return True

    def _with_text(self, fault: Exception, location: str) -> Exception:
        """Return an error with a text for the refusal of a HEAD, which has none, by listing the same name."""
        if not isinstance(fault, ClientError) or fault.operation_name != "HeadObject" or http_status(fault) >= 500:
            return fault
        bucket, _, key = location.removeprefix("s3://").partition("/")
        try:
            self._client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        except StoreFault as error:
            return error
        return fault


def problem_error(problem: S3Problem, location: str) -> StoreError:
    """Return the error that is raised for a problem."""
    return StoreError(problem.sentence, location, is_temporary=problem.is_temporary)
