"""Do what must not hold up the work of a workflow beside it, so that no error of it is lost."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from temporalio import workflow


class Background:
    """Tasks beside the main coroutine of a workflow, such as signals to other workflows."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def count(self) -> int:
        """How much work goes on."""
        return sum(not task.done() for task in self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin some work; raise what work of before has failed with, which fails the workflow task."""
        self.check()
        self._tasks.append(asyncio.create_task(work))

    def check(self) -> None:
        """Raise what work of before has failed with: an error of ours fails the workflow task, as everywhere."""
        for task in [each for each in self._tasks if each.done()]:
            task.result()
            self._tasks.remove(task)

    async def wait(self) -> None:
        """Return when all work has ended; a cancel of the workflow, which arrives as an exception once, ends none."""
        while self.count:
            with suppress(asyncio.CancelledError):
                await workflow.wait([task for task in self._tasks if not task.done()])
        self.check()
