""".env.example names every setting once, with a comment, and says of defaults what the compose file and settings do."""

import re
from pathlib import Path

import pytest

from activities.settings import WorkerSettings
from deploy.production.compose import ComposeFile, parse_variables
from longtake.codec import CODEC_VARIABLE, KEYS_FILE_VARIABLE, KEYS_VARIABLE
from longtake.errors import LongtakeError

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / ".env.example").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()

NAMED = parse_variables(EXAMPLE)
INTERPOLATED = set(re.findall(r"\$\{(\w+)", COMPOSE))


def test_it_names_what_the_compose_file_asks_for_and_nothing_else() -> None:
    assert NAMED.keys() == INTERPOLATED


def test_it_names_every_setting_of_a_worker_and_of_its_codec() -> None:
    codec = {CODEC_VARIABLE, KEYS_VARIABLE, KEYS_FILE_VARIABLE}
    assert codec | {f"LONGTAKE_{field.upper()}" for field in WorkerSettings.model_fields} == {
        name for name in NAMED if name.startswith("LONGTAKE_")
    }


def test_each_variable_is_there_once_with_a_comment_above() -> None:
    lines = EXAMPLE.splitlines()
    for name in NAMED:
        (place,) = [number for number, line in enumerate(lines) if line.startswith(f"{name}=")]
        assert re.match(r"# \w", lines[place - 1]), f"{name} has no comment"


def test_values_are_the_defaults_of_the_compose_file() -> None:
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE))
    for name, value in NAMED.items():
        assert value == defaults.get(name, ""), name


def test_comments_tell_these_defaults() -> None:
    for name, value in NAMED.items():
        comment = EXAMPLE.partition(f"\n{name}=")[0].rpartition("\n\n")[2].rpartition("=")[2]
        told = re.search(r"Default:\s*(?:#\s)?(.*)", comment, re.DOTALL)
        if value:
            assert told, f"{name}: its comment does not tell the default"
            assert value in told[1], f"{name}: {told[1]!r} does not name {value!r}"


def test_a_worker_of_the_compose_file_has_settings_that_hold() -> None:
    secrets = {name: "secret" for name, value in NAMED.items() if not value and re.search("PASSWORD|_KEY", name)}
    compose = ComposeFile(ROOT / "docker-compose.yml", {**NAMED, **secrets}, Path("/volumes"))
    environment = compose.environment("worker")

    settings = WorkerSettings.from_environ(environment, dev=False)

    assert settings.allowed_commands == ("ffmpeg",)
    assert settings.stores == ("s3://longtake/films",)
    assert settings.shutdown_grace_seconds == 60
    assert settings.slots >= 1
    with pytest.raises(LongtakeError):
        WorkerSettings.from_environ({**environment, "LONGTAKE_SLOTS": "many"}, dev=False)
