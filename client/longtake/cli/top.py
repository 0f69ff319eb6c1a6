"""The command `top`: the farm in a terminal, with keys that steer its jobs."""

import asyncio
import signal
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

import typer
from rich.console import Console
from rich.live import Live
from temporalio.service import RPCError

from longtake.cli.keyboard import Keyboard
from longtake.cli.logs import open_records
from longtake.cli.session import explain_error, read_settings, run_with_client
from longtake.cli.terminal import print_renderable, stdout_console
from longtake.cli.top_screen import TopView, draw_screen, draw_snapshot
from longtake.client import RenderClient
from longtake.concurrency import run_in_thread
from longtake.errors import LongtakeError, NoSuchJobError, UndecodedPayloadError
from longtake.farm_overview import read_farm
from longtake.models.status import JobState, JobStatus, PauseMode
from longtake.stored_logs import LogLines, LogTexts, find_logs

# A list of jobs and the status of those that run: some ten calls of 2 ms each.
_LOOK_SECONDS = 2.0
_PATIENCE_SECONDS = 8.0
_MOST_JOBS = 1000
# Jobs whose chunks are asked for, to tell what hosts render.
_MOST_RUNNING = 20

_MESSAGE_SECONDS = 8.0
_MOST_LOG_LINES = 5000

_STEPS = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10, "home": -1_000_000, "end": 1_000_000}
_MODES = {"d": PauseMode.DRAIN, "f": PauseMode.FREEZE, "n": PauseMode.NOW}


def top(context: typer.Context) -> None:
    """Show the farm in this terminal: jobs, failures first, and what each host renders; keys steer them.

    In a file or a pipe it is printed once.

    Example: longtake top
    """
    settings = read_settings(context)
    console = stdout_console()
    is_live = console.is_terminal and not console.is_dumb_terminal and sys.stdin.isatty()

    async def work(farm: RenderClient) -> None:
        config = farm.temporal.service_client.config
        view = TopView(place=f"{farm.temporal.namespace} @ {config.target_host}, {settings.task_queue}")
        look = FarmLook(farm, settings.task_queue, view)
        if not is_live:
            await look.refresh()
            print_renderable(draw_snapshot(view))
            return
        await TopScreen(farm, look, view, console).run()

    run_with_client(context, work, describe_interrupt=lambda: "left; jobs go on")


class FarmLook:
    """Look at the farm, again and again, and note what is found in a view.

    Args:
        farm: The client.
        task_queue: Queue of the workers.
        view: The view.
    """

    def __init__(self, farm: RenderClient, task_queue: str, view: TopView) -> None:
        self._farm = farm
        self._task_queue = task_queue
        self._view = view

    async def refresh(self) -> None:
        """Look once.

        Raises:
            LongtakeError: Temporal does not answer.
            RPCError: Temporal does not answer.
        """
        view = self._view
        jobs = await self._farm.list(limit=_MOST_JOBS)
        running = [job.id for job in jobs if job.state is JobState.RUNNING or job.frozen_chunks][:_MOST_RUNNING]
        statuses = await asyncio.gather(*map(self._find_status, running))
        known = {status.id: status for status in statuses if status is not None}
        overview = await read_farm(self._farm.temporal, self._task_queue, list(known.values()))
        view.hosts = list(overview.hosts)
        view.jobs = [known.get(job.id, job) for job in jobs]
        if view.job is not None:
            view.job = known.get(view.job.id) or await self._find_status(view.job.id) or view.job
        view.is_loaded = True

    async def _find_status(self, id: str) -> JobStatus | None:
        try:
            return await self._farm.job(id).status()
        except (NoSuchJobError, UndecodedPayloadError):
            # The list says why a job cannot be decoded; the others are shown all the same.
            return None


class LogTail:
    """The newest lines of the newest log of a chunk, or of the last chunk that was begun; methods block.

    Args:
        url: Store of the job.
        job_id: The job.
        chunk: The chunk.
    """

    def __init__(self, url: str | None, job_id: str, chunk: int) -> None:
        self._stack = ExitStack()
        self._records = self._stack.enter_context(open_records(url, job_id))
        self._key = str(chunk)
        self._name = ""
        self._texts = LogTexts()
        self._reader = LogLines(self._texts, self._records)
        self.lines: deque[str] = deque(maxlen=_MOST_LOG_LINES)

    def read_new(self) -> str:
        """Read what was added, or another log where a newer try has begun; return the name of the log."""
        logs = find_logs(self._records, self._key)
        if not logs:
            return ""
        newest = max(logs, key=lambda log: log.modified_ns)
        if newest.name != self._name:
            self._name, self._reader = newest.name, LogLines(self._texts, self._records)
            self.lines.clear()
        for left_out, lines in self._reader.read_new(newest, final=False):
            if left_out:
                self.lines.append(f"... {left_out:,} bytes are left out here ...")
            self.lines.extend(lines)
        return self._name

    def close(self) -> None:
        """Close the store."""
        self._stack.close()


class TopScreen:
    """Draw the view, and carry out what keys ask for.

    Args:
        farm: The client.
        look: Looks at the farm.
        view: The view.
        console: The terminal.
    """

    def __init__(self, farm: RenderClient, look: FarmLook, view: TopView, console: Console) -> None:
        self._farm = farm
        self._look = look
        self._view = view
        self._console = console
        self._is_changed = asyncio.Event()
        self._is_due = asyncio.Event()
        self._is_left = False
        self._answers: dict[str, Callable[[], None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tail: LogTail | None = None

    async def run(self) -> None:
        """Show the farm until somebody leaves."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._is_changed.set)
        console, watch = self._console, asyncio.ensure_future(self._watch())
        try:
            with (
                Live(
                    console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
                ) as live,
                Keyboard(self.press),
            ):
                while not self._is_left:
                    live.update(draw_screen(self._view, console.width, console.height), refresh=True)
                    self._is_changed.clear()
                    # A clock runs, and a time since when nobody answers.
                    await _wait_for(self._is_changed, 1.0)
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)
            for task in (watch, *self._tasks):
                task.cancel()
            await asyncio.gather(watch, *self._tasks, return_exceptions=True)
            if self._tail is not None:
                self._tail.close()

    async def _watch(self) -> None:
        view = self._view
        while True:
            began = datetime.now(UTC)
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._look.refresh()
                view.away_since = None
            except (LongtakeError, RPCError, TimeoutError) as error:
                view.away_since = view.away_since or began
                view.trouble = _describe(error)
            await self._read_log()
            self._is_changed.set()
            self._is_due.clear()
            await _wait_for(self._is_due, _LOOK_SECONDS)

    async def _read_log(self) -> None:
        view, tail = self._view, self._tail
        if view.page != "log" or tail is None or view.job is None:
            return
        try:
            before = len(tail.lines)
            name = await run_in_thread(tail.read_new)
        except (LongtakeError, OSError) as error:
            view.log_title = f"chunk {view.chunk}: {error}"
            return
        if tail is not self._tail:
            return
        # What is looked at stands still while more is printed.
        view.scroll += len(tail.lines) - before if view.scroll else 0
        view.log_lines = tuple(tail.lines)
        view.log_title = f"{view.job.id}, chunk {view.chunk}: {name or 'there is no log of it yet'}"

    def press(self, key: str) -> None:
        """Take one key."""
        view = self._view
        if view.question:
            self._answer(key)
        elif view.is_typing:
            self._type(key)
        elif key == "q":
            self._is_left = True
        elif key in _STEPS:
            view.move(_STEPS[key])
        elif key in ("escape", "backspace", "h", "left"):
            self._go_back()
        elif key in ("enter", "l"):
            self._open()
        elif key == "/" and view.page == "jobs":
            view.is_typing = True
        else:
            self._steer(key)
        self._is_changed.set()

    def _answer(self, key: str) -> None:
        self._view.question, answers, self._answers = "", self._answers, {}
        answers.get(key, lambda: None)()

    def _type(self, key: str) -> None:
        view = self._view
        if key in ("enter", "escape"):
            view.is_typing = False
            view.filter = view.filter if key == "enter" else ""
        elif key == "backspace":
            view.filter = view.filter[:-1]
        elif key == "clear":
            view.filter = ""
        elif len(key) == 1:
            view.filter += key
        view.selected = ""

    def _go_back(self) -> None:
        view = self._view
        if view.page == "log":
            view.page, view.log_lines, view.scroll = "job", (), 0
            self._start(self._close_log())
        elif view.page == "job":
            view.page, view.job, view.chunk = "jobs", None, None
        else:
            view.filter = ""

    def _open(self) -> None:
        view = self._view
        job = view.find_selected()
        if job is None:
            return
        if view.page == "jobs":
            view.page, view.job, view.selected, view.chunk = "job", job, job.id, None
            self._is_due.set()
        elif view.page == "job":
            view.move(0)
            if view.chunk is not None:
                view.page, view.scroll, view.log_title = "log", 0, f"{job.id}, chunk {view.chunk}: looking ..."
                self._start(self._open_log(job, view.chunk))

    async def _open_log(self, job: JobStatus, chunk: int) -> None:
        try:
            self._tail = await run_in_thread(partial(LogTail, job.base_dir, job.id, chunk))
        except (LongtakeError, OSError) as error:
            self._view.log_title = f"chunk {chunk}: {error}"
            return
        await self._read_log()

    async def _close_log(self) -> None:
        tail, self._tail = self._tail, None
        if tail is not None:
            await run_in_thread(tail.close)

    def _steer(self, key: str) -> None:
        job = self._view.find_selected()
        if job is None or key not in ("p", "r", "c", "R"):
            return
        handle = self._farm.job(job.id)
        match key:
            case "p":
                self._ask(
                    f"pause:  d finish what runs  f freeze it  n end it now  esc leave it   ({job.id})",
                    {
                        letter: partial(self._send, f"{job.id} pauses ({mode})", partial(handle.pause, mode=mode))
                        for letter, mode in _MODES.items()
                    },
                )
            case "r":
                self._confirm(f"resume {job.id}", f"{job.id} goes on", handle.resume)
            case "c":
                self._confirm(f"cancel {job.id}; finished chunks stay", f"{job.id} is being cancelled", handle.cancel)
            case _:
                retry = partial(self._farm.retry, job.id)
                self._confirm(f"retry what failed of {job.id}", f"{job.id} tries again", retry)

    def _confirm(self, what: str, done: str, send: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._ask(f"y yes, any other key no:  {what}?", {"y": partial(self._send, done, send)})

    def _ask(self, question: str, answers: dict[str, Callable[[], None]]) -> None:
        self._view.question, self._answers = question, answers

    def _send(self, done: str, send: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._start(self._carry_out(done, send))

    async def _carry_out(self, done: str, send: Callable[[], Coroutine[Any, Any, object]]) -> None:
        view = self._view
        view.message = "asking ..."
        self._is_changed.set()
        try:
            await send()
            said = done
        except (LongtakeError, RPCError) as error:
            said = _describe(error)
        view.message = said
        self._is_due.set()
        self._is_changed.set()
        await asyncio.sleep(_MESSAGE_SECONDS)
        if view.message == said:
            view.message = ""
            self._is_changed.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, so long at most."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiting], timeout=seconds)
    finally:
        waiting.cancel()


def _describe(error: Exception) -> str:
    if isinstance(error, RPCError):
        return str(explain_error(error))
    return str(error) or "Temporal does not answer"
