"""Fetch or delete the files that one job has published, or report on them, from Python."""

import os
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from longtake.concurrency import run_in_thread
from longtake.errors import BadJobError, JobNotEndedError, LongtakeError, NoSuchJobError
from longtake.jobfile.loader import read_job
from longtake.models.job import RenderJobSpec
from longtake.models.status import JobStatus
from longtake.report.job_report import GatheredReport, gather_stored_report
from longtake.stores.factory import is_bucket, require_visible_store
from longtake.transfer.delete import DeleteResult, delete_job
from longtake.transfer.fetch import FetchResult, fetch_job
from longtake.transfer.progress import OnProgress


class StoredJob:
    """Fetch or delete the files that one job has published.

    Args:
        job_id: Id of the job.
        read_status: Returns the status of the job.
        read_document: Returns the job as it was submitted.
        store: Store of the job, needed only when Temporal has forgotten it: a folder, or `s3://bucket/prefix`.
    """

    def __init__(
        self,
        job_id: str,
        read_status: Callable[[], Awaitable[JobStatus]],
        read_document: Callable[[], Awaitable[dict[str, Any]]],
        *,
        store: str | None = None,
    ) -> None:
        self._id = job_id
        self._read_status = read_status
        self._read_document = read_document
        self._named = store.rstrip("/") if store and is_bucket(store) else store and os.path.abspath(store)

    async def fetch(
        self,
        into: str | Path,
        *,
        film_only: bool = False,
        logs: bool = True,
        force: bool = False,
        on_progress: OnProgress = lambda _: None,
    ) -> FetchResult:
        """Download film, frames, chunk files and logs into a folder, as `longtake fetch` does.

        Args:
            into: The folder; made if need be.
            film_only: Fetch the film only.
            logs: Fetch the logs too.
            force: Replace files that stand in the way.
            on_progress: Called with each new total, from another thread.

        Raises:
            NoSuchJobError: There is no such job.
            BadJobError: Other files stand in the way, or the folder cannot be written; nothing was fetched.
            StoreUnusableError: The store cannot be read from here.
            LongtakeError: There is nothing to fetch.
        """
        status = await self._status()
        url = require_visible_store(self._url(status), self._id)
        job = await self._submitted() if status else None
        stop = threading.Event()
        fetch = partial(
            fetch_job,
            url,
            self._id,
            Path(into),
            job=job,
            film_only=film_only,
            logs=logs,
            force=force,
            on_progress=on_progress,
            stop=stop,
        )
        return await run_in_thread(fetch, stop)

    async def report(self) -> GatheredReport:
        """Gather all that a report of the job tells, as `longtake report` does.

        Raises:
            NoSuchJobError: There is no such job, and no store was given.
            StoreUnusableError: The store cannot be read from here.
            LongtakeError: The store has no record of the job that can be read.
        """
        status = await self._status()
        url = require_visible_store(self._url(status), self._id)
        stop = threading.Event()
        return await run_in_thread(partial(gather_stored_report, url, self._id, status, stop), stop)

    async def check_deletable(self) -> str | None:
        """Return the URL of the store of a job that has ended; None for a job that ended before it had a store.

        Raises:
            NoSuchJobError: There is no such job, and no store was given.
            JobNotEndedError: The job has not ended.
            LongtakeError: The store cannot be read from here.
        """
        status = await self._status()
        if status is not None and not status.state.has_ended:
            raise JobNotEndedError(
                f"{self._id} is {status.state}, and deleting is for jobs that have ended; "
                f"`longtake cancel {self._id} --wait` ends it"
            )
        if status is not None and status.base_dir is None:
            return None
        return require_visible_store(self._url(status), self._id)

    async def delete(self, *, on_progress: OnProgress = lambda _: None) -> DeleteResult:
        """Remove the files of the job from its store, as `longtake delete` does; its history stays in Temporal.

        Args:
            on_progress: Called with each new total, from another thread.

        Raises:
            NoSuchJobError: There is no such job, and no store was given.
            JobNotEndedError: The job has not ended.
            StoreUnusableError: A file could not be read or removed; the same call continues from there.
        """
        url = await self.check_deletable()
        if url is None:
            return DeleteResult()
        job = await self._submitted() if await self._status() else None
        stop = threading.Event()
        return await run_in_thread(
            partial(delete_job, url, self._id, job=job, on_progress=on_progress, stop=stop), stop
        )

    async def _status(self) -> JobStatus | None:
        """Return the status of the job; None if Temporal has forgotten the job and its store was given."""
        try:
            return await self._read_status()
        except NoSuchJobError as error:
            if self._named is None:
                raise NoSuchJobError(
                    f"{error}; where Temporal has forgotten it, name its store: --store s3://bucket/prefix"
                ) from error
            return None

    def _url(self, status: JobStatus | None) -> str | None:
        known = status.base_dir if status else None
        if known is not None and self._named not in (None, known):
            raise BadJobError(f"--store: {self._id} is in {known} and not in {self._named}; leave it out")
        return known or self._named

    async def _submitted(self) -> RenderJobSpec | None:
        try:
            return read_job(await self._read_document())
        except LongtakeError:
            # The start of the job is gone (retention). Then only files below the store itself are believed.
            return None
