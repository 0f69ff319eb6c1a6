"""The activities that tell receivers of an event: `find_receivers` and `deliver`."""

import json
import logging
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.activity_context import activity_edge, send_heartbeats
from activities.attempts.host import Host
from activities.errors import DeliveryError
from activities.notify.command import run_command
from activities.notify.mail import write_mail
from activities.notify.receivers import AllowedReceivers
from activities.notify.webhook import post_webhook
from longtake.concurrency import run_in_thread
from longtake.errors import BadJobError, ErrorType
from longtake.models.notify import (
    DeliveryOrder,
    DeliveryReport,
    FarmReceivers,
    JobEvent,
    Notification,
    Receiver,
    find_origin,
    make_sequence,
)
from longtake.names import DELIVER, FIND_RECEIVERS

_log = logging.getLogger(__name__)

# What of a job's status a message holds, where it is not at its default.
_TOLD = {
    "id", "name", "state", "phase", "pause_mode", "progress", "total_chunks", "completed_chunks", "failed_chunks",
    "skipped_chunks", "left_out_chunks", "total_frames", "completed_frames", "error", "needs_change", "created_at",
    "started_at", "updated_at", "result", "metrics", "eta_seconds", "backend", "base_dir", "failures", "requests",
}  # fmt: skip


class NotifyActivities:
    """The activities that tell receivers of events.

    Args:
        allowed: Whom jobs may tell, and whom all jobs tell.
        host: This worker's host, which runs commands.
        web_url: Where the page of the farm is, for links; empty without one.
    """

    def __init__(self, allowed: AllowedReceivers, host: Host, *, web_url: str = "") -> None:
        self._allowed = allowed
        self._host = host
        self._web_url = web_url

    @activity.defn(name=FIND_RECEIVERS)
    async def find_receivers(self, event: str) -> FarmReceivers:
        """Return which receivers of every job want an event."""
        known = event in list(JobEvent)
        return FarmReceivers(digests=self._allowed.find_digests(JobEvent(event)) if known else ())

    @activity.defn(name=DELIVER)
    async def deliver(self, order: DeliveryOrder) -> DeliveryReport:
        """Tell one receiver of an event, once; the receiver knows by the id of the message what it has had already.

        Only a worker that is lost between the answer of the receiver and its own sends a message twice.

        Raises:
            ApplicationError: `NotDelivered`, retried for a day; or `NotAllowed`, given up.
        """
        async with activity_edge() as this, send_heartbeats(lambda: this.heartbeat):
            receiver = order.receiver or self._allowed.farm.get(order.farm)
            if receiver is None:
                raise ApplicationError(
                    "this worker has no such receiver in LONGTAKE_NOTIFY; give all workers the same",
                    type=ErrorType.NOT_DELIVERED,
                )
            try:
                self._allowed.check(receiver, "notify")
                await self._tell(receiver, order.notification)
            except BadJobError as error:
                raise ApplicationError(str(error), type=ErrorType.NOT_ALLOWED) from error
            except DeliveryError as error:
                self._log_first(order.notification, receiver, error)
                wait = None if error.wait_seconds is None else timedelta(seconds=error.wait_seconds)
                kind = ErrorType.NOT_ALLOWED if error.is_final else ErrorType.NOT_DELIVERED
                raise ApplicationError(str(error), type=kind, next_retry_delay=wait) from error
        return DeliveryReport(receiver=receiver.label, tries=activity.info().attempt)

    def _log_first(self, notification: Notification, receiver: Receiver, error: DeliveryError) -> None:
        # A day has some 150 tries; the Temporal UI shows the last one of each delivery.
        if activity.info().attempt == 1:
            _log.warning(
                "job %s: %s is not told yet that it is %s: %s",
                notification.status.id,
                receiver.label,
                notification.event,
                error,
            )

    async def _tell(self, receiver: Receiver, notification: Notification) -> None:
        # An older worker has started the event without a number.
        notification = notification.model_copy(
            update={"sequence": notification.sequence or make_sequence(notification.at)}
        )
        message = json.dumps(build_message(notification, self._web_url)).encode()
        if receiver.webhook is not None:
            await post_webhook(
                receiver.webhook,
                message,
                message_id=notification.id,
                sequence=notification.sequence,
                keys=self._allowed.keys[find_origin(receiver.webhook)],
                networks=self._allowed.networks,
            )
        if receiver.command is not None:
            await run_command(self._host, receiver.command, notification, message)
        if receiver.email:
            # The check before has refused it where there is no server.
            server = self._allowed.mail
            assert server is not None
            page = find_page(self._web_url, notification.status.id)
            await run_in_thread(partial(server.send, write_mail(server, receiver, notification, page)))


def build_message(notification: Notification, web_url: str = "") -> dict[str, Any]:
    """Return what receivers are sent: `type`, `timestamp` and `data`, by the Standard Webhooks specification.

    Beside them stands `sequence`, by which a receiver knows what is older than what it has.

    It is the same at each try.

    Args:
        notification: The event.
        web_url: Where the page of the farm is; empty without one.
    """
    job = notification.status.model_dump(mode="json", include=_TOLD, exclude_defaults=True)
    # Defaults that a receiver asks for first.
    job |= {"state": notification.status.state.value, "progress": notification.status.progress}
    page = find_page(web_url, notification.status.id)
    return {
        "type": f"job.{notification.event}",
        "timestamp": notification.at.isoformat().replace("+00:00", "Z"),
        "sequence": notification.sequence,
        "data": {"job": job, "links": {"page": page} if page else {}},
    }


def find_page(web_url: str, job_id: str) -> str:
    """Return the address of the page of a job; empty where the farm has none."""
    return f"{web_url.rstrip('/')}/jobs/{quote(job_id, safe='')}" if web_url else ""
