"""Calling a service for one chunk, and hearing how that ended, whatever became of the connection."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from activities.attempts.remote_host import RemoteHost
from activities.attempts.remote_records import RemoteRecords
from activities.backends.backend import RenderWatcher
from activities.backends.tasks import drop
from activities.errors import AttemptError, AttemptLostError, ThrottledError
from activities.remote.agent_monitor import AgentSigns
from activities.remote.protocol import RemoteCall, RemoteOrder, RemoteResult, sign
from activities.remote.service import Answer, CallLostError, Service
from longtake.models.messages import JobRef


class Calling:
    """One call of a service.

    Args:
        host: What this worker offers.
        service: The service.
        records: What is written down about the chunk.
        call: This call, which has been announced.
    """

    def __init__(self, host: RemoteHost, service: Service, records: RemoteRecords, call: RemoteCall) -> None:
        self._host = host
        self._service = service
        self._records = records
        self.call = call
        # Whether an agent may be at work by this call, as far as anyone knows.
        self.is_open = True
        self.is_sent = False
        self._connection: asyncio.Task[Answer] | None = None

    async def last_word(self, ref: JobRef, chunk: int, watcher: RenderWatcher) -> RemoteResult | None:
        """Send the signed order and return the agent's last word; None when a freeze is ordered.

        Raises:
            AttemptError: The agent is gone without one, or such a call will never be taken.
            AttemptLostError: The service was not reached.
            ThrottledError: It has no room.
        """
        self._connection = asyncio.create_task(self._service.call(self._order(ref, chunk), sending=self._note_sent))
        signs = AgentSigns(self._host, self._records.calls, self.call, watcher)
        result = await signs.last_word(self._connection)
        if result is None and self._connection.done():
            result = await self._answered(self._connection, signs)
        self.is_open = result is None
        return result

    def _note_sent(self) -> None:
        self.is_sent = True

    def hang_up(self) -> None:
        """Close the connection at once; nothing is awaited."""
        if self._connection is not None:
            self._connection.cancel()

    async def end(self) -> None:
        """Return when the connection is closed."""
        if self._connection is not None:
            await drop(self._connection)

    def _order(self, ref: JobRef, chunk: int) -> Mapping[str, Any]:
        seconds = self._service.most_seconds
        order = RemoteOrder(ref=ref, chunk=chunk, attempt=self.call.attempt, seconds=seconds, issued_at=time.time())
        return sign(order, self._host.secret.get_secret_value()).model_dump()

    async def _answered(self, connection: asyncio.Task[Answer], signs: AgentSigns) -> RemoteResult | None:
        """Return the last word of an agent whose call is over: what it answered, or what it leaves in the store."""
        patience = self._host.patience
        try:
            answer = connection.result()
        except (AttemptError, ThrottledError):
            await self.take_back()
            raise
        except CallLostError as error:
            if not error.begun:
                await self.take_back()
                raise AttemptLostError(str(error)) from error
            failure = AttemptError(str(error))
        else:
            try:
                return RemoteResult.model_validate_json(self._service.result_in(answer))
            except AttemptError as error:
                failure = error
            except ValidationError:
                where = self.call.where
                failure = AttemptError(f"{where} gave an answer of another version; use one version on both sides")
            patience = replace(patience, begin_seconds=0, silent_seconds=patience.crashed_seconds)
        worked = signs.called_seconds
        # What has begun may live on although its call is over.
        await self._records.join(self.call)
        result = await signs.last_word(patience=patience)
        if result is None and not signs.must_freeze:
            self.is_open = False
            await self._records.bury(self.call, worked if signs.has_begun else 0.0, str(failure))
            raise failure
        return result

    async def take_back(self) -> None:
        """Forget that anyone was called: nothing was begun, and nothing will be."""
        self.is_open = False
        await self._records.forget(self.call)
