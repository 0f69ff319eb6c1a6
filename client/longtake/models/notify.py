"""Model whom a job tells of what happens to it: receivers of a job file, and the messages behind them."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, model_validator

from longtake.models.fields import Arguments, Contract
from longtake.models.status import JobStatus
from longtake.text import quote_value, suggest_key

# Each is an activity for each event, and a connection.
MOST_RECEIVERS = 10
_MOST_ADDRESSES = 20

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_LONGEST_URL = 2000
_LONGEST_COMMAND = 4000
_PRINTABLE = re.compile(r"[!-~]+", re.ASCII)

# Of RFC 5321 what mail servers take without quotes; RFC 5321 allows 254 characters.
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", re.ASCII)
_LONGEST_ADDRESS = 254


class JobEvent(StrEnum):
    """What happens to a job that somebody may want to be told of."""

    STARTED = "started"
    PAUSED = "paused"
    HELD = "held"
    CHUNK_FAILED = "chunk_failed"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


_EVENTS = tuple(event.value for event in JobEvent)

# Those after which a job does nothing more unless a person does.
DEFAULT_EVENTS = (JobEvent.HELD, JobEvent.FINISHED, JobEvent.FAILED, JobEvent.CANCELLED)


def _as_list(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _as_events(value: object) -> object:
    listed = _as_list(value)
    if not isinstance(listed, tuple):
        return listed
    for event in listed:
        if event not in _EVENTS:
            raise ValueError(f"is {quote_value(event)}; {suggest_key(str(event), _EVENTS)}")
    return tuple(map(JobEvent, listed))


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"is {quote_value(url)}, which is no URL; write one as in https://example.com/hook") from None
    if not _PRINTABLE.fullmatch(url) or parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        raise ValueError(f"is {quote_value(url)}; write a URL as in https://example.com/hook")
    if parts.username is not None or parts.password is not None or parts.fragment:
        # It would stand in the history of the job.
        raise ValueError("has a user, a password or a fragment in it; write scheme, host, path and query alone")
    return url


def _check_address(address: str) -> str:
    if len(address) > _LONGEST_ADDRESS or not _ADDRESS.fullmatch(address):
        raise ValueError(f"is {quote_value(address)}; write an address as in ada@example.com")
    return address


def find_origin(url: str) -> str:
    """Return scheme, host and port of a URL in one spelling: `https://example.com:443`."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _check_command(command: tuple[str, ...]) -> tuple[str, ...]:
    # It travels with each event.
    if sum(map(len, command)) > _LONGEST_COMMAND:
        raise ValueError(f"has more than {_LONGEST_COMMAND:,} characters; put them into a script")
    return command


WebhookUrl = Annotated[str, Field(max_length=_LONGEST_URL), AfterValidator(_check_url)]
Address = Annotated[str, AfterValidator(_check_address)]


class Receiver(Contract):
    """One who is told of events of a job: a webhook, addresses of e-mail or a command."""

    webhook: WebhookUrl | None = Field(default=None, description="URL that each event is posted to, signed")
    email: Annotated[tuple[Address, ...], BeforeValidator(_as_list), Field(max_length=_MOST_ADDRESSES)] = Field(
        default=(), description="address that each event is mailed to, or a list"
    )
    command: Annotated[Arguments, AfterValidator(_check_command)] | None = Field(
        default=None, description="program that is run on a worker with each event"
    )
    on: Annotated[tuple[JobEvent, ...], BeforeValidator(_as_events), Field(min_length=1)] = Field(
        default=DEFAULT_EVENTS, description="the events; default: held, finished, failed and cancelled"
    )

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if sum((self.webhook is not None, bool(self.email), self.command is not None)) != 1:
            raise ValueError("needs one of webhook, email and command; write an entry for each")
        if self.command is not None and not all((self.command, *self.command)):
            raise ValueError("has a command with an empty word; name the program and its arguments")
        return self

    @property
    def label(self) -> str:
        """What the receiver is called in histories and logs: paths of URLs may be secrets."""
        if self.webhook is not None:
            return f"webhook {find_origin(self.webhook)}"
        return f"email {', '.join(self.email)}" if self.email else f"command {(self.command or ('',))[0]}"


Receivers = Annotated[tuple[Receiver, ...], Field(max_length=MOST_RECEIVERS)]


def list_events(receivers: Iterable[Receiver]) -> tuple[JobEvent, ...]:
    """Return the events that some receivers want, in one order."""
    wanted = {event for receiver in receivers for event in receiver.on}
    return tuple(event for event in JobEvent if event in wanted)


def make_sequence(at: datetime) -> int:
    """Return the number of an event by its time, in microseconds since 1970: all of JavaScript's numbers hold it."""
    return (at - _EPOCH) // timedelta(microseconds=1)


class Notification(Contract):
    """One event of a job, as all its receivers are told of it."""

    id: str = Field(description="the same at each try: receivers know by it what they have had already")
    event: JobEvent
    at: AwareDatetime
    sequence: int = Field(
        default=0, ge=0, description="larger than that of each event before in this job; 0 from older workers"
    )
    status: JobStatus = Field(description="the job then, with the first failed chunks alone")


class NotifyOrder(Contract):
    """RenderJob to NotifyJob: tell of an event."""

    notification: Notification
    receivers: Receivers = Field(default=(), description="those of the job who want this event")
    with_farm: bool = Field(default=False, description="whether to tell the farm's own receivers too")


class FarmReceivers(Contract):
    """Activity `find_receivers` to NotifyJob: who of the farm's settings wants an event.

    They are named by digests: their URLs and addresses stay out of histories.
    """

    digests: tuple[str, ...] = Field(default=(), max_length=MOST_RECEIVERS)


class DeliveryOrder(Contract):
    """NotifyJob to the activity `deliver`: tell one receiver."""

    notification: Notification
    receiver: Receiver | None = Field(default=None, description="one that the job names")
    farm: str = Field(default="", description="or the digest of one of the farm's settings")


class DeliveryReport(Contract):
    """Activity `deliver` to NotifyJob: what was told to whom; also one of the results of NotifyJob."""

    receiver: str = Field(default="", description="its label")
    tries: int = Field(default=1, ge=1)
    error: str = Field(default="", max_length=1000, description="why it was given up; empty where it was delivered")


class NotifyReport(Contract):
    """Result of NotifyJob: what became of each delivery."""

    deliveries: tuple[DeliveryReport, ...] = ()
