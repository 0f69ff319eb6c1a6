"""docker-compose.yml keeps to the specification, publishes nothing by accident, and ends its services gently."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from activities.processes.linux_table import OOM_SCORE_OF_RENDERS
from deploy.production.compose import ComposeError, ComposeFile, parse_variables
from longtake import Timeouts
from longtake.codec import load_codec
from longtake.connection import read_connect_options as client_options
from longtake.names import SEARCH_ATTRIBUTES

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(__file__).with_name("compose_spec") / "compose-spec.json").read_text())

SECRETS = dict.fromkeys(("POSTGRES_PASSWORD", "S3_ADMIN_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"), "secret")


def written() -> dict[str, Any]:
    """The file as it stands, its variables not filled in."""
    given: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return given


def compose(**variables: str) -> ComposeFile:
    """The file with no setting but the secrets, unless told."""
    return ComposeFile(ROOT / "docker-compose.yml", {**SECRETS, **variables}, Path("/volumes"))


SERVICES = compose().services
ONE_SHOT = {name for name, service in SERVICES.items() if service["restart"].startswith("on-failure")}
LASTING = SERVICES.keys() - ONE_SHOT


def seconds(duration: str) -> float:
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", duration)
    assert found, duration
    return 60 * int(found[1] or 0) + int(found[2] or 0)


def waits(service: str) -> Iterator[tuple[str, str]]:
    for other, how in SERVICES[service].get("depends_on", {}).items():
        yield other, how["condition"]


def test_the_file_keeps_to_the_compose_specification() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(written())


def test_the_schema_finds_what_is_wrong() -> None:
    given = written()
    given["services"]["worker"]["replicas"] = 2

    with pytest.raises(jsonschema.ValidationError, match="replicas"):
        jsonschema.Draft202012Validator(SCHEMA).validate(given)


def test_the_farm_is_all_there() -> None:
    assert {"postgres", "temporal", "temporal-ui", "s3", "worker"} == LASTING
    assert {"temporal-schema", "temporal-namespace", "s3-bucket"} == ONE_SHOT


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_ports_are_published_on_loopback_unless_told(service: str) -> None:
    for port in SERVICES[service].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port


def test_databases_and_workers_are_not_published_at_all() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"temporal", "temporal-ui", "s3"}
    assert all("network_mode" not in service for service in SERVICES.values())


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_images_are_of_one_version(service: str) -> None:
    name, _, tag = SERVICES[service]["image"].rpartition(":")
    assert name
    assert re.search(r"\d+\.\d+", tag), tag
    assert "latest" not in tag


def test_temporal_pushes_cancels() -> None:
    (version,) = {SERVICES[name]["image"].rpartition(":")[2] for name in ("temporal", "temporal-schema")}
    assert tuple(map(int, version.split("."))) >= (1, 32)
    dynamic = yaml.safe_load((ROOT / "deploy" / "temporal" / "dynamicconfig.yaml").read_text())
    for flag in ("frontend.WorkerCommandsEnabled", "system.enableCancelActivityWorkerCommand"):
        assert dynamic[flag] == [{"value": True}]


def test_no_web_page_can_reach_temporals_http_api() -> None:
    dynamic = yaml.safe_load((ROOT / "deploy" / "temporal" / "dynamicconfig.yaml").read_text())
    assert dynamic["frontend.httpAllowedHosts"] == [{"value": ["longtake.invalid"]}]


@pytest.mark.parametrize("service", sorted(LASTING))
def test_what_lasts_comes_back_and_tells_how_it_is(service: str) -> None:
    assert SERVICES[service]["restart"] == "unless-stopped"
    # The worker's is in its image.
    image = (ROOT / "deploy" / "Dockerfile").read_text()
    assert "healthcheck" in SERVICES[service] or (service == "worker" and "\nHEALTHCHECK " in image)


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_no_service_has_more_rights_than_it_needs(service: str) -> None:
    given = SERVICES[service]
    # Docker's init has the environment of its container, and renders of the same account could read it there.
    assert given["init"] is (service != "worker")
    assert given["security_opt"] == ["no-new-privileges:true"]
    assert not given.keys() & {"privileged", "cap_add", "pid", "ipc", "devices", "userns_mode"}
    assert not any("docker.sock" in volume for volume in given.get("volumes", ()))


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_service_has_limits_and_writes_to_no_image(service: str) -> None:
    given = SERVICES[service]
    assert 0 < int(given["pids_limit"]) <= 4096
    assert re.fullmatch(r"\d+[mg]", given["mem_limit"])
    # Zero takes all cores: with a quarter of the weight of the others, for renders take what they get.
    assert float(given["cpus"]) == 1 or (service == "worker" and given["cpus"] == "0" and given["cpu_shares"] == 256)
    assert given["read_only"] is True
    # Every program may write its temporary files.
    assert "/tmp" in (*given["tmpfs"], *given.get("volumes", ()))
    # No digest of somebody else's image says whether it drops rights by itself: two start as root.
    assert given.get("cap_drop") == ["ALL"] or service in ("postgres", "temporal-ui")


def test_limits_are_settings() -> None:
    other = compose(WORKER_MEMORY="64g", WORKER_CPUS="12", WORKER_PIDS="9999", SERVICE_CPUS="2").services
    worker = other["worker"]
    assert (worker["mem_limit"], worker["cpus"], worker["pids_limit"]) == ("64g", "12", "9999")
    assert {service["cpus"] for name, service in other.items() if name != "worker"} == {"2"}


def test_renders_die_before_workers_and_workers_before_what_all_jobs_need() -> None:
    scores = {name: service["oom_score_adj"] for name, service in SERVICES.items()}
    assert {scores[name] for name in ("postgres", "temporal", "s3")} == {0}
    assert scores["worker"] > max(score for name, score in scores.items() if name != "worker")
    assert scores["worker"] + OOM_SCORE_OF_RENDERS <= 1000


def test_renders_share_a_network_with_temporal_and_the_bucket_alone() -> None:
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    seen = {name for name in SERVICES if networks[name] & networks["worker"]} - {"worker"}
    assert seen == {"temporal", "s3", "s3-bucket"}
    assert written()["networks"].keys() == set().union(*networks.values())
    # PostgreSQL has no way out, and none but Temporal's to it.
    assert written()["networks"]["database"] == {"internal": True}
    assert {name for name in SERVICES if "database" in networks[name]} == {"postgres", "temporal", "temporal-schema"}
    assert not networks["temporal-ui"] & (networks["worker"] | networks["postgres"])


def test_a_worker_is_given_all_that_a_client_of_temporal_may_need() -> None:
    environment = compose(TEMPORAL_API_KEY="key", LONGTAKE_CODEC_KEYS="a=b").environment("worker")
    names = {"API_KEY", "TLS", "TLS_SERVER_NAME", "TLS_DISABLE_HOST_VERIFICATION", "ADDRESS", "NAMESPACE"}
    names |= {
        f"TLS_{what}_{how}" for what in ("SERVER_CA_CERT", "CLIENT_CERT", "CLIENT_KEY") for how in ("PATH", "DATA")
    }
    assert {f"TEMPORAL_{name}" for name in names} == {name for name in environment if name.startswith("TEMPORAL_")}
    assert environment["TEMPORAL_API_KEY"] == "key"
    assert environment["LONGTAKE_CODEC_KEYS"] == "a=b"


def test_what_is_empty_there_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK takes an empty key for a key, and an empty path for a file."""
    for name, value in compose().environment("worker").items():
        if name.startswith(("TEMPORAL_", "LONGTAKE_CODEC")):
            monkeypatch.setenv(name, value)
    assert client_options() == {"target_host": "temporal:7233", "namespace": "default"}
    assert load_codec() is None


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_who_waits_for_a_one_shot_waits_for_its_success(service: str) -> None:
    for other, condition in waits(service):
        assert condition == ("service_completed_successfully" if other in ONE_SHOT else "service_healthy"), other


def test_workers_start_when_everything_is_set_up() -> None:
    reached: set[str] = set()
    waiting = ["worker"]
    while waiting:
        new = {other for other, _ in waits(waiting.pop())} - reached
        waiting += new
        reached |= new

    assert reached == SERVICES.keys() - {"worker", "temporal-ui"}


def test_a_worker_is_given_the_time_it_gives_its_renders() -> None:
    own = float(compose().environment("worker")["LONGTAKE_SHUTDOWN_GRACE_SECONDS"])
    # What is ended then has the grace of its job, and its end is told to Temporal.
    assert seconds(SERVICES["worker"]["stop_grace_period"]) >= own + Timeouts().grace_seconds + 30


def test_workers_are_as_many_as_one_likes() -> None:
    worker = SERVICES["worker"]
    assert worker["deploy"]["replicas"] >= 2
    # Either would allow one container only.
    assert not worker.keys() & {"container_name", "ports"}


@pytest.mark.parametrize("secret", sorted(SECRETS))
def test_without_a_secret_nothing_starts(secret: str) -> None:
    with pytest.raises(ComposeError, match=rf"^{secret} has no value: see \.env\.example$"):
        compose(**{secret: ""})


def test_no_secret_is_written_down() -> None:
    for text in (ROOT / "docker-compose.yml", ROOT / ".env.example"):
        for line in text.read_text().splitlines():
            if found := re.match(r"\s*(\w*(?:PASSWORD|SECRET|PWD|API_KEY|KEY_DATA|CODEC_KEYS)\w*)\s*[:=]\s*(.*)", line):
                assert not found[2] or found[2].startswith("${"), line


def test_all_that_is_mounted_is_there() -> None:
    for service in SERVICES:
        for target, path in compose().mounts(service).items():
            assert path.exists() or path.is_relative_to("/volumes"), (service, target)
    for name in ("temporal", "temporal-schema", "temporal-namespace", "s3-bucket"):
        files = [word for word in compose().command(name) if word.startswith(str(ROOT))]
        assert files
        assert all(Path(word).is_file() for word in files), files


def test_the_server_is_given_what_its_configuration_asks_for() -> None:
    text = (ROOT / "deploy" / "temporal" / "server.yaml").read_text()
    needed = set(re.findall(r'\(?env "(\w+)"', text)) - set(re.findall(r'default "[^"]*" \(env "(\w+)"', text))

    assert needed == {"POSTGRES_SEEDS", "POSTGRES_USER", "POSTGRES_PWD"}
    assert needed <= compose().environment("temporal").keys()


def test_the_namespace_gets_all_search_attributes() -> None:
    text = (ROOT / "deploy" / "temporal" / "namespace.sh").read_text()

    assert re.findall(r"--name (\w+) --type (\w+)", text) == [
        (key.name, key.indexed_value_type.name.title()) for key in SEARCH_ATTRIBUTES
    ]


def test_values_are_never_taken_for_yaml() -> None:
    hostile = compose(LONGTAKE_PASS_ENV="a: [b", POSTGRES_PASSWORD="yes")

    assert hostile.environment("worker")["LONGTAKE_PASS_ENV"] == "a: [b"
    assert hostile.environment("temporal")["POSTGRES_PWD"] == "yes"


def test_an_env_file_is_read_line_by_line() -> None:
    assert parse_variables("# A=1\n\nB=2\n C = x=y \nD=\n") == {"B": "2", "C": "x=y", "D": ""}


def test_paths_are_those_of_a_farm_wherever_its_folder_lies() -> None:
    file = ComposeFile(ROOT / "docker-compose.yml", SECRETS, Path("/tmp/films/farm"))

    settings = file.environment("worker")

    assert settings["LONGTAKE_ROOTS"] == "/tmp/films/farm/films"
    assert settings["LONGTAKE_SCRATCH"] == "/tmp/films/farm/scratch"
