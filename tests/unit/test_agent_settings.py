"""What agents are told by their environment."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from agent.settings import AgentSettings, is_url_below
from longtake.errors import LongtakeError

GOOD = {
    "LONGTAKE_STORES": "s3://films/shows /mnt/films",
    "LONGTAKE_ALLOWED_COMMANDS": "ffmpeg:blender",
    "LONGTAKE_REMOTE_SECRET": "a secret",
}


def test_a_complete_environment_is_read() -> None:
    environ = {
        **GOOD,
        "LONGTAKE_MARGIN_SECONDS": "20",
        "LONGTAKE_HELIOS_JOBS": "https://a.example/jobs/ http://b.example",
        "LONGTAKE_PASS_ENV": "LICENSE::PLUGINS ",
    }
    settings = AgentSettings.from_environ(environ)

    assert settings.buckets == ("s3://films/shows",)
    assert settings.folders == (Path("/mnt/films"),)
    assert settings.allowed_commands == ("ffmpeg", "blender")
    assert settings.remote_secret == SecretStr("a secret")
    assert settings.margin_seconds == 20
    assert settings.helios_jobs == ("https://a.example/jobs/", "http://b.example")
    assert settings.pass_env == ("LICENSE", "PLUGINS")
    assert (settings.deadline_seconds, settings.orphan_seconds) == (3600, 30)
    assert "a secret" not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"LONGTAKE_STORES": ""}, "LONGTAKE_STORES is not set"),
        ({"LONGTAKE_STORES": "films"}, "LONGTAKE_STORES names 'films'"),
        ({"LONGTAKE_ALLOWED_COMMANDS": " : "}, "LONGTAKE_ALLOWED_COMMANDS is not set"),
        ({"LONGTAKE_ALLOWED_COMMANDS": "ffmpeg:*"}, "LONGTAKE_ALLOWED_COMMANDS[1] is '*', and patterns stand for no "),
        ({"LONGTAKE_REMOTE_SECRET": " "}, "LONGTAKE_REMOTE_SECRET is not set"),
        ({"LONGTAKE_REMOTE_AUTH": "none"}, "LONGTAKE_REMOTE_AUTH is 'none'; choose "),
        ({"LONGTAKE_MARGIN_SECONDS": "soon"}, "LONGTAKE_MARGIN_SECONDS is 'soon'; "),
        ({"LONGTAKE_DEADLINE_SECONDS": "0"}, "LONGTAKE_DEADLINE_SECONDS is '0'; make it more than 0"),
        ({"LONGTAKE_HELIOS_JOBS": "ftp://host/"}, "LONGTAKE_HELIOS_JOBS[0] is no plain URL; "),
        ({"LONGTAKE_HELIOS_JOBS": "https://user:password@host/"}, "LONGTAKE_HELIOS_JOBS"),
    ],
)
def test_what_does_not_do_is_told_in_one_sentence_that_names_the_variable(environ: dict[str, str], said: str) -> None:
    with pytest.raises(LongtakeError) as caught:
        AgentSettings.from_environ({**GOOD, **environ})

    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert "a secret" not in str(caught.value)


@pytest.mark.parametrize("environ", [{"LONGTAKE_REMOTE_AUTH": "iam"}, {"LONGTAKE_REMOTE_SECRET_ARN": "arn:x"}])
def test_the_secret_may_be_elsewhere_or_none(environ: dict[str, str]) -> None:
    assert AgentSettings.from_environ({**GOOD, "LONGTAKE_REMOTE_SECRET": "", **environ})


@pytest.mark.parametrize(
    ("environ", "host"),
    [
        ({"AWS_LAMBDA_FUNCTION_NAME": "render"}, "lambda render"),
        ({"K_SERVICE": "render"}, "cloud run render"),
        ({"K_SERVICE": "render", "LONGTAKE_HOST": "mine"}, "mine"),
    ],
)
def test_an_agent_is_called_what_its_platform_calls_it(environ: dict[str, str], host: str) -> None:
    assert AgentSettings.from_environ({**GOOD, **environ}).host == host


@pytest.mark.parametrize(
    ("url", "passes"),
    [
        ("https://a.example/jobs/one/job.json", True),
        ("https://a.example:443/jobs/one.json?token=x%2Fy", True),
        ("https://A.EXAMPLE/jobs/one.json", True),
        ("https://a.example/jobs", True),
        ("https://a.example/jobs-of-others/x", False),
        ("https://a.example/", False),
        ("http://a.example/jobs/x", False),
        ("https://a.example:8443/jobs/x", False),
        ("https://a.example.evil/jobs/x", False),
        ("https://evil@a.example/jobs/x", False),
        ("https://a.example@evil/jobs/x", False),
        ("https://a.example/jobs/../x", False),
        ("https://a.example/jobs/..", False),
        ("https://a.example/jobs/./x", False),
        ("https://a.example/jobs//x", False),
        ("https://a.example/jobs/%2E%2e/x", False),
        ("https://a.example/jobs/..%2fx", False),
        ("https://a.example/jobs/..%5cx", False),
        ("https://a.example/jobs\\..\\x", False),
        ("https://a.example/jobs/x\nHost: evil", False),
        ("https://a.example/jobs/x y", False),
        ("https://a.example/jobs/x#y", False),
        ("https://a.example/jobs/\u2025/x", False),
        ("https://a.example:0/jobs/x", False),
        ("https://a.example:port/jobs/x", False),
        ("https://[::1/jobs/x", False),
        ("//a.example/jobs/x", False),
        ("file:///jobs/x", False),
        ("", False),
    ],
)
def test_urls_pass_by_host_and_whole_folders_only(url: str, passes: bool) -> None:
    assert is_url_below(url, "https://a.example/jobs/") is passes
    assert is_url_below(url, "https://a.example/jobs") is passes


def test_a_whole_host_may_be_allowed() -> None:
    assert is_url_below("http://b.example/anything", "http://b.example")
    assert not is_url_below("http://b.example.evil/anything", "http://b.example")
