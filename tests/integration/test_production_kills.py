"""Whatever part of the farm is killed, its jobs complete and render nothing twice that was finished."""

import pytest
from support.kills.production_kills import VICTIMS, ProductionKills
from support.servers.production import production_farm

# The first run builds servers.
pytestmark = [pytest.mark.integration, pytest.mark.farm, pytest.mark.timeout(900)]


async def test_forty_chunks_are_completed_whatever_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    async with production_farm() as production:
        mishaps = await ProductionKills.on(production, chunks=40)
        status = await mishaps.run(VICTIMS)
        mishaps.check(status)
        report = mishaps.report()
    with capsys.disabled():
        print(f"\nmake production, 40 chunks in the bucket, {report}", end="")
