"""What docker-compose.yml says of a service, as a process on this host needs it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

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
