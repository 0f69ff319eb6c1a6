"""Store access of attempts: proven outputs wait for a store that is full or away."""

import errno
import os

import pytest

from activities.attempts.store_io import attempt_failure, retry_while_store_is_away
from activities.errors import AttemptError, AttemptLostError

AWAY = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE]


@pytest.mark.parametrize("code", AWAY)
async def test_work_is_repeated_while_the_disk_is_full_or_away_and_says_so(code: int) -> None:
    told: list[str] = []

    def publish() -> str:
        if not told:
            raise OSError(code, os.strerror(code), "/store/film.mp4")
        return "published"

    assert await retry_while_store_is_away(publish, told.append) == "published"
    assert len(told) == 1
    assert told[0].startswith("the store is away, and the finished render waits for it: /store/film.mp4: ")


async def test_a_disk_that_stays_full_ends_the_wait() -> None:
    def publish() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        await retry_while_store_is_away(publish, lambda said: None, longest_seconds=0)


@pytest.mark.parametrize("code", AWAY)
def test_a_try_that_a_full_or_absent_disk_ends_does_not_count(code: int) -> None:
    assert isinstance(attempt_failure(OSError(code, os.strerror(code))), AttemptLostError)


def test_a_try_that_a_missing_permission_ends_counts() -> None:
    assert isinstance(attempt_failure(PermissionError(errno.EACCES, "Permission denied")), AttemptError)
