"""`longtake logs` of jobs in a bucket: whole, by chunk and try, and while they grow."""

import sys
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from support.command_line import Cli, command_line, until_exit, until_line
from support.farm import Farm, until

from longtake import Retry
from longtake.cli.logs import LogReader
from longtake.stores.job_records import JobRecords
from longtake.stores.store import Store, StoredFile

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def cli(cloud: Farm) -> AsyncIterator[Cli]:
    async with command_line(cloud) as cli:
        yield cli


async def test_all_tries_and_one_of_them(cli: Cli, bucket: str) -> None:
    options = ("--fail-times", "1", "--only", "1", "--say", "hello")
    retry = Retry(attempts=2, initial_seconds=0.01)
    job = cli.farm.job(chunks=2, options=options, retry=retry, store=bucket, base_dir=None)
    job_id = (await cli.farm.run(job)).id

    whole = await cli("logs", job_id)
    first = await cli("logs", job_id, "--chunk", "1", "--attempt", "1")
    none = await cli("logs", job_id, "--chunk", "7")

    assert whole.code == 0, whole.err
    assert whole.out == "hello\nhello\ntry 1 goes wrong\nhello\n"
    assert [line.split(" (")[0] for line in whole.err.splitlines()] == [
        "==> chunk 0, try 1", "==> chunk 1, try 1", "==> chunk 1, try 2"
    ]  # fmt: skip
    assert (first.code, first.out) == (0, "hello\ntry 1 goes wrong\n")
    assert (none.code, none.out) == (1, "")
    assert "there is no log of chunk 7" in none.err


@pytest.mark.slow
async def test_a_log_is_followed_while_it_grows(cli: Cli, bucket: str) -> None:
    program = (
        "import os, sys, time; print('begun', flush=True); end = time.monotonic() + 100\n"
        "while not os.path.exists(sys.argv[2]) and time.monotonic() < end: time.sleep(0.01)\n"
        "print('done', flush=True); open(sys.argv[1], 'w').write('x')"
    )
    command = (sys.executable, "-c", program, "{output}", str(cli.farm.gate))
    job = await cli.farm.submit(cli.farm.job(chunks=1, command=command, store=bucket, base_dir=None))
    await until(job, lambda status: status.running_chunks == 1)
    following = await cli.start("logs", job.id, "--follow")
    await until_line(following, "==> chunk 0, try 1")
    assert following.stdout is not None
    seen = (await following.stdout.readline()).decode()
    cli.farm.open_gate()
    ran = await until_exit(following)

    assert seen == "begun\n"
    assert (ran.code, ran.out) == (0, "done\n"), ran.err


@pytest.mark.slow
async def test_a_renderer_that_printed_more_than_is_kept(cli: Cli, bucket: str) -> None:
    noise = "import os; [os.write(1, b'%07d\\n' % n * 1024) for n in range(3000)]"
    command = ("python3", "-c", f"{noise}; open('{{output}}', 'w').write('x')")
    job_id = (await cli.farm.run(cli.farm.job(chunks=1, command=command, store=bucket, base_dir=None))).id

    ran = await cli("logs", job_id)

    lines = ran.out.split()
    assert ran.code == 0
    assert (lines[0], lines[-1]) == ("0000000", "0002999")
    assert lines == sorted(lines)
    assert "MiB are left out here" in ran.err


class Counted:
    """The bucket, with what is read of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.url, self.is_local = store.url, False
        self.read: list[tuple[str, int, int]] = []

    def files(self, folder: str) -> Iterator[StoredFile]:
        return self._store.files(folder)

    def locate(self, path: str) -> str:
        return self._store.locate(path)

    def read_part(self, location: str, start: int, stop: int) -> bytes:
        self.read.append((location.rpartition("/")[2], start, stop))
        return self._store.read_part(location, start, stop)


def test_of_a_log_that_grows_only_what_is_new_is_read(films: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store = Counted(films)
    records = JobRecords(store, "job")  # type: ignore[arg-type]
    folder = records.logs_dir
    for name, text in {"000000.a.log": "other\n", "000001.b.log": "one\ntwo\n", "notes.txt": "no"}.items():
        films.replace(f"{folder}/{name}", text.encode())
    reader = LogReader(records, chunk=1)
    reader.print_new()
    films.replace(f"{folder}/000001.b.log", b"one\ntwo\nthree\n")
    films.replace(f"{folder}/000001.b.log.14", b"last\n")
    reader.print_new()
    reader.print_new(final=True)

    assert store.read == [("000001.b.log", 0, 8), ("000001.b.log", 8, 14), ("000001.b.log.14", 0, 5)]
    assert capsys.readouterr().out == "one\ntwo\nthree\nlast\n"
