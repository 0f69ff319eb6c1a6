"""What workers are told by their environment."""

import pytest

from activities.settings import WorkerSettings
from longtake.errors import LongtakeError


@pytest.mark.parametrize("missing", ["LONGTAKE_ROOTS", "LONGTAKE_ALLOWED_COMMANDS"])
def test_a_production_worker_refuses_to_guess_what_jobs_may_do(missing: str) -> None:
    environ = {"LONGTAKE_ROOTS": "/tmp", "LONGTAKE_ALLOWED_COMMANDS": "ffmpeg"}
    del environ[missing]
    with pytest.raises(LongtakeError, match=f"{missing} is not set"):
        WorkerSettings.from_environ(environ, dev=False)


@pytest.mark.parametrize("value", ["*", "blender-*", "ffmpeg:?"])
def test_patterns_of_programs_are_refused(value: str) -> None:
    environ = {"LONGTAKE_ROOTS": "/tmp", "LONGTAKE_ALLOWED_COMMANDS": value}
    with pytest.raises(LongtakeError, match=r"^LONGTAKE_ALLOWED_COMMANDS.* is '.*[*?]', .* no program here; name each"):
        WorkerSettings.from_environ(environ, dev=False)


@pytest.mark.parametrize("value", ["many", "0", "1.5"])
def test_settings_that_cannot_be_are_named(value: str) -> None:
    with pytest.raises(LongtakeError, match=f"LONGTAKE_SLOTS is '?{value}'?; "):
        WorkerSettings.from_environ({"LONGTAKE_SLOTS": value}, dev=True)


@pytest.mark.parametrize("value", ["-5", "20", "low"])
def test_renders_cannot_be_raised_above_their_worker(value: str) -> None:
    with pytest.raises(LongtakeError, match=f"LONGTAKE_RENDER_NICE is '?{value}'?; "):
        WorkerSettings.from_environ({"LONGTAKE_RENDER_NICE": value}, dev=True)


@pytest.mark.parametrize("variable", ["LONGTAKE_LAMBDA_FUNCTIONS", "LONGTAKE_CLOUD_RUN_URLS"])
def test_a_worker_that_calls_services_has_a_secret_or_says_that_it_needs_none(variable: str) -> None:
    environ = {variable: "https://render-abc.a.run.app"}

    with pytest.raises(LongtakeError, match=r"^LONGTAKE_REMOTE_SECRET is not set; give worker and agents one secret"):
        WorkerSettings.from_environ(environ, dev=True)

    by_iam = WorkerSettings.from_environ({**environ, "LONGTAKE_REMOTE_AUTH": "iam"}, dev=True)
    assert not by_iam.signing_secret
    signed = WorkerSettings.from_environ({**environ, "LONGTAKE_REMOTE_SECRET": "hush"}, dev=True)
    assert signed.signing_secret.get_secret_value() == "hush"
    assert "hush" not in repr(signed)
