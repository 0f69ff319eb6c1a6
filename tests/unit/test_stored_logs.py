"""Logs in a store: ranges of all that was printed, with gaps, and with secrets masked wherever a range begins."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake import stored_logs
from longtake.attempt_log import Piece
from longtake.stored_logs import LogLines, LogTexts, StoredLog, find_logs
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_records import JobRecords
from longtake.stores.store import StoredFile
from longtake.stores.stored_file import OutsideError

NAME = "000007.ab-chunk-7.1-1.log"
SECRET = b"openjd_redacted_env: KEY=hunter22\nuses hunter22, again hunter22\n"
MASKED = b"openjd_redacted_env: KEY=********\nuses ********, again ********\n"


@pytest.fixture
def records(tmp_path: Path) -> JobRecords:
    return JobRecords(DirectoryStore(tmp_path), "job")


def write(records: JobRecords, parts: dict[int, bytes], name: str = NAME) -> StoredLog:
    for offset, data in parts.items():
        records.store.replace(f"{records.logs_dir}/{name}{f'.{offset}' if offset else ''}", data)
    return next(log for log in find_logs(records) if log.name == name)


def test_a_range_begins_where_something_is_kept_and_ends_before_a_gap(records: JobRecords) -> None:
    log = write(records, {0: b"0123456789", 10: b"abc", 900: b"xyz"})
    texts = LogTexts()

    assert log.size_bytes == 903
    assert texts.read(records, log, 8, 100) == Piece(8, b"89abc")
    assert texts.read(records, log, 8, 3) == Piece(8, b"89a")
    assert texts.read(records, log, 13, 2) == Piece(900, b"xy")
    assert texts.read(records, log, 13, 100, stop=800) == Piece(13, b""), "nothing of that range is kept"
    assert texts.read(records, log, 903) == Piece(903, b"")


def test_a_file_that_is_gone_is_a_gap(records: JobRecords) -> None:
    log = write(records, {0: b"0123456789", 10: b"abc", 13: b"xyz"})
    records.store.remove(f"{records.logs_dir}/{NAME}.10")

    assert LogTexts().read(records, log, 10, 100) == Piece(13, b"xyz")


@given(start=st.integers(0, len(SECRET)), most=st.integers(1, len(SECRET)), cut=st.integers(1, len(SECRET) - 1))
def test_a_secret_is_masked_in_every_range_and_no_byte_is_moved(start: int, most: int, cut: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_logs, "_PIECE_BYTES", 7)
        records = JobRecords(_Files({f"{NAME}": SECRET[:cut], f"{NAME}.{cut}": SECRET[cut:]}), "job")  # type: ignore[arg-type]
        (log,) = find_logs(records)
        piece = LogTexts().read(records, log, start, most)

    assert piece == Piece(start, MASKED[start : start + most])


class _Files:
    """A bucket that holds the files of one log."""

    url, is_local, parallel = "s3://b/p", False, 1

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def locate(self, path: str) -> str:
        return f"{self.url}/{path}"

    def files(self, folder: str) -> list[StoredFile]:
        return [StoredFile(f"{folder}/{name}", len(data), 1) for name, data in self._files.items()]

    def read_part(self, location: str, start: int, stop: int) -> bytes:
        return self._files[location.rpartition("/")[2]][start:stop]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"openjd_redacted_env: PIN=12", b"openjd_redacted_env: PIN=**"),
        (b'openjd_redacted_env: "KEY=a\\nhunter22"', b'openjd_redacted_env: "KEY=************'),
        (b"openjd_redacted_env: hunter22", b"openjd_redacted_env: ********"),
        (b"12 %\ropenjd_redacted_env: KEY=hunter22\r", b"12 %\ropenjd_redacted_env: KEY=********\r"),
    ],
    ids=["too short to be masked elsewhere", "as JSON", "without a name", "drawn over a bar"],
)
def test_what_is_declared_is_masked_where_it_is_declared(records: JobRecords, line: bytes, shown: bytes) -> None:
    log = write(records, {0: line + b"\nall is well\n"})

    assert LogTexts().read(records, log, 0).data == shown + b"\nall is well\n"


def test_a_secret_is_masked_before_it_is_declared_and_in_other_colours(records: JobRecords) -> None:
    log = write(records, {0: b"uses hunter22\n" + SECRET + b"hun\x1b[31mter22\n"})
    (_, lines), *rest = LogLines(LogTexts(), records).read_new(log, final=True)

    assert not rest
    assert (lines[0], lines[-1]) == ("uses ********", "********")


def test_what_a_log_declares_as_it_grows_is_known_to_those_who_come_again(records: JobRecords) -> None:
    texts = LogTexts()
    log = write(records, {0: b"begins with hunter22\n"})
    assert texts.read(records, log, 0).data == b"begins with hunter22\n"
    log = write(records, {21: SECRET})

    assert texts.read(records, log, 0).data == b"begins with ********\n" + MASKED


def test_a_log_that_is_a_link_is_not_read(records: JobRecords, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("of somebody else")
    log = write(records, {0: b"fine"})
    path = Path(records.logs_dir, NAME)
    path.unlink()
    path.symlink_to(tmp_path / "own")

    with pytest.raises(OutsideError):
        LogTexts().read(records, log, 0)
