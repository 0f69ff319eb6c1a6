"""Calling AWS Lambda: boto3 signs, and the event loop sends, so that an abort closes the connection at once."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from activities.backends.calls import Answer, CallLostError, HeliosResult
from activities.backends.lambda_answers import agents_result, helios_result
from activities.backends.lambda_refusals import refusal
from activities.backends.lambda_requests import InvokeRequests
from activities.failures import AttemptError
from longtake.plaintext import short_line

# The longest a function may be allowed to run:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MOST_SECONDS = 900.0

# A call that hears nothing for so long after its function must have ended never will.
_MARGIN_SECONDS = 30.0
_CONNECT_SECONDS = 20.0

# Signing takes milliseconds. Its threads are its own, since the loop's may all be busy with files for minutes.
_SIGNING_THREADS = 2

# Nothing was sent yet. Whatever else breaks may have left a function running.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


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

    async def call(self, payload: Mapping[str, Any]) -> Answer:
        """Invoke the function once and return its answer, a function error included; see `Service.call`."""
        body = json.dumps(payload, allow_nan=False).encode()
        async with self._turns:
            # A cancel up to here abandons a thread that signs and sends nothing.
            request = await asyncio.get_running_loop().run_in_executor(self._signing, self._requests.make, body)
            response = await self._send(request)
        headers = {name.lower(): value for name, value in response.headers.items()}
        answer = Answer(response.status_code, response.content, headers)
        if not response.is_success:
            raise refusal(self.where, answer)
        return answer

    def result_in(self, answer: Answer) -> bytes:
        """Return the JSON of our agent's result; see `Service.result_in`."""
        return agents_result(self.where, answer)

    def helios_result_in(self, answer: Answer, *, lenient: bool) -> HeliosResult:
        """Return what a Helios worker says; see `Service.helios_result_in`."""
        return helios_result(answer, lenient=lenient)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """Send it on a connection of its own, which nobody can have closed meanwhile and which a cancel closes."""
        most = self.most_seconds + _MARGIN_SECONDS
        try:
            async with asyncio.timeout(most), self._client() as client:
                return await client.send(request)
        except _NEVER_SENT as error:
            if isinstance(bad := _root(error), ssl.SSLCertVerificationError):
                said = (
                    f"its certificate is not to be trusted: {bad.verify_message}; check AWS_CA_BUNDLE and the endpoint"
                )
                raise AttemptError(f"{self.where}: {said}", fatal=True) from error
            said = f"{self.where} cannot be reached at {_origin(request.url)}: {_told(error)}"
            raise CallLostError(said, begun=False) from error
        except httpx.HTTPError as error:
            raise CallLostError(f"the connection to {self.where} broke: {_told(error)}", begun=True) from error
        except TimeoutError as error:
            raise CallLostError(f"{self.where} gave no answer within {most:g} s", begun=True) from error

    def _client(self) -> httpx.AsyncClient:
        # The answer is bounded as a whole.
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        return httpx.AsyncClient(transport=self._requests.transport(), timeout=timeout)


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"


def _told(error: httpx.HTTPError) -> str:
    return short_line(str(error), 200) or type(error).__name__


def _root(error: BaseException) -> BaseException:
    """Return the first cause of an error, which httpx and httpcore have wrapped."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error
