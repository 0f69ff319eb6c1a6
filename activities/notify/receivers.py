"""Hold what a farm's settings say of notifications: whom jobs may tell, with which secrets, and whom all jobs tell."""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from activities.notify.mail import MailServer
from longtake.allowed_addresses import Network
from longtake.errors import BadJobError
from longtake.models.fields import check_keys
from longtake.models.notify import JobEvent, Receiver, Receivers, find_origin, list_events
from longtake.text import describe_invalid, quote_value

_SECRET_PREFIX = "whsec_"

# By the Standard Webhooks specification.
_KEY_BYTES = range(24, 65)

_RECEIVERS: TypeAdapter[tuple[Receiver, ...]] = TypeAdapter(Receivers)


@dataclass(frozen=True)
class AllowedReceivers:
    """Whom jobs of a farm may tell of their events.

    Args:
        keys: Keys that messages are signed with, by origin of the receiver; other origins are not told.
        networks: Networks that are no public ones, and in which receivers may be.
        mail_to: Addresses that jobs may mail to; `@example.com` stands for all of that domain, `*` for any.
        mail: What mail is sent through; None where the farm sends none.
        commands: Programs that notifications may run, as they are named.
        farm: Receivers that are told of every job, by digest.
    """

    keys: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    networks: Sequence[Network] = ()
    mail_to: Sequence[str] = ()
    mail: MailServer | None = None
    commands: Sequence[str] = ()
    farm: Mapping[str, Receiver] = field(default_factory=dict)

    @property
    def farm_events(self) -> tuple[JobEvent, ...]:
        """Events that receivers of every job want."""
        return list_events(self.farm.values())

    def find_digests(self, event: JobEvent) -> tuple[str, ...]:
        """Return the digests of those receivers of every job that want an event."""
        return tuple(digest for digest, receiver in self.farm.items() if event in receiver.on)

    def check_all(self, receivers: Sequence[Receiver]) -> None:
        """Raise unless a job may tell all these receivers.

        Raises:
            BadJobError: It may not tell one; the sentence names the field and the fix.
        """
        for index, receiver in enumerate(receivers):
            self.check(receiver, f"notify[{index}]")

    def check(self, receiver: Receiver, where: str) -> None:
        """Raise unless a receiver may be told.

        Args:
            receiver: The receiver.
            where: Its place in the job, for the error.

        Raises:
            BadJobError: It may not; the sentence names the field and the fix.
        """
        if receiver.webhook is not None and (origin := find_origin(receiver.webhook)) not in self.keys:
            raise BadJobError(
                f"{where}.webhook: {origin} may not be told by this farm; add it with its secret to LONGTAKE_WEBHOOKS "
                "of the workers, or take it out"
            )
        if receiver.email and self.mail is None:
            raise BadJobError(
                f"{where}.email: this farm sends no mail; set LONGTAKE_SMTP_URL on the workers, or take it out"
            )
        for address in receiver.email:
            if not self._may_mail(address):
                raise BadJobError(
                    f"{where}.email: {address} may not be mailed to by this farm; add it or its @domain to "
                    "LONGTAKE_MAIL_TO of the workers, or take it out"
                )
        if receiver.command is not None and (program := receiver.command[0]) not in self.commands:
            raise BadJobError(
                f"{where}.command: {quote_value(program)} may not run for notifications of this farm; add it to "
                "LONGTAKE_NOTIFY_COMMANDS of the workers, or take it out"
            )

    def _may_mail(self, address: str) -> bool:
        name = address.casefold()
        domain = f"@{name.rpartition('@')[2]}"
        return any(allowed in ("*", name, domain) for allowed in map(str.casefold, self.mail_to))


def read_webhooks(text: str) -> dict[str, tuple[bytes, ...]]:
    """Read the keys of receivers by origin, as in `https://example.com=whsec_...`, split by spaces.

    A receiver that gets a new secret has both for a while, split by commas: messages are signed with each.

    Raises:
        ValueError: One cannot be read; the text quotes no secret.
    """
    found: dict[str, tuple[bytes, ...]] = {}
    for entry in text.split():
        url, _, secrets = entry.partition("=")
        try:
            receiver = Receiver(webhook=url)
        except ValueError:
            raise ValueError(
                "has an entry that begins with no URL; write https://example.com=whsec_..., split by spaces"
            ) from None
        origin = find_origin(receiver.webhook or "")
        if url.rstrip("/").count("/") != 2 or "?" in url:
            raise ValueError(f"has more than scheme, host and port at {origin}; paths stand in jobs, any is allowed")
        found[origin] = tuple(_read_secret(origin, secret) for secret in secrets.split(","))
    return found


def _read_secret(origin: str, secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_SECRET_PREFIX) or len(key) not in _KEY_BYTES:
        raise ValueError(
            f"has no secret of 24 to 64 bytes for {origin}; make one: "
            "python3 -c \"import base64, os; print('whsec_' + base64.b64encode(os.urandom(32)).decode())\""
        )
    return key


def read_farm_receivers(text: str) -> dict[str, Receiver]:
    """Read the receivers that are told of every job, by digest: a JSON list as of the key `notify` of a job.

    Raises:
        ValueError: It is no such list; the text quotes no URL.
    """
    if not text.strip():
        return {}
    try:
        receivers = _RECEIVERS.validate_json(text)
        for receiver in TypeAdapter(list[dict[str, object]]).validate_json(text):
            check_keys(receiver, Receiver)
    except ValidationError as error:
        raise ValueError(f"is no list of receivers in JSON: {describe_invalid(error)}") from None
    except BadJobError as error:
        raise ValueError(f"is no list of receivers in JSON: {error}") from None
    return {hashlib.sha256(each.model_dump_json().encode()).hexdigest()[:16]: each for each in receivers}
