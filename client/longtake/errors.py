"""Define the errors of Longtake, whose types callers and workflows compare by name."""

from enum import StrEnum


class LongtakeError(Exception):
    """An error whose text is one sentence for a person, with the fix in it."""


class BadJobError(LongtakeError, ValueError):
    """A job, a job file or an id that cannot be accepted; nothing was started."""


class NoSuchJobError(LongtakeError):
    """No job has this id."""


class JobExistsError(LongtakeError):
    """The id is taken by a different job."""


class JobEndedError(LongtakeError):
    """The job has ended, so that the request has nothing to act on."""


class NotReachableError(LongtakeError):
    """Temporal, or a worker that must answer, cannot be reached."""


class JobNotEndedError(LongtakeError):
    """The job has not ended, and what was asked for is for jobs that have."""


class StoreUnusableError(LongtakeError):
    """The store of a job cannot be used from this host, or not now."""


class JobFailedError(LongtakeError):
    """The job whose result was awaited has failed."""


class JobCancelledError(LongtakeError):
    """The job whose result was awaited was cancelled."""


class ErrorType(StrEnum):
    """`ApplicationError.type` values on the wire: the only thing workflows and clients compare."""

    # Never retried: the same input gives the same answer.
    BAD_JOB = "BadJob"
    # Never retried by Temporal: the activity has used up the attempts that the job allows.
    CHUNK_FAILED = "ChunkFailed"
    # Retried: one attempt of a chunk went wrong, and attempts are left.
    ATTEMPT_FAILED = "AttemptFailed"
    # Never retried: the files of a chunk are not what was published, and joining again changes nothing.
    STITCH_REFUSED = "StitchRefused"
    # Retried at once and not counted as a try: the chunk failed on this host before, and others are there.
    ANOTHER_HOST = "AnotherHost"
    # Retried and not counted: the worker lost Temporal, or the process that kept the render was killed.
    ATTEMPT_LOST = "AttemptLost"
    # Retried and not counted: a service that renders has no room or answers that it is busy.
    THROTTLED = "Throttled"
    # Retried for ever: another worker may see the job's folder.
    STORE_NOT_SHARED = "StoreNotShared"
    # Retried a few times: an error that no code expects.
    UNEXPECTED = "Unexpected"
    # The job ended with chunks missing.
    JOB_FAILED = "JobFailed"
