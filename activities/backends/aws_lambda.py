"""Calling AWS Lambda: boto3 signs, and the event loop sends, so that an abort closes the connection at once."""

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from activities.backends.lambda_answers import agents_result, helios_result
from activities.backends.lambda_refusals import refusal
from activities.remote.aws_lambda import InvokeRequests
from activities.remote.http_client import post_once
from activities.remote.service import Answer, HeliosResult, unheard

# The longest a function may be allowed to run:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MOST_SECONDS = 900.0

# A call that hears nothing for so long after its function must have ended never will.
_MARGIN_SECONDS = 30.0

# Signing takes milliseconds. Its threads are its own, since the loop's may all be busy with files for minutes.
_SIGNING_THREADS = 2

# Synchronous answers have 6 MB at most, and those of `helios` name what they printed.
_MOST_BYTES = 8 * 2**20


class LambdaFunction:
    """One function, invoked synchronously; see `Service`.

    Args:
        function: Its name or ARN.
        region: Its region; None for the one in its ARN, else for that of the environment.
        concurrency: How many calls it gets from this worker at once; more wait for their turn.
    """

    most_seconds = MOST_SECONDS

    def __init__(self, function: str, *, region: str | None = None, concurrency: int) -> None:
        self.where = f"lambda {function}"
        self._requests = InvokeRequests(function, region)
        self._turns = asyncio.Semaphore(concurrency)
        self._signing = ThreadPoolExecutor(_SIGNING_THREADS, thread_name_prefix="lambda-signing")

    async def call(self, payload: Mapping[str, Any], *, sending: Callable[[], None] = unheard) -> Answer:
        """Invoke the function once and return its answer, a function error included; see `Service.call`."""
        body = json.dumps(payload, allow_nan=False).encode()
        async with self._turns:
            # A cancel up to here abandons a thread that signs and sends nothing.
            request = await asyncio.get_running_loop().run_in_executor(self._signing, self._requests.make, body)
            answer = await post_once(
                self._requests.route,
                request.url,
                request.content,
                request.headers,
                most_seconds=self.most_seconds + _MARGIN_SECONDS,
                most_bytes=_MOST_BYTES,
                sending=sending,
            )
        if not 200 <= answer.status < 300:
            raise refusal(self.where, answer)
        return answer

    def result_in(self, answer: Answer) -> bytes:
        """Return the JSON of our agent's result; see `Service.result_in`."""
        return agents_result(self.where, answer)

    def helios_result_in(self, answer: Answer, *, lenient: bool) -> HeliosResult:
        """Return what a Helios worker says; see `Service.helios_result_in`."""
        return helios_result(answer, lenient=lenient)
