"""Reading a render's progress beside the watch over it."""

import asyncio
import threading

from activities.backends.backend import RenderTask
from activities.backends.tasks import drop
from activities.progress.reader import ProgressReader, Reading

# Progress is looked at as often as heartbeats go out.
LOOK_SECONDS = 0.25


class Following:
    """Keeps the newest reading of one render at hand.

    Read in a thread: a job's own patterns may take half a second of CPU time, and a share that hangs holds whoever
    reads from it, while limits and freeze orders must be kept.

    Args:
        task: What is rendered.
        printed_before: Bytes in its log that other commands of the same attempt have printed.
    """

    def __init__(self, task: RenderTask, printed_before: int) -> None:
        self._reader = ProgressReader(
            task.log, task.progress, start=task.start, stop=task.stop, counted_dir=task.counted_dir
        )
        self._reader.printed_bytes = printed_before
        self._reader_lock = threading.Lock()
        self.reading = Reading()
        self._reads = asyncio.create_task(self._keep_reading())

    @property
    def signs(self) -> object:
        """Changes with each piece of progress or output."""
        return self.reading.frames_done, self._reader.printed_bytes

    async def finish(self) -> Reading:
        """Return the last reading, of all that was printed."""
        await self.stop()
        self.reading = await asyncio.to_thread(self._read, ended=True)
        return self.reading

    async def stop(self) -> None:
        """Read no more."""
        await drop(self._reads)

    async def _keep_reading(self) -> None:
        while True:
            self.reading = await asyncio.to_thread(self._read)
            await asyncio.sleep(LOOK_SECONDS)

    def _read(self, *, ended: bool = False) -> Reading:
        # A read that was cancelled goes on in its thread, beside the last one.
        with self._reader_lock:
            return self._reader.read(ended=ended)
