"""Which services jobs may call, and how workers share them."""

from pathlib import Path
from typing import Any

import pytest

from activities.remote.services import Services
from activities.settings import WorkerSettings
from longtake import FrameRange, RenderJobSpec
from longtake.errors import BadJobError
from longtake.models.backends import BackendKind, CloudRunBackend, LambdaBackend, RemoteBackend

URL = "https://render-abc.a.run.app"


def services(**settings: Any) -> Services:
    told = {"lambda_functions": ("render", "render-big"), "cloud_run_urls": (URL,), "remote_secret": "s", **settings}
    return Services(WorkerSettings(roots=(Path("/"),), **told))


def job(backend: object, **fields: object) -> RenderJobSpec:
    return RenderJobSpec.model_validate(
        {
            "frames": FrameRange(count=4),
            "command": ("render", "{output}"),
            "chunk_output": "out/{chunk}.txt",
            "base_dir": "/films",
            "backend": backend,
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("backend", "where"),
    [
        (LambdaBackend(), "lambda render"),
        (LambdaBackend(function="render-big"), "lambda render-big"),
        (CloudRunBackend(), "cloud run render-abc.a.run.app"),
        (CloudRunBackend(url=URL), "cloud run render-abc.a.run.app"),
    ],
)
def test_a_job_gets_the_service_that_it_names_or_the_first(backend: RemoteBackend, where: str) -> None:
    assert services().find(backend).service.where == where


def test_jobs_of_one_service_share_its_turns_and_others_do_not() -> None:
    shared = services(service_concurrency=3)
    first = shared.find(LambdaBackend())

    assert shared.find(LambdaBackend(function="render", memory_mb=512)) is first
    assert shared.find(LambdaBackend(function="render-big")) is not first
    assert shared.find(LambdaBackend(function="render", region="eu-west-1")) is not first
    assert first.slots._value == 3


@pytest.mark.parametrize(
    ("backend", "sentence"),
    [
        (
            {"type": "lambda", "function": "other"},
            "backend.function: other is none that jobs may call here (render, render-big); name one of these, or add "
            "it to LONGTAKE_LAMBDA_FUNCTIONS of the workers",
        ),
        (
            {"type": "cloud_run", "url": "http://169.254.169.254/"},
            f"backend.url: http://169.254.169.254/ is none that jobs may call here ({URL}); name one of these, or add "
            "it to LONGTAKE_CLOUD_RUN_URLS of the workers",
        ),
    ],
)
def test_a_service_that_the_worker_does_not_know_is_refused_with_the_fix(backend: object, sentence: str) -> None:
    with pytest.raises(BadJobError) as refused:
        services().check(job(backend))

    assert str(refused.value) == sentence


@pytest.mark.parametrize("backend", ["local", "lambda", "cloud_run", {"type": "lambda", "function": "other"}])
def test_a_worker_without_services_passes_what_others_may_serve(backend: object) -> None:
    services(lambda_functions=(), cloud_run_urls=()).check(job(backend))


def test_a_check_that_helios_workers_cannot_run_is_refused() -> None:
    backend = {"type": "lambda", "protocol": "helios", "job_url": "https://films.example/job.json"}

    with pytest.raises(BadJobError, match=r"^check: Helios' workers run what their job.json says"):
        services().check(job(backend, check=("ffprobe", "{output}")))


def test_a_worker_serves_the_backends_that_it_may_call() -> None:
    assert services(lambda_slots=7, cloud_run_slots=9).list_backends() == [
        (BackendKind.LAMBDA, 7),
        (BackendKind.CLOUD_RUN, 9),
    ]
    assert services(lambda_functions=()).list_backends() == [(BackendKind.CLOUD_RUN, 100)]
