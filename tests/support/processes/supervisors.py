"""A supervisor for the tests of a module, whose renders all carry one tag."""

from collections.abc import AsyncIterator
from typing import Any

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
