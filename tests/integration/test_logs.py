"""`longtake logs` against real workers: tries of a chunk, and logs of which the middle is not kept."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.command_line import Cli, command_line
from support.farm import Farm

from longtake import Retry

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def cli(farm: Farm) -> AsyncIterator[Cli]:
    async with command_line(farm) as cli:
        yield cli


async def test_one_try_of_a_chunk(cli: Cli) -> None:
    options = ("--fail-times", "2", "--only", "1")
    job_id = (await cli.farm.run(cli.farm.job(options=options, retry=Retry(attempts=3, initial_seconds=0.01)))).id

    second = await cli("logs", job_id, "--chunk", "1", "--attempt", "2")
    none = await cli("logs", job_id, "--chunk", "1", "--attempt", "9")

    assert second.code == 0
    assert second.out == "try 2 goes wrong\n"
    assert second.err.startswith("==> chunk 1, try 2 (")
    assert (none.code, none.out) == (1, "")
    assert none.err == f"longtake: there is no log of try 9 of chunk 1 of {job_id}; there is one of tries 1 to 2\n"


@pytest.mark.slow
async def test_a_renderer_that_printed_more_than_is_kept(cli: Cli) -> None:
    noise = "import os; [os.write(1, b'%07d\\n' % n * 1024) for n in range(3000)]"
    command = ("python3", "-c", f"{noise}; open('{{output}}', 'w').write('x')")
    job_id = (await cli.farm.run(cli.farm.job(chunks=1, command=command))).id

    ran = await cli("logs", job_id)

    lines = ran.out.split()
    assert ran.code == 0
    assert (lines[0], lines[-1]) == ("0000000", "0002999")
    assert lines == sorted(lines)
    assert "MiB are left out here" in ran.err
    assert 8 * 1024 * 1024 < len(ran.out) < 13 * 1024 * 1024
