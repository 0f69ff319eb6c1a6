"""Define the errors of Longtake, whose types callers and workflows compare by name."""

from enum import StrEnum


class LongtakeError(Exception):
    """Base of all errors of Longtake; the text is one sentence for a person, with the fix in it."""


class BadJobError(LongtakeError, ValueError):
    """Raised for a job, a job file or an id that cannot be accepted; nothing was started."""


class NoSuchJobError(LongtakeError):
    """Raised when no job has the id."""


class JobExistsError(LongtakeError):
    """Raised when a different job has the id, or the job was started again meanwhile."""


class JobEndedError(LongtakeError):
    """Raised for a request to a job that has ended."""


class NotReachableError(LongtakeError):
    """Raised when Temporal, or a worker that must answer, cannot be reached."""


class JobNotEndedError(LongtakeError):
    """Raised for a request that needs an ended job, such as a deletion."""


class UndecodedPayloadError(LongtakeError):
    """Raised for a value of a job that another codec or another key has written; the text names the setting."""


class StoreUnusableError(LongtakeError):
    """Raised when the store of a job cannot be used from this host, or not now."""


class JobFailedError(LongtakeError):
    """Raised for the result of a job that failed."""


class JobCancelledError(LongtakeError):
    """Raised for the result of a job that was cancelled."""


class ErrorType(StrEnum):
    """Values of `ApplicationError.type` on the wire; workflows and clients compare errors by them alone."""

    # Never retried: the same input gives the same answer.
    BAD_JOB = "BadJob"
    # Never retried by Temporal: the activity has used up the attempts that the job allows.
    CHUNK_FAILED = "ChunkFailed"
    # Retried: one attempt of a chunk went wrong, and attempts are left.
    ATTEMPT_FAILED = "AttemptFailed"
    # Never retried: the files of a chunk are not what was published, and joining again changes nothing.
    STITCH_REFUSED = "StitchRefused"
    # Never retried: the outputs are sound and not what the job needs, and only another job file mends that.
    NEEDS_CHANGE = "NeedsChange"
    # Retried at once and not counted as a try: the chunk failed on this host before, and there are other hosts.
    ANOTHER_HOST = "AnotherHost"
    # Retried and not counted: the worker lost Temporal, or the process that kept the render was killed.
    ATTEMPT_LOST = "AttemptLost"
    # Retried and not counted: a service that renders is busy.
    THROTTLED = "Throttled"
    # Retried for ever: another worker may see the job's folder.
    STORE_NOT_SHARED = "StoreNotShared"
    # Retried until the job has come to rest: a worker's slot is not kept while chunks render on.
    STILL_RENDERING = "StillRendering"
    # Retried a few times: an error that no code expects.
    UNEXPECTED = "Unexpected"
    # Retried for a day: the receiver of a notification is away, or has answered that it did not take it.
    NOT_DELIVERED = "NotDelivered"
    # Never retried: the settings of this farm do not allow the receiver of a notification, or it wants none.
    NOT_ALLOWED = "NotAllowed"
    # The job ended with chunks missing.
    JOB_FAILED = "JobFailed"
