"""What a job wants of its running work, read where the job itself writes it: in its memo."""

import asyncio
from dataclasses import dataclass

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from longtake.names import MEMO_CONTROL, MEMO_FREEZE, Control


@dataclass(frozen=True)
class JobOrders:
    """What a job wants: whether work may begin, and the number of the freeze that is in force."""

    control: Control = Control.RUN
    freeze: int = 0


async def read_orders(client: Client, workflow_id: str, run_id: str, seconds: float) -> JobOrders | None:
    """Return what a job wants now; None when Temporal does not answer within these seconds."""
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
        return JobOrders(Control.STOP)
    told = await description.memo_value(MEMO_CONTROL, Control.RUN.value, type_hint=str)
    # A newer workflow may want what this worker does not know: it begins nothing then.
    control = Control(told) if told in list(Control) else Control.DRAIN
    freeze = await description.memo_value(MEMO_FREEZE, 0, type_hint=int)
    return JobOrders(control, freeze if control is Control.FREEZE else 0)
