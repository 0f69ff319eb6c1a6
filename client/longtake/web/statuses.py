"""Share what one process reads of jobs among all who ask: one call for many readers, one poller for many watchers."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from longtake.errors import NoSuchJobError
from longtake.models.status import JobStatus
from longtake.web.single_flight import SharedRead

# What was read a moment ago is good enough for the next who asks, and saves Temporal some 3 ms each.
FRESH_SECONDS = 0.5

# Jobs of which a status is kept.
_MOST_KEPT = 2000


@dataclass(frozen=True)
class KnownStatus:
    """Status of a job as it was read, with its JSON.

    Args:
        status: The status.
        body: Its JSON.
        version: Digest of all in it that tells news: the same in each process that reads the same.
    """

    status: JobStatus
    body: bytes
    version: str


def know(status: JobStatus) -> KnownStatus:
    """Return a status with its JSON and version."""
    body = status.model_dump_json().encode()
    # The time of the last look is no news.
    told = status.model_copy(update={"progress_at": None}).model_dump_json().encode()
    return KnownStatus(status, body, hashlib.sha256(told).hexdigest()[:16])


class SharedStatuses:
    """Read statuses of jobs, each once for all who ask within half a second, and watch each job once for all watchers.

    Args:
        read: Reads the status of a job.
        fresh_seconds: How old a status may be that is given out again, and how often a watched job is read.
    """

    def __init__(self, read: Callable[[str], Awaitable[JobStatus]], *, fresh_seconds: float = FRESH_SECONDS) -> None:
        self._read = read
        self._fresh_seconds = fresh_seconds
        self._known: OrderedDict[str, SharedRead[KnownStatus]] = OrderedDict()
        self._pollers: dict[str, _Poller] = {}

    async def read(self, job_id: str) -> KnownStatus:
        """Return the status of a job, at most half a second old.

        Raises:
            NoSuchJobError: There is no such job.
            NotReachableError: Temporal does not answer.
        """
        known = self._known.get(job_id)
        if known is None:
            known = self._known[job_id] = SharedRead(lambda: self._read_now(job_id), fresh_seconds=self._fresh_seconds)
            if len(self._known) > _MOST_KEPT:
                self._known.popitem(last=False)
        return await known.get()

    async def read_anew(self, job_id: str) -> KnownStatus:
        """Return the status of a job as it is now, after a request has changed it."""
        self.forget(job_id)
        return await self.read(job_id)

    def forget(self, job_id: str) -> None:
        """Let the next who asks for a job read it anew."""
        if job_id in self._known:
            self._known[job_id].forget()

    async def _read_now(self, job_id: str) -> KnownStatus:
        return know(await self._read(job_id))

    async def watch(self, job_id: str, *, since: str | None = None) -> AsyncIterator[KnownStatus | Exception]:
        """Yield the status of a job and each that differs from the one before, until the job has ended.

        One who is slow gets the newest status and not all between. What cannot be read is yielded as its error, once;
        the watch goes on, but for a job that is gone.

        Args:
            job_id: The job.
            since: Version that is known already.
        """
        poller = self._pollers.get(job_id)
        if poller is None:
            poller = self._pollers[job_id] = _Poller(lambda: self.read(job_id), self._fresh_seconds)
        poller.watchers += 1
        try:
            told: KnownStatus | Exception | None = None
            while True:
                news = await poller.next(told)
                told = news
                if isinstance(news, Exception):
                    yield news
                    if isinstance(news, NoSuchJobError):
                        return
                    continue
                if news.version != since:
                    since = news.version
                    yield news
                if news.status.state.has_ended:
                    return
        finally:
            poller.watchers -= 1
            if poller.watchers == 0:
                poller.stop()
                if self._pollers.get(job_id) is poller:
                    del self._pollers[job_id]

    @property
    def watched(self) -> int:
        """Number of jobs that are watched now."""
        return len(self._pollers)


class _Poller:
    """Read one job again and again for all its watchers."""

    def __init__(self, read: Callable[[], Awaitable[KnownStatus]], interval_seconds: float) -> None:
        self._read = read
        self._interval_seconds = interval_seconds
        self._latest: KnownStatus | Exception | None = None
        self._changed = asyncio.Event()
        self._task = asyncio.ensure_future(self._run())
        self.watchers = 0

    async def next(self, told: KnownStatus | Exception | None) -> KnownStatus | Exception:
        """Return the newest that was read once it is other than what was told."""
        while self._latest is None or self._latest is told:
            await self._changed.wait()
        return self._latest

    def stop(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            try:
                news: KnownStatus | Exception = await self._read()
            except Exception as error:
                news = error
            if _is_news(self._latest, news):
                self._latest = news
                # Those who wait for this change hold this event; the next change has another.
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
            if isinstance(news, KnownStatus) and news.status.state.has_ended:
                return
            await asyncio.sleep(self._interval_seconds)


def _is_news(before: KnownStatus | Exception | None, now: KnownStatus | Exception) -> bool:
    if isinstance(before, KnownStatus) and isinstance(now, KnownStatus):
        return before.version != now.version
    return type(before) is not type(now) or str(before) != str(now)
