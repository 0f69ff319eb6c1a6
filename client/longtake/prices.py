"""Compute what services charge for rendering, by a price table."""

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Self

from pydantic import Field

from longtake.errors import LongtakeError
from longtake.models.backends import CloudRunBackend, LambdaBackend, RemoteBackend
from longtake.models.fields import Contract
from longtake.text import escape_text, quote_value

PRICES_VARIABLE = "LONGTAKE_PRICES"

# Services bill a call in whole steps of this many seconds.
_LAMBDA_STEP = 0.001
_CLOUD_RUN_STEP = 0.1

_MB_PER_GB = 1024

# No service charges as much for any of these units: a larger number is a misplaced comma.
_MOST_USD = 1000.0


class Prices(Contract):
    """Price table of services that render, in USD; the defaults are list prices of the larger regions.

    Defaults: AWS Lambda, x86, us-east-1, the first tier (https://aws.amazon.com/lambda/pricing/), and Google Cloud Run,
    request-based billing, tier 1 (https://cloud.google.com/run/pricing). Free tiers, transfer and storage are left out.
    """

    lambda_gb_second: float = Field(default=0.0000166667, ge=0, le=_MOST_USD, description="a GB of memory for a second")
    lambda_request: float = Field(default=0.20 / 1e6, ge=0, le=_MOST_USD, description="an invocation")
    cloud_run_vcpu_second: float = Field(default=0.000024, ge=0, le=_MOST_USD, description="a vCPU for a second")
    cloud_run_gib_second: float = Field(default=0.0000025, ge=0, le=_MOST_USD, description="a GiB for a second")
    cloud_run_request: float = Field(default=0.40 / 1e6, ge=0, le=_MOST_USD, description="a request")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a value of `LONGTAKE_PRICES`, as in `lambda_gb_second=0.0000133334`; the rest keeps its defaults.

        Raises:
            LongtakeError: A word is no price.
        """
        given: dict[str, float] = {}
        for word in text.split():
            name, _, number = word.partition("=")
            if name not in cls.model_fields:
                near = get_close_matches(name[:60], cls.model_fields, n=1)
                known = f"did you mean {near[0]}?" if near else f"known: {', '.join(cls.model_fields)}"
                raise LongtakeError(f"{PRICES_VARIABLE}: {quote_value(name)} is not a price; {known}")
            given[name] = _usd(name, number)
        return cls(**given)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the prices from an environment.

        Raises:
            LongtakeError: A word of `LONGTAKE_PRICES` is no price.
        """
        return cls.parse(environ.get(PRICES_VARIABLE, ""))

    @property
    def source(self) -> str:
        """Sentence for people on where the prices come from."""
        changed = sorted(self.model_dump(exclude_defaults=True))
        lists = "list prices (AWS Lambda x86 us-east-1, Cloud Run tier 1, request-based)"
        return (
            f"{lists}, but {', '.join(changed)} of {PRICES_VARIABLE}"
            if changed
            else f"{lists}; {PRICES_VARIABLE} changes them"
        )

    def compute_cost(
        self, backend: RemoteBackend, seconds: float, calls: int = 1, *, memory_mb: int | None = None
    ) -> float:
        """Return the cost of calls of a service, in USD.

        Args:
            backend: The service.
            seconds: Time of all calls together, equally divided among them.
            calls: Number of calls.
            memory_mb: Memory of an instance, if known; default: that of the backend.
        """
        if calls < 1:
            return 0.0
        memory = (memory_mb or backend.memory_mb) / _MB_PER_GB
        match backend:
            case LambdaBackend():
                billed = _in_steps(seconds / calls, _LAMBDA_STEP)
                return calls * (billed * memory * self.lambda_gb_second + self.lambda_request)
            case CloudRunBackend():
                billed = _in_steps(seconds / calls, _CLOUD_RUN_STEP)
                a_second = backend.vcpus * self.cloud_run_vcpu_second + memory * self.cloud_run_gib_second
                return calls * (billed * a_second + self.cloud_run_request)


def _usd(name: str, text: str) -> float:
    try:
        usd = float(text)
    except ValueError:
        usd = math.nan
    if not 0 <= usd <= _MOST_USD:
        raise LongtakeError(
            f"{PRICES_VARIABLE}: {name} is {escape_text(text) or 'empty'}; write USD from 0 to {_MOST_USD:g}, as in "
            f"{name}=0.00002"
        )
    return usd


def _in_steps(seconds: float, step: float) -> float:
    # 1.1 / 0.1 is a little more than 11 in binary, and must not make 12 steps.
    return math.ceil(round(max(0.0, seconds) / step, 6)) * step
