"""Store access of attempts: proven outputs wait for a store that is away, and a failed try says which side failed."""

import errno
import os
from pathlib import Path

import pytest

from activities.attempts.store_io import check_room, explain_failure, retry_while_store_is_away
from activities.errors import AttemptError, AttemptLostError
from activities.stores.job_folder import JobFolder
from longtake.stores.directory import DirectoryStore
from longtake.stores.store import StoreError

# Of a disk or share that is full or away.
AWAY = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE]

FAILED = AttemptError("render exited with code 1")


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    """The folder of a job whose record this process has read."""
    folder = JobFolder(DirectoryStore(tmp_path / "store"), "job")
    folder.store.create(folder.job_file, b"{}")
    folder.remember_store()
    return folder


@pytest.fixture
def place(folder: JobFolder) -> Path:
    """Where an attempt was, whose folder is removed."""
    return Path(folder.attempt_dir("000000", "a"))


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


async def test_a_file_that_cannot_be_read_is_no_store_to_wait_for() -> None:
    def publish() -> None:
        raise OSError(errno.EIO, "Input/output error", "/scratch/f.png")

    with pytest.raises(OSError, match="Input/output error"):
        await retry_while_store_is_away(publish, lambda said: pytest.fail(said))


async def test_errors_of_a_call_of_the_store_are_waited_out() -> None:
    told: list[str] = []

    def publish() -> str:
        if not told:
            raise StoreError("its disk or share reports errors (EIO)", "/store/f.png", is_temporary=True)
        return "published"

    assert await retry_while_store_is_away(publish, told.append) == "published"


@pytest.mark.parametrize("code", AWAY)
async def test_a_try_that_a_full_or_absent_disk_ends_does_not_count(folder: JobFolder, place: Path, code: int) -> None:
    failure = await explain_failure(OSError(code, os.strerror(code)), folder, place)

    assert isinstance(failure, AttemptLostError)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
async def test_a_try_that_its_own_file_ends_counts_where_the_store_is_sound(
    folder: JobFolder, place: Path, code: int
) -> None:
    failure = await explain_failure(OSError(code, os.strerror(code), f"{place}/f.png"), folder, place)

    assert isinstance(failure, AttemptError)
    assert f"{failure}" == f"{place}/f.png: {os.strerror(code)}"


@pytest.mark.parametrize("error", [FAILED, OSError(errno.EIO, "Input/output error", "f.png")], ids=["exit", "EIO"])
async def test_whatever_ends_a_try_does_not_count_where_the_store_is_away(
    folder: JobFolder, place: Path, error: AttemptError | OSError
) -> None:
    folder.store.remove(folder.job_file)

    failure = await explain_failure(error, folder, place)

    assert isinstance(failure, AttemptLostError)
    assert "the store is not there any more" in str(failure)


async def test_a_try_that_fails_beside_a_sound_store_counts(folder: JobFolder, place: Path) -> None:
    assert await explain_failure(FAILED, folder, place) is FAILED


def test_a_look_for_room_leaves_nothing(tmp_path: Path) -> None:
    check_room(tmp_path / "gone" / "too")

    assert not list(tmp_path.iterdir())
