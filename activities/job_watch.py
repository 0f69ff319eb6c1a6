"""Watch of a job while this worker renders for it: its orders, and contact with Temporal.

A cancel is pushed, or comes with the answer to a heartbeat. Everything else comes from here: drain and freeze are in
the job's memo, and changes of it are told by the farm (`activities/farm_listener.py`). Where they are not, each job is
asked about once a second. A worker that is cut off stops its renders. The SDK does not report that: its own timer is
reset by heartbeats that fail, too.
"""

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from temporalio import activity
from temporalio.api.enums.v1 import PendingActivityState, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities.backends.backend import Progress
from activities.errors import AttemptLostError, WatchEndedError
from activities.farm_listener import FarmListener
from longtake.describe import read_memo
from longtake.models.messages import FarmOrder
from longtake.names import MEMO_CONTROL, MEMO_FREEZE, MEMO_SPLIT, MEMO_TELLS, Control

_log = logging.getLogger(__name__)

_ASK_SECONDS = 1.0

# An answer takes 1.3 ms at the median (measured); one that has not come by then will not.
_ANSWER_SECONDS = 5.0
_LEAST_INTERVAL_SECONDS = 0.2

# At most this many workers ask after one job in a second: a namespace is good for 2,400 calls.
_MOST_ASKING = 200

# One worker asks at most so often in a second, however many jobs it has.
_MOST_ASKED = 20

# Where orders are told, a look now and then finds one that was lost on its way; ten workers at one job a second.
_TOLD_SECONDS = 5.0
_MOST_ASKING_ALL_THE_SAME = 10

# Somebody else renders the same already: what obeys SIGTERM may clean up, the rest must go.
_GRACE_WHEN_CUT_OFF = 2.0


@dataclass(frozen=True)
class JobOrders:
    """The orders in a job's memo: whether work may begin, and the numbers of the freeze in force and the last split.

    Args:
        control: What renders may do.
        freeze: Number of the freeze that they must obey; 0 without one.
        split: Number of the last order to give back chunks that were not begun; 0 before the first one.
        events: Length of the job's history when they held; 0 where it is not known.
        running: How many activities of the job workers have now.
        watchers: How many workers have them, each of which watches the job.
        are_told: Whether the job tells its farm when they change.
    """

    control: Control = Control.RUN
    freeze: int = 0
    split: int = 0
    events: int = field(default=0, compare=False)
    running: int = field(default=1, compare=False)
    watchers: int = field(default=1, compare=False)
    are_told: bool = field(default=False, compare=False)

    @property
    def ends_work(self) -> bool:
        """Whether chunks at work may be cancelled by now."""
        return self.control in (Control.DRAIN, Control.STOP)


async def read_orders(client: Client, workflow_id: str, run_id: str, seconds: float) -> JobOrders | None:
    """Read the orders of a job from Temporal; return None when Temporal does not answer within these seconds."""
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    try:
        # Around the call and not given to it: the SDK would try again on its own, beyond any bound that matters here.
        async with asyncio.timeout(seconds):
            description = await handle.describe()
    except TimeoutError:
        return None
    except RPCError as error:
        return JobOrders(Control.STOP) if error.status is RPCStatusCode.NOT_FOUND else None
    if description.status is not WorkflowExecutionStatus.RUNNING:
        return JobOrders(Control.STOP, events=description.history_length)
    told = await read_memo(description, MEMO_CONTROL, str) or Control.RUN.value
    freeze = await read_memo(description, MEMO_FREEZE, int) or 0
    pending = description.raw_description.pending_activities
    at_work = [each for each in pending if each.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED]
    orders = JobOrders(
        split=await read_memo(description, MEMO_SPLIT, int) or 0,
        events=description.history_length,
        running=max(1, len(at_work)),
        watchers=max(1, len({each.last_worker_identity for each in at_work})),
        are_told=bool(await read_memo(description, MEMO_TELLS, bool)),
    )
    return _set_control(orders, told, freeze)


def _set_control(orders: JobOrders, told: str, freeze: int) -> JobOrders:
    # A newer workflow may want what this worker does not know: it begins nothing then.
    control = Control(told) if told in list(Control) else Control.DRAIN
    return replace(orders, control=control, freeze=freeze if control is Control.FREEZE else 0)


class JobWatch:
    """One job as this worker sees it; shared by all of the job's work here."""

    def __init__(self, ask: Callable[[float], Awaitable[JobOrders | None]], contact_seconds: float) -> None:
        self.orders = JobOrders()
        self._ask = ask
        self._contact_seconds = contact_seconds
        self._answered_at = asyncio.get_running_loop().time()
        self._orders_at = -math.inf
        self._must_ask = asyncio.Event()
        self._work: set[asyncio.Task[object]] = set()
        self._lost: dict[asyncio.Task[object], AttemptLostError | WatchEndedError] = {}

    async def refresh(self) -> JobOrders:
        """Read the job's orders and return them; while Temporal does not answer, return the last ones.

        Work may begin while the server does not answer: the server has just given it out.
        """
        orders = await self._ask(max(0.1, min(_ANSWER_SECONDS, self._left())))
        if orders is not None:
            self.hear_answer()
            self._orders_at = self._answered_at
            known = self.orders
            if 0 < orders.events < known.events:
                # This look was under way when newer ones were told, or were read by another look.
                orders = replace(known, running=orders.running, watchers=orders.watchers, are_told=orders.are_told)
            self.orders = orders
        elif self._left() <= 0:
            self._stop_work(
                AttemptLostError(
                    f"Temporal has not answered for {self._contact_seconds:g} s; other workers have this chunk now"
                )
            )
        return self.orders

    async def refresh_if_older(self, seconds: float) -> JobOrders:
        """Return the orders of the last answer, or those of a new one where that is older than this."""
        age = asyncio.get_running_loop().time() - self._orders_at
        return self.orders if age <= seconds else await self.refresh()

    def hear_answer(self) -> None:
        """Hear that Temporal has answered this worker."""
        self._answered_at = asyncio.get_running_loop().time()

    def hear_order(self, order: FarmOrder) -> None:
        """Hear that the orders of the job have changed; what was read since then stays.

        An order to run that came late let frozen renders go on: the freeze that followed it had been read already.
        """
        known = self.orders
        if 0 < order.events < known.events:
            return
        told = _set_control(replace(known, events=order.events, are_told=True), order.control, order.freeze)
        if order.events > known.events:
            self.orders = told
        if order.events <= known.events or told == known:
            # It cannot be compared, or there is more in the memo than what is told.
            self._must_ask.set()

    def hear_gap(self) -> None:
        """Hear that changes of the orders may not have been told."""
        self._must_ask.set()

    async def poll(self, interval_seconds: Callable[[JobOrders], float]) -> None:
        """Read the orders time and again; with jitter, so that a farm does not ask all at once.

        Args:
            interval_seconds: Returns how long an answer holds.
        """
        while True:
            await self._wait_until_due(interval_seconds(self.orders) * random.uniform(0.8, 1.2))
            try:
                await self.refresh()
            except Exception as error:
                # Renders that nobody watches would neither freeze nor end when this worker is cut off.
                _log.exception("the watch of a job has ended")
                self._stop_work(WatchEndedError(f"{type(error).__name__}: {error}"))
                raise

    async def _wait_until_due(self, seconds: float) -> None:
        """Wait until it is time to ask: after so long, after a gap, and often where Temporal was silent for long."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while (rest := end - clock()) > 0:
            until_silent = self._left() - self._contact_seconds / 2
            if is_silent := until_silent <= 0:
                until_silent = max(_LEAST_INTERVAL_SECONDS, min(_ASK_SECONDS, self._left()))
            with suppress(TimeoutError):
                async with asyncio.timeout(min(rest, until_silent)):
                    await self._must_ask.wait()
            if self._must_ask.is_set():
                self._must_ask.clear()
                await asyncio.sleep(random.uniform(0, self.orders.watchers / _MOST_ASKING))
                return
            if is_silent:
                return

    @asynccontextmanager
    async def stop_when_cut_off(self) -> AsyncIterator[None]:
        """Cancel the block when Temporal was away for so long that another worker has this work.

        Raises:
            AttemptLostError: In place of the cancel, when the block has ended.
            WatchEndedError: The same, where the watch itself has ended by an unexpected error.
        """
        task = asyncio.current_task()
        assert task is not None  # it runs in an event loop
        self._work.add(task)
        try:
            yield
        except asyncio.CancelledError as error:
            if task not in self._lost or activity.is_cancelled():
                raise
            task.uncancel()
            raise self._lost[task] from error
        finally:
            self._work.discard(task)
            self._lost.pop(task, None)

    def is_cut_off(self) -> bool:
        """Tell whether Temporal was away for so long that another worker has this work."""
        return self._left() <= 0

    def _left(self) -> float:
        return self._answered_at + self._contact_seconds - asyncio.get_running_loop().time()

    def _stop_work(self, reason: AttemptLostError | WatchEndedError) -> None:
        for task in self._work - self._lost.keys():
            _log.error("stopping a render: %s", reason)
            self._lost[task] = reason
            task.cancel()


class JobWatches:
    """The watches of one worker: one for each run of a job that works here.

    Args:
        client: Connection to Temporal.
        contact_seconds: How long Temporal may be away before work is stopped.
        farm: Tells when orders of jobs change; without it each job is asked.
    """

    def __init__(self, client: Client, contact_seconds: float, farm: FarmListener | None = None) -> None:
        self._client = client
        self._contact_seconds = contact_seconds
        self._farm = farm
        self._listening: asyncio.Task[None] | None = None
        self._watches: dict[tuple[str, str], tuple[JobWatch, asyncio.Task[None]]] = {}
        self._users: dict[tuple[str, str], int] = {}

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[JobWatch]:
        """Watch the job of the current activity while the block runs."""
        info = activity.info()
        key = (info.workflow_id or "", info.workflow_run_id or "")
        # One that has died by an error has stopped its work; what begins here since then needs another one.
        if key not in self._watches or self._watches[key][1].done():
            watch = JobWatch(lambda seconds: read_orders(self._client, *key, seconds), self._contact_seconds)
            self._watches[key] = (watch, asyncio.create_task(watch.poll(self._interval_seconds)))
        if self._farm is not None and self._listening is None:
            self._listening = asyncio.create_task(self._listen(self._farm))
        watch, _ = self._watches[key]
        self._users[key] = self._users.get(key, 0) + 1
        try:
            async with watch.stop_when_cut_off():
                yield watch
        finally:
            self._users[key] -= 1
            if self._users[key] == 0:
                _, looking = self._watches.pop(key)
                del self._users[key]
                looking.cancel()
            if not self._watches and self._listening is not None:
                self._listening.cancel()
                self._listening = None

    async def _listen(self, farm: FarmListener) -> None:
        try:
            await farm.listen(self, self._contact_seconds)
        except Exception:
            # Jobs are asked for their orders then, until there is none here and another one begins.
            _log.exception("orders of jobs are no longer heard")
            self.hear_gap()

    def hear_order(self, order: FarmOrder) -> None:
        """Pass an order to the watch of its job, if there is one."""
        if (found := self._watches.get((order.job, order.run))) is not None:
            found[0].hear_order(order)

    def hear_answer(self) -> None:
        """Note for all jobs that Temporal has answered."""
        for watch, _ in self._watches.values():
            watch.hear_answer()

    def hear_gap(self) -> None:
        """Ask all jobs for their orders, some of which may not have been told."""
        for watch, _ in self._watches.values():
            watch.hear_gap()

    def _interval_seconds(self, orders: JobOrders) -> float:
        """Return how long the answer of a job holds; see `JobWatch.poll`."""
        if orders.are_told and self._farm is not None and self._farm.is_hearing:
            return max(_TOLD_SECONDS, orders.watchers / _MOST_ASKING_ALL_THE_SAME)
        return max(_ASK_SECONDS, orders.watchers / _MOST_ASKING, len(self._watches) / _MOST_ASKED)


class JobRenderWatcher:
    """The `RenderWatcher` of an activity: passes progress to its heartbeat, and the job's orders to the render.

    Args:
        watch: The job.
        on_progress: Called with the progress of the render.
        on_frozen: Called with the number of a freeze that was carried out; None where nothing can be frozen.
    """

    def __init__(
        self, watch: JobWatch, on_progress: Callable[[Progress], None], on_frozen: Callable[[int], None] | None = None
    ) -> None:
        self._watch = watch
        self._on_progress = on_progress
        self._on_frozen = on_frozen

    @property
    def freeze_order(self) -> int:
        """Number of the freeze that the render must obey now; 0 when it may run."""
        return self._watch.orders.freeze if self._on_frozen else 0

    @property
    def most_grace_seconds(self) -> float:
        """How long the end of the render may take at most."""
        return _GRACE_WHEN_CUT_OFF if self._watch.is_cut_off() else math.inf

    def on_frozen(self, order: int) -> None:
        """Hear that no process of the render runs, by this order; or with 0, that they run again."""
        if self._on_frozen:
            self._on_frozen(order)

    def on_progress(self, progress: Progress) -> None:
        """Hear how far the render is."""
        self._on_progress(progress)


def worker_identity(pid: int, host: str) -> str:
    """Return the name of a worker in Temporal, which holds its host."""
    return f"{pid}@{host}"


class OtherHosts:
    """The other hosts that serve a queue.

    Args:
        client: Connection to Temporal.
        task_queue: The queue of renders.
        host: This host.
    """

    def __init__(self, client: Client, task_queue: str, host: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._host = host

    async def has_any(self) -> bool:
        """Ask Temporal whether a worker on another host has polled the queue in the last minutes."""
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=self._task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        try:
            answer = await self._client.workflow_service.describe_task_queue(request)
        except RPCError as error:
            _log.warning("cannot ask who else renders: %s", error.message)
            return False
        return any(poller.identity.partition("@")[2] != self._host for poller in answer.pollers)
