"""Whether remote work is to go on although the activity that waits for it is cancelled."""

from temporalio import activity
from temporalio.client import Client

from activities.watching.job_orders import read_orders
from longtake.names import Control

# A worker that shuts down, or hears late that its chunk was given away, has a moment for this.
_ANSWER_SECONDS = 2.0


async def is_left_running(client: Client) -> bool:
    """Tell whether the cancel that has just come ends this worker's part only.

    So it is when the worker shuts down, has lost Temporal, or was taken for lost: the activity is given out again,
    and its next attempt joins the work. A cancel by the job, and a pause or reset by hand, stop the work; so does the
    end of the job, for which nobody would come again.
    """
    details = activity.cancellation_details()
    if details is None:
        # By the job's watch, for want of contact.
        return True
    if details.cancel_requested or details.paused or details.reset:
        return False
    info = activity.info()
    orders = await read_orders(client, info.workflow_id or "", info.workflow_run_id or "", _ANSWER_SECONDS)
    return orders is None or orders.control is not Control.STOP
