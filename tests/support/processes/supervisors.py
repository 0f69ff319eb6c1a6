"""Supervisors for tests: one for those of a module, whose renders all carry one tag, and what a host may lack."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.processes.process_table import survivors

from activities.processes.supervisor import Supervisor


def supervisor_fixture(tag: dict[str, str]) -> Any:
    """Return a fixture: a supervisor, of whose renders no process is left when a test has ended."""

    @pytest_asyncio.fixture
    async def supervisor() -> AsyncIterator[Supervisor]:
        async with Supervisor() as supervisor:
            yield supervisor
        assert survivors(tag) == []

    return supervisor


def require_control_groups(supervisor: Supervisor) -> Path:
    """Return where a supervisor makes cgroups: the path that their names begin with. Skip the test without any."""
    if supervisor.group_prefix is None:
        pytest.skip("this host lets nobody make cgroups")
    return Path(supervisor.group_prefix)
