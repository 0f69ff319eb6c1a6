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

# Generated where there is no `.env` that sets them.
_SECRETS = ("POSTGRES_PASSWORD", "S3_ADMIN_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "LONGTAKE_REMOTE_SECRET")

# The ports that people use, by field of `Ports`: name of the server, variable, default.
_PUBLISHED = {"temporal": ("Temporal", "TEMPORAL_PORT", 7233), "s3": ("the S3 server", "S3_PORT", 9000)}

# The forms in the compose file: ${NAME}, ${NAME:-default} and ${NAME:?what is wrong}.
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<form>:-|:\?)(?P<rest>[^}]*))?\}")


class ComposeError(Exception):
    """Raised when a variable that the compose file needs has no value; says which."""


class ComposeFile:
    """A compose file with its variables filled in.

    Args:
        path: The file; its mounts that begin with `./` lie beside it.
        variables: The variables of `.env`.
        volumes: Folder for the file's named volumes.

    Raises:
        ComposeError: A variable that the file needs has no value.
    """

    def __init__(self, path: Path, variables: Mapping[str, str], volumes: Path) -> None:
        self._folder = path.parent
        self._volumes = volumes
        services = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]
        self.services: dict[str, dict[str, Any]] = _fill_in(services, variables)

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment of a service, with paths as they are on this host."""
        given = self.services[service]["environment"]
        return {name: self._on_host(service, str(value)) for name, value in given.items()}

    def command(self, service: str) -> list[str]:
        """Return the command of a service, with paths as they are on this host."""
        given = self.services[service]
        return [self._on_host(service, word) for word in (*given.get("entrypoint", ()), *given.get("command", ()))]

    def mounts(self, service: str) -> dict[str, Path]:
        """Return the mounts of a service: path in its container, and on this host."""
        found = {}
        for volume in self.services[service].get("volumes", ()):
            words = volume.split(":")
            source, target = (words[0], words[1]) if len(words) > 1 else (words[0].strip("/"), words[0])
            local = self._folder / source if source.startswith(".") else self._volumes / source
            found[target] = local.resolve()
        return found

    def _on_host(self, service: str, text: str) -> str:
        mounts = self.mounts(service)
        if not mounts:
            return text
        # Whole paths only, also within a list split by ':' or after '='; and all in one pass, because the folder of one
        # mount may lie below the target of another: that of a farm in /tmp.
        targets = "|".join(re.escape(target) for target in sorted(mounts, key=len, reverse=True))
        return re.sub(rf"(?<![^:=])(?:{targets})(?=[/:]|$)", lambda found: str(mounts[found[0]]), text)


def parse_variables(text: str) -> dict[str, str]:
    """Parse the variables that a text in the form of `.env` sets."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _fill_in(given: Any, variables: Mapping[str, str]) -> Any:
    # After the parsing of YAML: a value is never read as YAML.
    match given:
        case dict():
            return {name: _fill_in(value, variables) for name, value in given.items()}
        case list():
            return [_fill_in(value, variables) for value in given]
        case str():
            return _VARIABLE.sub(lambda found: _fill_in_variable(found, variables), given)
        case _:
            return given


def _fill_in_variable(found: re.Match[str], variables: Mapping[str, str]) -> str:
    value = variables.get(found["name"], "")
    if value or found["form"] is None:
        return value
    if found["form"] == ":?":
        raise ComposeError(f"{found['name']} has no value: {found['rest']}")
    return found["rest"]


@dataclass(frozen=True)
class Ports:
    """Ports of the farm's servers on the loopback interface.

    Args:
        temporal: Port of Temporal for clients and workers.
        temporal_http: Port of Temporal's HTTP API.
        s3: Port of the S3 server.
        postgres: Port of PostgreSQL.
        named: Fields whose ports the user has named: these are never replaced.
    """

    temporal: int
    temporal_http: int
    s3: int
    postgres: int
    named: frozenset[str] = frozenset()

    @classmethod
    def find_free(cls) -> Self:
        """Find ports on which nothing listens now."""
        return cls(find_free_port(), find_free_port(), find_free_port(), find_free_port())

    @classmethod
    def choose_published(cls, folder: Path, on_message: Callable[[str], None]) -> Self:
        """Choose the ports that the compose file publishes, and free ones for the rest.

        Args:
            folder: Folder of the farm, for its variables.
            on_message: Called with one line for each default port that is taken.

        Raises:
            PortTakenError: A port that the user has named is taken.
        """
        variables = read_variables(folder)
        wanted = {field: int(variables.get(name) or port) for field, (_, name, port) in _PUBLISHED.items()}
        named = {
            field for field, (_, name, port) in _PUBLISHED.items() if os.environ.get(name) or wanted[field] != port
        }
        return replace(cls.find_free(), **wanted, named=frozenset(named)).replace_taken(wanted, on_message)

    def replace_taken(self, fields: Collection[str], on_message: Callable[[str], None]) -> Self:
        """Return these ports, with free ones in place of those of `fields` that are taken.

        Raises:
            PortTakenError: The user has named a port that is taken.
        """
        chosen = {}
        for field in fields:
            port = getattr(self, field)
            if field in _PUBLISHED:
                server, variable, _ = _PUBLISHED[field]
                port = choose_port(
                    port, server, named_by=variable if field in self.named else None, on_message=on_message
                )
            elif is_port_taken(port):
                port = find_free_port()
            chosen[field] = port
        return replace(self, **chosen)


def read_variables(folder: Path) -> dict[str, str]:
    """Read the variables of the checkout's `.env`; without one, those of `.env.example` with generated secrets.

    The secrets are generated once and kept in the farm's folder. As for the compose file, the environment of this
    process comes before both files.
    """
    example = parse_variables((ROOT / ".env.example").read_text(encoding="utf-8"))
    given = ROOT / ".env"
    text = given.read_text(encoding="utf-8") if given.exists() else _read_generated_secrets(folder)
    return {**example, **parse_variables(text), **{name: os.environ[name] for name in example if os.environ.get(name)}}


def _read_generated_secrets(folder: Path) -> str:
    kept = folder / "secrets.env"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / "secrets.env.new"
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.writelines(f"{name}={secrets.token_hex(24)}\n" for name in _SECRETS)
        new.replace(kept)
    return kept.read_text(encoding="utf-8")
