"""Calls to a bucket: asked again while that is safe and may help, and failed in one sentence."""

import errno
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import ClientError

from longtake.stores.s3_errors import Answer, StoreFault, Trouble, answer_of, status_of, trouble_of
from longtake.stores.store import StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Result = TypeVar("Result")

_log = logging.getLogger(__name__)

# A body that is damaged on its way more often than this is damaged by something that stays.
_DIGEST_TRIES = 4


@dataclass(frozen=True)
class Patience:
    """How long a store may be away, counted from the first failure of a call.

    Args:
        seconds: Time after which nothing is tried again. Long enough for a restart of MinIO and for the minute that
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


PATIENCE = Patience()

# What is left behind costs a little money and hides nothing; work is not kept waiting for it.
_TIDYING = Patience(seconds=10.0)


class Answered(Exception):
    """The store gave an answer that its caller asked to see.

    Args:
        answer: The answer.
        unsure: Whether an earlier try failed so that it may have been carried out all the same.
    """

    def __init__(self, answer: Answer, *, unsure: bool) -> None:
        super().__init__(answer)
        self.answer = answer
        self.unsure = unsure


class Calls:
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
        patience: Patience = PATIENCE,
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
        sees: Collection[Answer] = frozenset(),
        tidying: bool = False,
    ) -> Result:
        """Return what the store answers.

        Args:
            ask: Asks once; what it asks for must do no harm when it is done twice.
            location: What it is about, for errors.
            sees: Answers that are raised as `Answered`.
            tidying: It takes away what was begun: done after a stop too, and given up soon.

        Raises:
            Answered: It is one of those.
            FileNotFoundError: There is no such file.
            StoreError: The store refuses, or was away for longer than patience lasts.
        """
        patience = _TIDYING if tidying else self._patience
        failures = 0
        deadline = 0.0
        renewed = False
        while True:
            if self._stop.is_set() and not tidying:
                raise failed(Trouble("was interrupted before it was done", passing=True), location)
            client = self._client
            try:
                return ask(client)
            except StoreFault as error:
                fault = error
            answer = answer_of(fault)
            if answer is not None and answer in sees:
                raise Answered(answer, unsure=failures > 0) from fault
            if answer is Answer.MISSING:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location) from None
            if not renewed and self._renews(fault, client):
                renewed = True
                continue
            trouble = trouble_of(self._in_words(fault, location))
            failures += 1
            deadline = deadline or time.monotonic() + patience.seconds
            pause = patience.pause(failures)
            hopeless = answer is Answer.DIGEST and failures >= _DIGEST_TRIES
            if not trouble.again or hopeless or time.monotonic() + pause > deadline:
                raise failed(trouble, location) from fault
            _log.info("%s: %s; try %d failed", location, trouble.sentence, failures)
            # A stop that has come does not make those hurry who tidy up after it.
            time.sleep(pause) if tidying else self._stop.wait(pause)

    def _renews(self, fault: Exception, used: "S3Client") -> bool:
        """Take fresh credentials once the old ones have expired; return whether that may help."""
        # A HEAD has no text that tells an expired token (400) from anything else.
        expired = answer_of(fault) is Answer.EXPIRED or (
            isinstance(fault, ClientError) and fault.operation_name == "HeadObject" and status_of(fault) == 400
        )
        if not expired or self._renew is None:
            return False
        with self._renewing:
            if self._client is used:
                self._client = self._renew()
        return True

    def _in_words(self, fault: Exception, location: str) -> Exception:
        """Return a refusal that says why, for that of a HEAD, which does not: that of a listing of the same name."""
        if not isinstance(fault, ClientError) or fault.operation_name != "HeadObject" or status_of(fault) >= 500:
            return fault
        bucket, _, key = location.removeprefix("s3://").partition("/")
        try:
            self._client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        except StoreFault as error:
            return error
        return fault


def failed(trouble: Trouble, location: str) -> StoreError:
    """Return the error that is raised for it."""
    return StoreError(trouble.sentence, location, passing=trouble.passing)
