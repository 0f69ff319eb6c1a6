"""The render agent: takes orders of workers, and carries each out once."""

import logging
import os
from functools import partial

from activities.attempts.host import Host, attempt_tag
from activities.attempts.store_patience import failure_of_files
from activities.remote.call_records import RemoteCalls
from activities.remote.protocol import RemoteOrder, RemoteResult
from activities.stores.job_folder import OpenJob, chunk_key
from agent.call import Aside
from agent.render_call import RenderCall
from agent.settings import AgentSettings
from longtake.chunks import Chunk
from longtake.concurrency import in_thread
from remote.admission import Admission
from remote.call import Call
from remote.instance import count_tagged, memory_mb
from remote.last_word import LastWord
from remote.refusals import BegunBeforeError

_log = logging.getLogger(__name__)

# For the last word, where the deadline leaves less or nothing.
_LEAST_SECONDS = 2.0
# A store that does not take it within this time leaves the answer of the call.
_MOST_SECONDS = 8.0


class RenderAgent:
    """Renders chunks for workers elsewhere, with processes of this instance.

    Args:
        settings: What it may do.
        host: What it offers to attempts.
    """

    def __init__(self, settings: AgentSettings, host: Host) -> None:
        self._settings = settings
        self._host = host
        self._admission = Admission(settings)
        self._memory_mb = memory_mb(os.environ)

    async def render(self, order: RemoteOrder, call: Call) -> RemoteResult:
        """Carry out a verified order, and return the last word on it, which lies in the store as well.

        Nothing of it runs any more then: told to stop, at its deadline, when it is orphaned or when the instance
        goes down it ends its processes first, keeps finished frames and hands in its log.

        Raises:
            RefusedOrderError: It leads elsewhere, or was begun before; nothing was written, and nothing ran.
        """
        try:
            job, chunk = await in_thread(partial(self._admission.open, order))
            calls = RemoteCalls(job.folder, chunk_key(chunk.index))
            begun = await in_thread(partial(calls.begin, order.attempt))
        except OSError as error:
            return self._result(order, call, LastWord.of_failure(failure_of_files(error)))
        if not begun:
            raise BegunBeforeError(f"the attempt {order.attempt} was begun before")
        _log.info("job %s: chunk %d is begun as %s", order.ref.id, order.chunk, order.attempt)
        async with Aside() as aside:
            word = await self._carry_out(order, job, chunk, calls, call, aside)
            tag = attempt_tag(job, chunk=str(chunk.index), attempt=order.attempt)
            result = self._result(order, call, word, survivors=await in_thread(partial(count_tagged, tag)))
            seconds = min(max(call.left_seconds / 2, _LEAST_SECONDS), _MOST_SECONDS)
            await aside.try_within(seconds, partial(calls.finish, result))
        _log.info("job %s: chunk %d: %s %s", order.ref.id, order.chunk, result.outcome, result.error)
        return result

    async def _carry_out(
        self, order: RemoteOrder, job: OpenJob, chunk: Chunk, calls: RemoteCalls, call: Call, aside: Aside
    ) -> LastWord:
        try:
            rendering = RenderCall(self._settings, self._host, job, chunk, calls, order.attempt, call, order.seconds)
            return await rendering.carry_out(aside)
        except OSError as error:
            return LastWord.of_failure(failure_of_files(error))
        except Exception as error:
            # The boundary of the agent: whatever broke, a worker waits for a word.
            _log.exception("job %s: chunk %d broke the agent", order.ref.id, order.chunk)
            said = f"the agent failed at this chunk ({type(error).__name__}); its own log says more"
            return LastWord.of_failure(RuntimeError(said))

    def _result(self, order: RemoteOrder, call: Call, word: LastWord, *, survivors: int = 0) -> RemoteResult:
        return RemoteResult(
            attempt=order.attempt,
            outcome=word.outcome,
            error=word.error,
            fatal=word.fatal,
            wait_seconds=word.wait_seconds,
            another_host=word.another_host,
            host=self._settings.host,
            frames_done=word.frames_done,
            billed_seconds=round(call.elapsed_seconds, 3),
            memory_mb=self._memory_mb,
            survivors=survivors,
        )
