"""Connecting to Temporal: one way for clients, workers and tests."""

import asyncio
import atexit
import time
from collections.abc import Mapping
from typing import Any

import temporalio.client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime

from longtake.errors import NotReachableError

# Long enough for a server that is just starting, short enough for a person who mistyped the address.
CONNECT_SECONDS = 10.0

# An interpreter that ends within a millisecond of the last answer aborts, because a thread of the SDK still returns
# from it (sdk-python issue 300; measured: 5 of 12 exits without this, 0 of 36 with).
atexit.register(time.sleep, 0.02)


def data_converter() -> DataConverter:
    """Return how payloads are written: the same on clients, workers and in replays."""
    return pydantic_data_converter


async def connect(
    *,
    address: str | None = None,
    namespace: str | None = None,
    profile: str | None = None,
    runtime: Runtime | None = None,
    timeout_seconds: float = CONNECT_SECONDS,
) -> temporalio.client.Client:
    """Return a connected Temporal client.

    What is not given comes from `temporal.toml` profiles and `TEMPORAL_*` variables, as for the Temporal CLI, and
    is localhost:7233 and `default` where those are silent.

    Raises:
        NotReachableError: No Temporal server answered in time.
    """
    options: dict[str, Any] = {"target_host": "localhost:7233"}
    options |= _configured(profile)
    options |= {key: value for key, value in (("target_host", address), ("namespace", namespace)) if value}
    try:
        async with asyncio.timeout(timeout_seconds):
            return await temporalio.client.Client.connect(**options, data_converter=data_converter(), runtime=runtime)
    except (RuntimeError, TimeoutError) as error:
        raise NotReachableError(
            f"no Temporal server answers at {options['target_host']} ({_reason(error)}); start one with `make dev`, or "
            "set TEMPORAL_ADDRESS"
        ) from error


def _configured(profile: str | None) -> Mapping[str, Any]:
    try:
        return ClientConfig.load_client_connect_config(profile=profile)
    except (RuntimeError, ValueError) as error:
        raise NotReachableError(f"Temporal's configuration cannot be read: {error}; mend temporal.toml") from error


def _reason(error: Exception) -> str:
    """Return the SDK's nested error as people know it."""
    text = f"{error}"
    known = {"ConnectionRefused": "connection refused", "dns error": "no such host", "Unauthenticated": "not let in"}
    for mark, words in known.items():
        if mark in text:
            return words
    return "it did not answer in time" if isinstance(error, TimeoutError) else text.split("\n")[0][:120]
