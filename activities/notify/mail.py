"""Mail events over SMTP, encrypted unless the farm's settings say otherwise, with an id that stays."""

import ipaddress
import smtplib
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from activities.errors import DeliveryError
from longtake.models.notify import JobEvent, Notification, Receiver
from longtake.ranges import format_range
from longtake.text import flatten_text, shorten_line

# Of each step; a server that looks a sender up, or delays whom it does not know, takes this long.
_STEP_SECONDS = 30.0

_LONGEST_ANSWER = 300

_SAID = {
    JobEvent.STARTED: "has started",
    JobEvent.PAUSED: "is paused",
    JobEvent.HELD: "waits for you: chunks have failed",
    JobEvent.CHUNK_FAILED: "has failed chunks",
    JobEvent.FINISHED: "is finished",
    JobEvent.FAILED: "has failed",
    JobEvent.CANCELLED: "was cancelled",
}


@dataclass(frozen=True)
class MailServer:
    """The server that mail is sent through.

    Args:
        host: Its name.
        port: Its port.
        sender: Address that mail comes from.
        user: Who logs in; empty without a login.
        password: With which password.
        tls: `starttls`, `tls` for one that is encrypted from the start, or `none`.
    """

    host: str
    port: int
    sender: str
    user: str = ""
    password: SecretStr = field(default=SecretStr(""), repr=False)
    tls: str = "starttls"

    @classmethod
    def parse(cls, url: str, sender: str) -> Self:
        """Read a server, as in `smtp://user:password@mail.example.com:587`.

        `smtps://` is encrypted from the start; `smtp://` switches to TLS, or sends nothing, but for `?tls=none`.

        Args:
            url: The server.
            sender: Address that mail comes from; empty for the user.

        Raises:
            ValueError: It is none; the text quotes no password.
        """
        try:
            parts = urlsplit(url)
            host, port, options = parts.hostname, parts.port, dict(parse_qsl(parts.query))
        except ValueError:
            host, port, options = None, None, {}
        if not host or parts.scheme not in ("smtp", "smtps") or parts.path not in ("", "/") or options.keys() - {"tls"}:
            raise ValueError("is no mail server; write smtp://user:password@mail.example.com:587, or smtps://")
        tls = "tls" if parts.scheme == "smtps" else options.get("tls", "starttls")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if tls not in ("starttls", "tls", "none"):
            raise ValueError("has an option that is none; leave it out, or write ?tls=none for a server without TLS")
        if tls == "none" and user and not _is_loopback(host):
            raise ValueError("would send a password unencrypted; leave tls=none out, or the login")
        try:
            named = Receiver(email=(sender or user,)).email[0]
        except ValueError:
            raise ValueError("has no sender; set LONGTAKE_MAIL_FROM to an address") from None
        return cls(host, port or (465 if tls == "tls" else 587), named, user, SecretStr(password), tls)

    def send(self, message: EmailMessage) -> None:
        """Send a mail once; return when the server has taken it. Blocking.

        Raises:
            DeliveryError: The server has not taken it.
        """
        try:
            server = self._connect()
            try:
                if self.user:
                    server.login(self.user, self.password.get_secret_value())
                server.send_message(message)
                # It is sent, whatever becomes of the farewell.
                with suppress(OSError, smtplib.SMTPException):
                    server.quit()
            finally:
                server.close()
        except smtplib.SMTPRecipientsRefused as error:
            answers = "; ".join(f"{address}: {_decode(answer)}" for address, (_, answer) in error.recipients.items())
            raise DeliveryError(f"{self._where} refuses {shorten_line(answers, _LONGEST_ANSWER)}") from error
        except smtplib.SMTPResponseException as error:
            said = shorten_line(_decode(error.smtp_error), _LONGEST_ANSWER)
            raise DeliveryError(f"{self._where} has answered {error.smtp_code}: {said}") from error
        except (OSError, smtplib.SMTPException) as error:
            said = shorten_line(getattr(error, "strerror", None) or str(error) or "no answer", _LONGEST_ANSWER)
            raise DeliveryError(f"{self._where} cannot be used: {said}") from error

    @property
    def _where(self) -> str:
        return f"the mail server {self.host}:{self.port}"

    def _connect(self) -> smtplib.SMTP:
        if self.tls == "tls":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=_STEP_SECONDS, context=ssl.create_default_context())
        server = smtplib.SMTP(self.host, self.port, timeout=_STEP_SECONDS)
        try:
            if self.tls == "starttls":
                # It raises where the server offers none: a login is never sent in clear.
                server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
        return server


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _decode(answer: bytes | str) -> str:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer


def write_mail(server: MailServer, receiver: Receiver, notification: Notification, page: str) -> EmailMessage:
    """Return the mail about an event: the same at each try, so that mail programs show it once.

    Args:
        server: What it is sent through.
        receiver: To whom.
        notification: The event.
        page: Address of the job's page; empty without one.
    """
    status = notification.status
    mail = EmailMessage()
    mail["Subject"] = shorten_line(f"{status.name or status.id} {_SAID[notification.event]}", 150)
    mail["From"] = server.sender
    mail["To"] = ", ".join(receiver.email)
    mail["Date"] = format_datetime(notification.at)
    mail["Message-ID"] = f"<{notification.id}@{server.sender.rpartition('@')[2]}>"
    # No answers of machines that are away on holiday.
    mail["Auto-Submitted"] = "auto-generated"
    lines = [
        f"{flatten_text(status.name)} ({flatten_text(status.id)}) {_SAID[notification.event]}.",
        "",
        f"chunks: {status.completed_chunks:,} of {status.total_chunks:,}, failed: {status.failed_chunks:,}",
        f"frames: {status.completed_frames:,} of {status.total_frames:,}",
    ]
    if status.result is not None and status.result.output:
        lines.append(f"film: {flatten_text(status.result.output)}")
    if status.error:
        lines += ["", flatten_text(status.error)]
    if status.failures:
        lines.append("")
    for failure in status.failures:
        frames = f" (frames {format_range(failure.start, failure.stop)})" if failure.stop > failure.start else ""
        lines.append(f"chunk {failure.chunk}{frames}: {flatten_text(failure.error)}")
    for request in status.requests:
        lines += ["", f"{request.what} {flatten_text(request.detail)} by {flatten_text(request.by) or 'somebody'}"]
    lines += ["", page or f"longtake status {flatten_text(status.id)}"]
    mail.set_content("\n".join(lines) + "\n")
    return mail
