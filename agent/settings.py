"""Read the settings of an agent from `LONGTAKE_*` variables: stores, secret, URLs that Helios clients may name."""

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import AfterValidator, Field, SecretStr

from activities.settings import EnvironmentSettings, Program, SplitByColons, SplitBySpaces
from longtake.errors import LongtakeError
from longtake.stores.factory import is_bucket

# Paths that servers and proxies read in different ways: one may see another folder than the other.
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]|%2e|%2f|%5c|%00|//|/\.{1,2}(/|$)", re.IGNORECASE)

_PORTS = {"http": 80, "https": 443}


def is_url_below(url: str, prefix: str) -> bool:
    """Tell whether a URL lies at or below a prefix, and can be read in one way only.

    Hosts are compared as a whole, and paths folder by folder: `https://good.example.evil` is not below
    `https://good.example`, nor `/jobs-of-others` below `/jobs`.
    """
    allowed, found = _split_plain_url(prefix), _split_plain_url(url)
    if allowed is None or found is None or _origin(found) != _origin(allowed):
        return False
    folder = allowed.path.rstrip("/")
    return found.path == folder or found.path.startswith(f"{folder}/")


def _split_plain_url(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        is_plain = parts.scheme in _PORTS and bool(parts.hostname) and "@" not in parts.netloc and not parts.fragment
        # Reading the port raises where it is no number.
        known = is_plain and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    if not known or not url.isascii() or _AMBIGUOUS.search(url.partition("?")[0].partition("://")[2]):
        return None
    return None if re.search(r"[\x00-\x20\x7f\\]", parts.query) else parts


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _PORTS[parts.scheme]


def _require_prefix(prefix: str) -> str:
    parts = _split_plain_url(prefix)
    if parts is None or parts.query:
        raise ValueError("is no plain URL; write the beginning of URLs, as in https://host/folder/")
    return prefix


UrlPrefix = Annotated[str, AfterValidator(_require_prefix)]


class AgentSettings(EnvironmentSettings):
    """Settings of an agent."""

    stores: Annotated[tuple[str, ...], SplitBySpaces] = Field(
        min_length=1, description="LONGTAKE_STORES: s3://bucket/prefix or folders that jobs may use, split by spaces"
    )
    allowed_commands: Annotated[tuple[Program, ...], SplitByColons] = Field(
        min_length=1, description="LONGTAKE_ALLOWED_COMMANDS: programs that jobs may run, by name or path, split by ':'"
    )
    remote_secret: SecretStr = Field(
        default=SecretStr(""), description="LONGTAKE_REMOTE_SECRET: what workers sign their orders with"
    )
    remote_secret_arn: str = Field(
        default="", description="LONGTAKE_REMOTE_SECRET_ARN: where AWS Secrets Manager keeps that instead"
    )
    remote_auth: Literal["hmac", "iam"] = Field(
        default="hmac", description="LONGTAKE_REMOTE_AUTH: hmac, or iam where the platform alone decides who may call"
    )
    scratch: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()).resolve() / f"longtake-{os.getuid()}",
        description="LONGTAKE_SCRATCH: where this instance works",
    )
    deadline_seconds: float = Field(
        default=3600, gt=0, description="LONGTAKE_DEADLINE_SECONDS: Cloud Run's request timeout, as it is deployed"
    )
    margin_seconds: float = Field(
        default=15, ge=0, description="LONGTAKE_MARGIN_SECONDS: what is kept of that for saving what was done"
    )
    orphan_seconds: float = Field(
        default=30, ge=0, description="LONGTAKE_ORPHAN_SECONDS: how long to work on when the caller has hung up"
    )
    # Scratch is small on Lambda, and memory on Cloud Run.
    inputs_bytes: int = Field(
        default_factory=lambda: shutil.disk_usage(tempfile.gettempdir()).total // 2,
        ge=0,
        description="LONGTAKE_INPUTS_BYTES: what fetched inputs may take; by default half of the disk",
    )
    helios_jobs: Annotated[tuple[UrlPrefix, ...], SplitBySpaces] = Field(
        default=(), description="LONGTAKE_HELIOS_JOBS: what URLs of job.json begin with that Helios clients may name"
    )
    helios_workspace: Path | None = Field(
        default=None,
        description="LONGTAKE_HELIOS_WORKSPACE: shared folder in which commands of Helios jobs run; each gets an empty "
        "one of its own without it, which is removed",
    )
    pass_env: Annotated[tuple[str, ...], SplitByColons] = Field(
        default=(), description="LONGTAKE_PASS_ENV: more variables that renders see"
    )
    job_env: Annotated[tuple[str, ...] | None, SplitByColons] = Field(
        default=None, description="LONGTAKE_JOB_ENV: variables that jobs may set, `NAME` or `PREFIX*`, split by ':'"
    )
    tools_dir: Path | None = Field(default=None, description="LONGTAKE_TOOLS_DIR: added to the PATH of renders")
    host: str = Field(
        default_factory=socket.gethostname, min_length=1, description="LONGTAKE_HOST: what this agent is called"
    )

    @property
    def tools(self) -> Path:
        """The folder that is added to the PATH of renders."""
        return self.tools_dir or self.scratch / "tools"

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that jobs may use, links resolved."""
        return tuple(Path(os.path.realpath(store)) for store in self.stores if not is_bucket(store))

    @property
    def buckets(self) -> tuple[str, ...]:
        """The buckets that jobs may use."""
        return tuple(store for store in self.stores if is_bucket(store))

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings in an environment.

        Raises:
            LongtakeError: A variable that names programs, stores or the secret is missing, or a value is off.
        """
        named = cls.read_environ(environ)
        _check_complete(named)
        if platform := _find_platform_name(environ):
            named.setdefault("host", platform)
        return cls.from_values(named)


def _check_complete(named: Mapping[str, str]) -> None:
    stores = named.get("stores", "").split()
    if not stores:
        raise LongtakeError(
            "LONGTAKE_STORES is not set; name the stores that jobs may use, as in s3://bucket/prefix, split by spaces"
        )
    for store in stores:
        if not is_bucket(store) and not store.startswith("/"):
            raise LongtakeError(
                f"LONGTAKE_STORES names {store!r}; write s3://bucket/prefix, or a folder with its path from the root"
            )
    if not named.get("allowed_commands", "").strip(os.pathsep):
        raise LongtakeError(
            "LONGTAKE_ALLOWED_COMMANDS is not set; name the programs that jobs may run, as in ffmpeg:blender"
        )
    if not ("remote_secret" in named or "remote_secret_arn" in named or named.get("remote_auth") == "iam"):
        raise LongtakeError(
            "LONGTAKE_REMOTE_SECRET is not set; give agents and workers one secret, or set LONGTAKE_REMOTE_AUTH=iam "
            "where the platform alone decides who may call"
        )


def _find_platform_name(environ: Mapping[str, str]) -> str:
    """Return the platform's name of this function or service, which tells more than a host name; else nothing."""
    if function := environ.get("AWS_LAMBDA_FUNCTION_NAME"):
        return f"lambda {function}"
    if service := environ.get("K_SERVICE"):
        return f"cloud run {service}"
    return ""


def load_shared_secret(settings: AgentSettings) -> str:
    """Load the secret that orders are signed with; empty where the platform alone decides who may call. Blocking.

    Raises:
        LongtakeError: AWS Secrets Manager does not give the secret.
    """
    if settings.remote_auth == "iam":
        return ""
    if settings.remote_secret or not settings.remote_secret_arn:
        return settings.remote_secret.get_secret_value()
    try:
        # A full ARN holds the region.
        region = next(iter(settings.remote_secret_arn.split(":")[3:4]), None)
        client = boto3.client("secretsmanager", region_name=region or None)
        secret = str(client.get_secret_value(SecretId=settings.remote_secret_arn).get("SecretString", "")).strip()
    except (BotoCoreError, ClientError) as error:
        why = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        raise LongtakeError(
            f"LONGTAKE_REMOTE_SECRET_ARN: Secrets Manager does not give the secret ({why}); allow the role of this "
            "function secretsmanager:GetSecretValue on it"
        ) from error
    if not secret:
        raise LongtakeError("LONGTAKE_REMOTE_SECRET_ARN: that secret holds no text; store one of 32 random bytes there")
    return secret
