"""Read docker-compose.yml and `.env` as processes on this host need them, and choose the farm's ports."""

import os
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import yaml

from ports import choose_port, find_free_port, is_port_taken

ROOT = Path(__file__).resolve().parents[2]

# Made up where `.env` is not there to set them.
_SECRETS = ("POSTGRES_PASSWORD", "S3_ADMIN_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "LONGTAKE_REMOTE_SECRET")

# The ports that people use: what is offered there, its variable, and where it is unless they say otherwise.
_PUBLISHED = {"temporal": ("Temporal", "TEMPORAL_PORT", 7233), "s3": ("the S3 server", "S3_PORT", 9000)}

# The forms that the file uses: ${NAME}, ${NAME:-default} and ${NAME:?what is wrong}.
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<form>:-|:\?)(?P<rest>[^}]*))?\}")


class ComposeError(Exception):
    """A setting that the compose file needs has no value; says which."""


class ComposeFile:
    """A compose file with its variables filled in.

    Args:
        path: The file; what it mounts with `./` lies beside it.
        variables: What `.env` says.
        volumes: Folder for what the file keeps in volumes.

    Raises:
        ComposeError: A variable that the file insists on has no value.
    """

    def __init__(self, path: Path, variables: Mapping[str, str], volumes: Path) -> None:
        self._folder = path.parent
        self._volumes = volumes
        services = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]
        self.services: dict[str, dict[str, Any]] = _filled_in(services, variables)

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment of a service, with paths as they are on this host."""
        given = self.services[service]["environment"]
        return {name: self._on_host(service, str(value)) for name, value in given.items()}

    def command(self, service: str) -> list[str]:
        """Return the command of a service, with paths as they are on this host."""
        given = self.services[service]
        return [self._on_host(service, word) for word in (*given.get("entrypoint", ()), *given.get("command", ()))]

    def mounts(self, service: str) -> dict[str, Path]:
        """Return what a service sees where, as paths in its container and on this host."""
        found = {}
        for volume in self.services[service].get("volumes", ()):
            words = volume.split(":")
            source, target = (words[0], words[1]) if len(words) > 1 else (words[0].strip("/"), words[0])
            local = self._folder / source if source.startswith(".") else self._volumes / source
            found[target] = local.resolve()
        return found

    def _on_host(self, service: str, text: str) -> str:
        for target, path in self.mounts(service).items():
            # Whole paths only, within a list split by ':' or after '=' as well.
            text = re.sub(rf"(?<![^:=]){re.escape(target)}(?=[/:]|$)", str(path), text)
        return text


def variables_of(text: str) -> dict[str, str]:
    """Return the variables that a text in the form of `.env` sets."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _filled_in(given: Any, variables: Mapping[str, str]) -> Any:
    # After the file was read: a value is never taken for YAML.
    match given:
        case dict():
            return {name: _filled_in(value, variables) for name, value in given.items()}
        case list():
            return [_filled_in(value, variables) for value in given]
        case str():
            return _VARIABLE.sub(lambda found: _value(found, variables), given)
        case _:
            return given


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    value = variables.get(found["name"], "")
    if value or found["form"] is None:
        return value
    if found["form"] == ":?":
        raise ComposeError(f"{found['name']} has no value: {found['rest']}")
    return found["rest"]


@dataclass(frozen=True)
class Ports:
    """Ports of the loopback interface.

    Args:
        temporal: Temporal's, for clients and workers.
        temporal_http: Temporal's HTTP API.
        s3: The S3 server's.
        postgres: PostgreSQL's.
        named: Those that the user has named: these are never exchanged for others.
    """

    temporal: int
    temporal_http: int
    s3: int
    postgres: int
    named: frozenset[str] = frozenset()

    @classmethod
    def free(cls) -> Self:
        """Return ports on which nothing listened a moment ago."""
        return cls(find_free_port(), find_free_port(), find_free_port(), find_free_port())

    @classmethod
    def published(cls, folder: Path, say: Callable[[str], None]) -> Self:
        """Return the ports that the compose file publishes, and free ones for the rest.

        Args:
            folder: The farm's, for its variables.
            say: Told of a default port that is taken, and which one is used in its place.

        Raises:
            PortTakenError: A port that the user has named is taken.
        """
        variables = read_variables(folder)
        wanted = {field: int(variables.get(name) or port) for field, (_, name, port) in _PUBLISHED.items()}
        named = {
            field for field, (_, name, port) in _PUBLISHED.items() if os.environ.get(name) or wanted[field] != port
        }
        return replace(cls.free(), **wanted, named=frozenset(named)).without_taken(wanted, say)

    def without_taken(self, fields: Collection[str], say: Callable[[str], None]) -> Self:
        """Return these ports with others in place of those of `fields` that are taken.

        Raises:
            PortTakenError: The user has named one of them.
        """
        chosen = {}
        for field in fields:
            port = getattr(self, field)
            if field in _PUBLISHED:
                server, variable, _ = _PUBLISHED[field]
                port = choose_port(port, server, named_by=variable if field in self.named else None, say=say)
            elif is_port_taken(port):
                port = find_free_port()
            chosen[field] = port
        return replace(self, **chosen)


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
