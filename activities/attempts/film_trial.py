"""The trial of a film: its container and its encoder with a few frames of one chunk, long before all are rendered."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from activities.attempts.film_attempt import FilmAttempt
from activities.attempts.host import Host
from activities.attempts.proven_chunks import ProvenChunks
from activities.attempts.store_io import explain_failure, ship_log
from activities.backends.backend import RenderWatcher
from activities.errors import AttemptError, RefusedError
from activities.media.facts import ChunkFile, DamagedOutput, MediaError
from activities.media.sample import shorten_chunk
from activities.stores.job_folder import OpenJob, Sidecar
from activities.stores.publish import is_intact
from longtake.concurrency import clean_up_in_thread, run_in_thread
from longtake.paths import OutputKind
from longtake.ranges import Range

# Enough for an encoder to reorder pictures, few enough to cost nothing beside a chunk.
_FRAMES = 4

_FIX = (
    "change output, encode, colour or audio, and submit the job under another id with if_exists: reuse, which keeps "
    "the finished chunks"
)


class _ChunkGoneError(Exception):
    """The chunk is not what was published: the stitch names such chunks, and a trial says nothing of them."""


class FilmTrial(FilmAttempt):
    """The trial of a job's film with the beginning of one chunk; nothing is published.

    Args:
        host: The host that tries it.
        job: The job with this film alone.
        sidecar: Sidecar of the chunk.
        name: Name of the attempt, never used twice.
        watcher: Called with the progress.
    """

    def __init__(self, host: Host, job: OpenJob, sidecar: Sidecar, name: str, watcher: RenderWatcher) -> None:
        if job.job.film_kind is OutputKind.FRAMES:
            # Of each output as many as of that which makes the film.
            files = sidecar.files_of(job.job.film_source)[:_FRAMES]
            short = {"files": files * len(sidecar.facts), "also": 0, "frames": len(files)}
            sidecar = sidecar.model_copy(update=short)
        super().__init__(host, job, ProvenChunks([sidecar]), name, watcher)
        self._sidecar = sidecar

    async def try_out(self) -> None:
        """Make the beginning of the film and prove it.

        Raises:
            AttemptError: This try has failed.
            AttemptLostError: The try ended through no fault of its own, or the store is away.
            RefusedError: No such film can be made of the chunks.
        """
        try:
            if not await run_in_thread(partial(is_intact, self._store, self._sidecar)):
                return
            async with self._host.inputs.lay_out_in_thread(self._job) as self._workdir, ship_log(self._store, self.log):
                await run_in_thread(partial(self._dir.mkdir, parents=True, exist_ok=True))
                await self._make_and_prove(self._dir / self._job.target(self._job.film_path).rpartition("/")[2])
            await run_in_thread(self._remove_log)
        except asyncio.CancelledError:
            # The film itself is made, or the job wants none.
            await clean_up_in_thread(self._remove_log)
            raise
        except _ChunkGoneError:
            return
        except (AttemptError, OSError) as error:
            raise await explain_failure(error, self._job.folder, self._dir) from error
        finally:
            await clean_up_in_thread(self._clean_up)

    def _remove_log(self) -> None:
        """Remove the log, which says nothing of a trial that went well."""
        folder, _, name = self.log.rpartition("/")
        for found in list(self._store.names(folder)):
            if found.startswith(name):
                self._store.remove(f"{folder}/{found}")

    def _bring_chunks(self, start: int, stop: int | None, place: Path) -> list[ChunkFile]:
        (chunk,) = super()._bring_chunks(start, stop, place)
        try:
            short = shorten_chunk(chunk, self._job.job.rate, _FRAMES)
        except MediaError as error:
            raise _ChunkGoneError from error
        self._frames = short.frames
        return [replace(short, position=None)]

    def _places(self) -> list[Range]:
        return [(0, self._frames)]

    def _sound_frames(self, places: Sequence[Range]) -> int:
        return self._frames

    async def _refuse(self, error: MediaError) -> NoReturn:
        if isinstance(error, DamagedOutput) and error.chunk is not None:
            raise _ChunkGoneError from error
        sentence = describe_failed_trial(error, int(self._sidecar.key), self._job.film_label)
        raise RefusedError(sentence, needs_change=True) from error


def describe_failed_trial(error: Exception, chunk: int, label: str = "") -> str:
    """Describe why a film cannot be made of the beginning of a chunk, and the fix.

    Args:
        error: Why.
        chunk: Number of the chunk.
        label: Which of several films; empty for the only one.
    """
    what = f"{label} cannot be made" if label else "no film can be made"
    return f"{what} of the chunks: {error} (tried with chunk {chunk}); {_FIX}"
