"""Read the settings of a worker from `LONGTAKE_*` variables; define what they share with those of an agent."""

import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from activities.notify.mail import MailServer
from activities.notify.receivers import AllowedReceivers, read_farm_receivers, read_webhooks
from activities.processes.supervisor import RENDER_NICE
from longtake.allowed_addresses import read_networks
from longtake.allowed_paths import read_roots
from longtake.errors import LongtakeError
from longtake.names import DEFAULT_TASK_QUEUE
from longtake.text import describe_invalid, quote_value


def _split_by(separator: str | None) -> BeforeValidator:
    """Make the validator that splits the text of a variable into a list; None splits by spaces."""
    return BeforeValidator(
        lambda value: tuple(filter(None, value.split(separator))) if isinstance(value, str) else value
    )


def _require_program(name: str) -> str:
    if "*" in name or "?" in name:
        raise ValueError(
            f"is {quote_value(name)}, and patterns stand for no program here; name each one, as in ffmpeg:blender"
        )
    return name


SplitByColons = _split_by(os.pathsep)
SplitBySpaces = _split_by(None)
Program = Annotated[str, AfterValidator(_require_program)]


@contextmanager
def _naming(field: str) -> Iterator[None]:
    """Put the name of a setting before what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error


class EnvironmentSettings(BaseModel):
    """Settings of a process, each from the environment variable of its name: `slots` from `LONGTAKE_SLOTS`."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def read_environ(cls, environ: Mapping[str, str]) -> dict[str, str]:
        """Read the text of each setting whose variable is set and not empty, by name of the setting."""
        texts = {name: environ.get(f"LONGTAKE_{name.upper()}", "").strip() for name in cls.model_fields}
        return {name: text for name, text in texts.items() if text}

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> Self:
        """Make settings of these values.

        Raises:
            LongtakeError: A value is off; the sentence names the variable and the fix.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            field, _, problem = describe_invalid(error).partition(": ")
            raise LongtakeError(f"LONGTAKE_{field.upper()} {problem}") from error


class WorkerSettings(EnvironmentSettings):
    """Settings of a worker."""

    task_queue: str = Field(default=DEFAULT_TASK_QUEUE, min_length=1, description="LONGTAKE_TASK_QUEUE")
    roots: tuple[Path, ...] = Field(description="LONGTAKE_ROOTS: folders that jobs may read and write, split by ':'")
    allowed_commands: Annotated[tuple[Program, ...] | None, SplitByColons] = Field(
        default=None, description="LONGTAKE_ALLOWED_COMMANDS: programs that jobs may run, by name or path, split by ':'"
    )
    slots: int = Field(default=1, ge=1, le=1000, description="LONGTAKE_SLOTS: chunks rendered at once on this host")
    pass_env: Annotated[tuple[str, ...], SplitByColons] = Field(
        default=(), description="LONGTAKE_PASS_ENV: more variables that renders see"
    )
    job_env: Annotated[tuple[str, ...] | None, SplitByColons] = Field(
        default=None, description="LONGTAKE_JOB_ENV: variables that jobs may set, `NAME` or `PREFIX*`, split by ':'"
    )
    render_user: str = Field(
        default="", description="LONGTAKE_RENDER_USER: account that renders run under, by name or uid"
    )
    render_nice: int = Field(
        default=RENDER_NICE, ge=0, le=19, description="LONGTAKE_RENDER_NICE: steps of priority below the worker's own"
    )
    tools_dir: Path | None = Field(default=None, description="LONGTAKE_TOOLS_DIR: added to the PATH of renders")
    host: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        description="LONGTAKE_HOST: what this host is called in statuses and failures",
    )
    contact_seconds: float = Field(
        default=30, ge=1, description="LONGTAKE_CONTACT_SECONDS: renders stop when Temporal is away for longer"
    )
    scratch: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()).resolve() / f"longtake-{os.getuid()}",
        description="LONGTAKE_SCRATCH: where this host works for stores that are elsewhere",
    )
    stores: Annotated[tuple[str, ...], SplitBySpaces] = Field(
        default=(), description="LONGTAKE_STORES: s3://bucket/prefix that jobs may use, split by spaces"
    )
    inputs_bytes: int = Field(
        default=50 * 2**30, ge=0, description="LONGTAKE_INPUTS_BYTES: what fetched inputs may take on this host"
    )
    lambda_functions: Annotated[tuple[str, ...], SplitBySpaces] = Field(
        default=(), description="LONGTAKE_LAMBDA_FUNCTIONS: names or ARNs that jobs may call; the first is the default"
    )
    lambda_slots: int = Field(default=100, ge=1, le=1000, description="LONGTAKE_LAMBDA_SLOTS: chunks on Lambda at once")
    cloud_run_urls: Annotated[tuple[str, ...], SplitBySpaces] = Field(
        default=(), description="LONGTAKE_CLOUD_RUN_URLS: services that jobs may call; the first is the default"
    )
    cloud_run_slots: int = Field(
        default=100, ge=1, le=1000, description="LONGTAKE_CLOUD_RUN_SLOTS: chunks on Cloud Run at once"
    )
    service_concurrency: int = Field(
        default=100, ge=1, le=1000, description="LONGTAKE_SERVICE_CONCURRENCY: calls of one function or service at once"
    )
    remote_secret: SecretStr = Field(
        default=SecretStr(""), description="LONGTAKE_REMOTE_SECRET: what orders to remote agents are signed with"
    )
    remote_auth: Literal["hmac", "iam"] = Field(
        default="hmac", description="LONGTAKE_REMOTE_AUTH: hmac, or iam where the platform alone decides who may call"
    )
    prices: str = Field(default="", description="LONGTAKE_PRICES: what services ask, as name=USD, split by spaces")
    webhooks: SecretStr = Field(
        default=SecretStr(""), description="LONGTAKE_WEBHOOKS: receivers that jobs may tell, as origin=whsec_..."
    )
    notify_networks: Annotated[tuple[str, ...], SplitBySpaces] = Field(
        default=(), description="LONGTAKE_NOTIFY_NETWORKS: networks that are not public and hold receivers"
    )
    notify: SecretStr = Field(
        default=SecretStr(""), description="LONGTAKE_NOTIFY: receivers that every job tells, in JSON"
    )
    smtp_url: SecretStr = Field(
        default=SecretStr(""), description="LONGTAKE_SMTP_URL: what mail is sent through, smtp://user:password@host:587"
    )
    mail_from: str = Field(default="", description="LONGTAKE_MAIL_FROM: address that mail comes from")
    mail_to: Annotated[tuple[str, ...], SplitBySpaces] = Field(
        default=(), description="LONGTAKE_MAIL_TO: addresses that jobs may mail to, or @domains of them"
    )
    notify_commands: Annotated[tuple[Program, ...], SplitByColons] = Field(
        default=(), description="LONGTAKE_NOTIFY_COMMANDS: programs that notifications of jobs may run, split by ':'"
    )
    web_url: str = Field(default="", description="LONGTAKE_WEB_URL: where the page of the farm is, for links to it")
    # Renders that end within it count; the others are stopped and go to another worker.
    shutdown_grace_seconds: float = Field(default=1, ge=0, description="LONGTAKE_SHUTDOWN_GRACE_SECONDS")

    @property
    def signing_secret(self) -> SecretStr:
        """Secret that orders to agents are signed with; empty where the platform alone decides who may call."""
        return self.remote_secret if self.remote_auth == "hmac" else SecretStr("")

    @model_validator(mode="after")
    def _check_secret(self) -> Self:
        if (self.lambda_functions or self.cloud_run_urls) and self.remote_auth == "hmac" and not self.remote_secret:
            raise ValueError(
                "remote_secret: is not set; give worker and agents one secret, or set LONGTAKE_REMOTE_AUTH=iam where "
                "the platform alone decides who may call"
            )
        return self

    @property
    def receivers(self) -> AllowedReceivers:
        """Whom jobs may tell of their events, and whom all jobs tell."""
        with _naming("webhooks"):
            keys = read_webhooks(self.webhooks.get_secret_value())
        with _naming("notify_networks"):
            networks = read_networks(self.notify_networks)
        with _naming("smtp_url"):
            url = self.smtp_url.get_secret_value()
            mail = MailServer.parse(url, self.mail_from) if url else None
        with _naming("notify"):
            farm = read_farm_receivers(self.notify.get_secret_value())
            allowed = AllowedReceivers(keys, networks, self.mail_to, mail, self.notify_commands, farm)
            for index, receiver in enumerate(farm.values()):
                allowed.check(receiver, f"[{index}]")
        return allowed

    @model_validator(mode="after")
    def _check_receivers(self) -> Self:
        assert self.receivers is not None
        return self

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, dev: bool, slots: int | None = None) -> Self:
        """Read the settings in an environment; a development worker may do more by default.

        Args:
            environ: The environment.
            dev: Whether this is a development worker.
            slots: Overrides `LONGTAKE_SLOTS`.

        Raises:
            LongtakeError: A production worker lacks the variables of programs or folders, or a value is off.
        """
        roots = read_roots(environ)
        named = cls.read_environ(environ)
        if not dev and not roots:
            raise LongtakeError("LONGTAKE_ROOTS is not set; name the folders that jobs may use, or start with --dev")
        if not dev and not named.get("allowed_commands", "").strip(os.pathsep):
            raise LongtakeError(
                "LONGTAKE_ALLOWED_COMMANDS is not set; name the programs that jobs may run, as in ffmpeg:blender, or "
                "start with --dev"
            )
        values: dict[str, object] = {
            "slots": os.cpu_count() or 1,
            **named,
            "roots": roots or (Path.cwd(), Path.home(), Path(tempfile.gettempdir()).resolve()),
        }
        if slots is not None:
            values["slots"] = slots
        return cls.from_values(values)
