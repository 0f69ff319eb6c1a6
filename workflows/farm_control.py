"""The workflow `FarmControl`, in whose history the workers of a farm read the orders of all its jobs."""

from contextlib import suppress

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from longtake.models.messages import FarmOrder
    from longtake.names import FARM_CONTROL_WORKFLOW, FARM_ORDER, Control, farm_control_id
    from workflows.background import Background

# Whoever begins to follow the history reads it from its start: about 100 KB by then.
_MOST_ORDERS = 100


@workflow.defn(name=FARM_CONTROL_WORKFLOW)
class FarmControl:
    """Takes the orders of jobs as signals, and does nothing with them: the server shows each to all who follow.

    No order waits for a worker, and none is kept: a job's memo is what holds.
    """

    @workflow.init
    def __init__(self, *inputs: object) -> None:
        self._orders = 0

    @workflow.signal(name=FARM_ORDER)
    def order(self, *inputs: object) -> None:
        """Count an order."""
        self._orders += 1

    @workflow.run
    async def run(self, *inputs: object) -> None:
        """Begin anew, with an empty history, after a number of orders."""
        await workflow.wait_condition(lambda: self._orders >= _MOST_ORDERS)
        workflow.continue_as_new()


class FarmTeller:
    """Tells the farm of a job when the job's orders change.

    A signal leaves when the workflow task that sends it has been written down, so whoever hears of an order finds it
    in the memo, too.

    Attributes:
        tells: Whether the farm hears of all changes; False for jobs of before there was one.
    """

    def __init__(self) -> None:
        self.tells = True
        self._told = (Control.RUN, 0)
        self._background = Background()

    def tell(self, control: Control, freeze: int) -> None:
        """Tell the farm which orders hold, if they are others than it was told."""
        self._background.check()
        if (control, freeze) == self._told:
            return
        self.tells = workflow.patched("tell-the-farm")
        if self.tells:
            self._told = (control, freeze)
            # Beside the job's own work, which must not wait for another workflow.
            self._background.start(self._signal(control, freeze))

    def tell_of_split(self) -> None:
        """Have workers look for a new number of the last split in the memo: tell what they know once more."""
        self._background.check()
        if self.tells and workflow.patched("tell-the-farm-of-splits"):
            self._background.start(self._signal(*self._told))

    async def _signal(self, control: Control, freeze: int) -> None:
        info = workflow.info()
        farm = workflow.get_external_workflow_handle(farm_control_id(info.task_queue))
        order = FarmOrder(
            job=info.workflow_id,
            run=info.run_id,
            control=control.value,
            freeze=freeze,
            # This workflow task has one more, its end, and then what it writes.
            events=info.get_current_history_length() + 1,
        )
        # Without a farm, workers ask for the memo often.
        with suppress(FailureError):
            await farm.signal(FARM_ORDER, order)
