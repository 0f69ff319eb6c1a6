"""Frames that are finished are kept when a stop comes."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from support.jobs.images import png
from support.remote.scripted_agent import Watcher

from activities.attempts.finished_frames import WholeFrameScanner
from activities.attempts.frame_sequence import SequenceRender
from activities.backends.backend import RenderTask, RenderWatcher
from activities.processes.render_process import Usage
from activities.stores.job_folder import JobFolder
from activities.stores.kept_frames import KeptFrames
from longtake.chunks import Chunk
from longtake.models.outputs import OutputTemplate
from longtake.models.policies import Timeouts
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_layout import chunk_key


class StoppedStore(DirectoryStore):
    """Has the render stopped while it makes its first record."""

    stop: Callable[[], object] | None = None

    def create(self, location: str, content: bytes) -> bool:
        if self.stop is not None:
            self.stop()
            self.stop = None
        return super().create(location, content)


class TwoFrames:
    """Renders both frames, and does not end by itself."""

    def open_span(self) -> AbstractAsyncContextManager["TwoFrames"]:
        return nullcontext(self)

    async def render(self, task: RenderTask, watcher: RenderWatcher) -> Usage:
        for frame in range(2):
            (task.cwd / f"{frame}.png").write_bytes(png(frame))
        await asyncio.Event().wait()
        raise AssertionError("it is stopped")


async def test_frames_that_are_finished_as_a_stop_comes_are_kept(tmp_path: Path) -> None:
    store = StoppedStore(tmp_path)
    folder = JobFolder(store, "job")
    key = chunk_key(0)
    place = Path(folder.attempt_dir(key, "a-1"))
    kept = KeptFrames(folder, key)

    def task(part: Chunk, place: Path, finished: WholeFrameScanner) -> RenderTask:
        return RenderTask(("render",), place, {}, {}, place / "log", Timeouts())

    chunk = Chunk(0, range(2), (OutputTemplate("chunk_output", "{frame}.png"),), ("render",))
    render = SequenceRender(TwoFrames(), chunk, place, [Path("0.png"), Path("1.png")], kept, task)
    working = asyncio.ensure_future(render.render(Watcher()))
    loop = asyncio.get_running_loop()
    stopped = threading.Event()

    def cancel() -> None:
        working.cancel()
        stopped.set()

    def stop() -> None:
        loop.call_soon_threadsafe(cancel)
        assert stopped.wait(30)

    store.stop = stop
    await asyncio.wait({working}, timeout=60)
    assert working.cancelled()
    await asyncio.to_thread(render.keep)

    assert sorted(kept.verified_files().files) == [0, 1]
