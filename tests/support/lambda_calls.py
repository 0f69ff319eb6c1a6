"""Calling functions of the loopback service as a worker calls AWS's."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from certificates import Certificate
from lambda_service import LambdaService, lambda_service


@contextmanager
def aws_environment(**variables: str) -> Iterator[None]:
    """Have these AWS settings in the environment and no others, whatever the machine is set up for."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, os.devnull)
        for name, value in {"AWS_EC2_METADATA_DISABLED": "true", **variables}.items():
            patch.setenv(name, value)
        yield


@asynccontextmanager
async def called_service(
    folder: Path, *, concurrency: int = 1000, certificate: Certificate | None = None
) -> AsyncIterator[LambdaService]:
    """Run the service with one function, `answer`, and this process set up to call it."""
    async with lambda_service(folder, concurrency=concurrency, certificate=certificate) as service:
        service.add_function("answer", "lambda_handlers.answer", timeout=30)
        trusted = {"AWS_CA_BUNDLE": str(certificate.certificate)} if certificate is not None else {}
        with aws_environment(**service.environ, **trusted):
            yield service
