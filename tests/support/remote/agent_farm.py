"""Render agents as services run them: the handler in AWS's runtime client, and the Cloud Run app as a process."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from support.farm import Farm, worker_settings
from support.remote.agents import cloud_run_process
from support.remote.lambda_service import Function, LambdaService, aws_environment, lambda_service
from support.s3.server import S3Server

from activities.settings import WorkerSettings
from longtake.models.backends import BackendKind

SECRET = "what workers and agents of the tests share"
FUNCTION = "longtake-render"


@dataclass
class Services:
    """A Lambda function and a Cloud Run service that render, and what a worker needs to call them."""

    stores: tuple[str, ...]
    scratch: Path
    # Of boto3, for both services.
    aws: dict[str, str] = field(default_factory=dict)
    function: Function | None = None
    service: LambdaService | None = None
    url: str = ""

    def settings(self, farm: Farm, **fields: Any) -> WorkerSettings:
        """Return the settings of a worker in this process that may call them."""
        return worker_settings(farm.task_queue, farm.store, slots=4).model_copy(
            update={
                "stores": tuple(store for store in self.stores if store.startswith("s3://")),
                "scratch": self.scratch / "worker",
                "lambda_functions": (FUNCTION,) if self.function else (),
                "cloud_run_urls": (self.url,) if self.url else (),
                "remote_secret": SecretStr(SECRET),
                **fields,
            }
        )

    @property
    def environment(self) -> dict[str, str]:
        """The same for a worker that is a process of its own."""
        return {
            **self.aws,
            "LONGTAKE_STORES": " ".join(store for store in self.stores if store.startswith("s3://")),
            "LONGTAKE_SCRATCH": str(self.scratch / "worker"),
            "LONGTAKE_LAMBDA_FUNCTIONS": FUNCTION if self.function else "",
            "LONGTAKE_CLOUD_RUN_URLS": self.url,
            "LONGTAKE_REMOTE_SECRET": SECRET,
        }


@asynccontextmanager
async def services(
    kind: BackendKind,
    stores: tuple[str, ...],
    folder: Path,
    *,
    s3_server: S3Server | None = None,
    timeout: float = 120.0,
    concurrency: int | None = None,
    **agent: str,
) -> AsyncIterator[Services]:
    """Run the service of one backend; with `local`, none.

    Args:
        kind: The backend.
        stores: What jobs may use: folders and buckets.
        folder: Where agents work.
        s3_server: The S3 server of these buckets.
        timeout: What the function may take, in seconds.
        concurrency: How many invocations at once the function takes.
        agent: More variables of its environment.
    """
    running = Services(stores, folder, aws=dict(s3_server.environment) if s3_server else {})
    environment = {
        "LONGTAKE_STORES": " ".join(stores),
        "LONGTAKE_ALLOWED_COMMANDS": f"{sys.executable}:ffmpeg:sh",
        "LONGTAKE_REMOTE_SECRET": SECRET,
        "LONGTAKE_SCRATCH": str(folder / "agent"),
        **running.aws,
        **agent,
    }
    async with AsyncExitStack() as stack:
        if kind is BackendKind.LAMBDA:
            keys = (
                (s3_server.access_key, s3_server.secret_key) if s3_server else ("AKIDEXAMPLE", "a-secret-of-the-tests")
            )
            service = lambda_service(folder, access_key=keys[0], secret_key=keys[1])
            running.service = await stack.enter_async_context(service)
            running.aws |= running.service.environ
            running.function = running.service.add_function(
                FUNCTION, "agent.lambda_handler.handler", timeout=timeout, env=environment, concurrency=concurrency
            )
        elif kind is BackendKind.CLOUD_RUN:
            app = await stack.enter_async_context(cloud_run_process(folder, environment))
            running.url = app.url
        stack.enter_context(aws_environment(**running.aws))
        yield running
