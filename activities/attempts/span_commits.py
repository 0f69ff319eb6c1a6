"""Publish the chunks of a span together, beside its renders."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from activities.attempts.store_io import retry_while_store_is_away
from activities.errors import AttemptLostError
from activities.stores.job_folder import Sidecar
from activities.stores.segment_writer import SegmentWriter
from longtake.concurrency import clean_up_in_thread, run_beside, run_in_thread

_log = logging.getLogger(__name__)

# What is published within this time is published together.
_COMMIT_SECONDS = 0.05


@asynccontextmanager
async def commit_beside(
    segment: SegmentWriter, on_finished: Callable[[Mapping[int, Sidecar]], None], on_wait: Callable[[str], None]
) -> AsyncIterator[None]:
    """Open a segment, finish what is handed in to it while the block runs, and at its end; then close it.

    Args:
        segment: The segment.
        on_finished: Called with the records of chunks that are finished, by their numbers.
        on_wait: Called with the cause before each wait for a store that is away.

    Raises:
        AttemptLostError: Another attempt has taken over, or a chunk could not be published: the next try tells why.
        StoreError: The store stays away, or this is another one.
    """
    handed_in = asyncio.Event()
    loop = asyncio.get_running_loop()

    def note_handed_in() -> None:
        loop.call_soon_threadsafe(handed_in.set)

    async def commit() -> None:
        try:
            await retry_while_store_is_away(segment.commit, on_wait)
        finally:
            tell()

    def tell() -> None:
        committed = segment.take_committed()
        on_finished(_by_number(committed.finished))
        for sidecar, error in committed.failed:
            raise AttemptLostError(f"chunk {int(sidecar.key)} could not be published: {error}")

    async def commit_regularly() -> None:
        while True:
            await handed_in.wait()
            await asyncio.sleep(_COMMIT_SECONDS)
            handed_in.clear()
            await commit()

    segment.on_handed_in = note_handed_in
    await run_in_thread(segment.open)
    try:
        async with run_beside(commit_regularly()):
            yield
        await commit()
        await retry_while_store_is_away(segment.close, on_wait)
    except BaseException:
        # What is rendered is finished and counts, whatever has ended the block.
        try:
            await clean_up_in_thread(segment.commit)
            await clean_up_in_thread(segment.close)
        except (AttemptLostError, OSError) as failed:
            _log.warning("chunks that were not published are rendered again: %s", failed)
        finally:
            on_finished(_by_number(segment.take_committed().finished))
        raise


def _by_number(finished: Iterable[Sidecar]) -> dict[int, Sidecar]:
    return {int(sidecar.key): sidecar for sidecar in finished}
