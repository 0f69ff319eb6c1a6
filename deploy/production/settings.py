"""Where a farm keeps its data, which ports it takes, and what `.env` says about it."""

import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from deploy.production.compose import variables_of

ROOT = Path(__file__).resolve().parents[2]

# Made up where `.env` is not there to set them.
_SECRETS = ("POSTGRES_PASSWORD", "MINIO_ROOT_PASSWORD", "AWS_SECRET_ACCESS_KEY", "LONGTAKE_REMOTE_SECRET")


@dataclass(frozen=True)
class Ports:
    """Ports of the loopback interface."""

    temporal: int
    temporal_http: int
    minio: int
    minio_console: int
    postgres: int

    @classmethod
    def free(cls, **taken: int) -> Self:
        """Return ports that nobody listens on, but for those that are given."""
        return cls(**{field.name: taken.get(field.name) or free_port() for field in fields(cls)})

    @classmethod
    def published(cls, variables: Mapping[str, str]) -> Self:
        """Return the ports that the compose file publishes; the others are free ones."""
        return cls.free(
            temporal=int(variables.get("TEMPORAL_PORT") or 7233),
            minio=int(variables.get("MINIO_PORT") or 9000),
            minio_console=int(variables.get("MINIO_CONSOLE_PORT") or 9001),
        )


def free_port() -> int:
    """Return a free port of the loopback interface that Temporal can write down: PostgreSQL keeps it as a smallint.

    Below the ports that systems give to outgoing connections, none of these takes it away before it is used.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def read_variables(folder: Path) -> dict[str, str]:
    """Return what `.env` of the checkout says; without one, `.env.example` with secrets of the farm's own.

    Those are made up once and kept in the farm's folder. As with the compose file, what the environment sets comes
    before either.
    """
    example = variables_of((ROOT / ".env.example").read_text(encoding="utf-8"))
    given = ROOT / ".env"
    text = given.read_text(encoding="utf-8") if given.exists() else _own_secrets(folder)
    return {**example, **variables_of(text), **{name: os.environ[name] for name in example if os.environ.get(name)}}


def _own_secrets(folder: Path) -> str:
    kept = folder / "secrets.env"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / "secrets.env.new"
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.writelines(f"{name}={secrets.token_hex(24)}\n" for name in _SECRETS)
        new.replace(kept)
    return kept.read_text(encoding="utf-8")
