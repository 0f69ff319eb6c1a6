"""Fetch or delete what a job has published: `StoredJob`."""

import os
import threading
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from longtake.concurrency import run_in_thread
from longtake.errors import BadJobError, JobNotEndedError, LongtakeError, NoSuchJobError
from longtake.jobfile.loader import read_job
from longtake.models.job import RenderJobSpec
from longtake.models.status import JobStatus
from longtake.stores.factory import is_bucket
from longtake.transfer.delete import Deleted, delete_job
from longtake.transfer.fetch import Fetched, fetch_job
from longtake.transfer.progress import OnProgress


class Job(Protocol):
    """What is needed of a job's handle."""

    id: str

    async def status(self) -> JobStatus:
        """Return where it stands."""
        ...

    async def document(self) -> dict[str, Any]:
        """Return it as it was submitted."""
        ...


class StoredJob:
    """The files of one job.

    Args:
        job: The job.
        store: Its store, for a job that Temporal has forgotten: a folder, or `s3://bucket/prefix`.
    """

    def __init__(self, job: Job, store: str | None = None) -> None:
        self._job = job
        self._given = store.rstrip("/") if store and is_bucket(store) else store and os.path.abspath(store)

    async def fetch(
        self,
        into: str | Path,
        *,
        film_only: bool = False,
        logs: bool = True,
        force: bool = False,
        on_progress: OnProgress = lambda _: None,
    ) -> Fetched:
        """Bring film, frames, chunk files and logs into a folder, as `longtake fetch` does.

        Raises:
            NoSuchJobError: There is no such job.
            BadJobError: Other files stand in the way, or the folder cannot be written; nothing was fetched.
            StoreUnusableError: The store cannot be read from here.
            LongtakeError: There is nothing to fetch.
        """
        status = await self._status()
        url = visible(self._url(status), self._job.id)
        job = await self._submitted() if status else None
        stop = threading.Event()
        fetch = partial(
            fetch_job,
            url,
            self._job.id,
            Path(into),
            job=job,
            film_only=film_only,
            logs=logs,
            force=force,
            on_progress=on_progress,
            stop=stop,
        )
        return await run_in_thread(fetch, stop)

    async def check_deletable(self) -> str | None:
        """Return the URL of the store of a job that has ended; None where it never got to have one.

        Raises:
            NoSuchJobError: There is no such job, and no store was given.
            JobNotEndedError: It has not ended.
        """
        status = await self._status()
        if status is not None and not status.state.ended:
            raise JobNotEndedError(
                f"{self._job.id} is {status.state}, and deleting is for jobs that have ended; "
                f"`longtake cancel {self._job.id} --wait` ends it"
            )
        if status is not None and status.base_dir is None:
            return None
        return visible(self._url(status), self._job.id)

    async def delete(self, *, on_progress: OnProgress = lambda _: None) -> Deleted:
        """Remove the job's files from its store, as `longtake delete` does; its history stays in Temporal.

        Raises:
            NoSuchJobError: There is no such job, and no store was given.
            JobNotEndedError: It has not ended.
            StoreUnusableError: Something could not be looked at or removed; the same call goes on there.
        """
        url = await self.check_deletable()
        if url is None:
            return Deleted()
        job = await self._submitted() if await self._status() else None
        stop = threading.Event()
        return await run_in_thread(
            partial(delete_job, url, self._job.id, job=job, on_progress=on_progress, stop=stop), stop
        )

    async def _status(self) -> JobStatus | None:
        """Return the status; None where Temporal has forgotten the job and its store was given."""
        try:
            return await self._job.status()
        except NoSuchJobError as error:
            if self._given is None:
                raise NoSuchJobError(
                    f"{error}; where Temporal has forgotten it, name its store: --store s3://bucket/prefix"
                ) from error
            return None

    def _url(self, status: JobStatus | None) -> str | None:
        known = status.base_dir if status else None
        if known is not None and self._given not in (None, known):
            raise BadJobError(f"--store: {self._job.id} is in {known} and not in {self._given}; leave it out")
        return known or self._given

    async def _submitted(self) -> RenderJobSpec | None:
        try:
            return read_job(await self._job.document())
        except LongtakeError:
            # Retention has taken its beginning. Then only what lies in the store itself is believed.
            return None


def visible(url: str | None, job_id: str) -> str:
    """Return the URL of a job's store if it can be read from here, as far as that shows at once.

    Raises:
        LongtakeError: It cannot.
    """
    if url is None:
        raise LongtakeError(f"{job_id} has no store yet: no worker has planned it; `longtake doctor` shows the workers")
    if not is_bucket(url) and not Path(url).is_dir():
        raise LongtakeError(f"{url} is not visible on this host; run this where the job's store is mounted")
    return url
