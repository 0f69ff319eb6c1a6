"""AWS Lambda on loopback: the documented Invoke API, before real processes of AWS's own runtime client.

Functions run in `lambda_environment.Environment`. As with AWS, a function goes on when its caller hangs up.
"""

import asyncio
import itertools
import json
import os
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from support.remote.aws_signature import SignatureRefused, check_signature
from support.remote.lambda_environment import LARGEST_BYTES, Environment, Invocation, Moment
from support.servers.certificates import Certificate
from support.servers.http_server import Connection, HttpServer, Request


@dataclass(eq=False)
class Function:
    """A function that can be invoked by its name or ARN."""

    name: str
    arn: str
    handler: str
    timeout: float
    memory_mb: int
    env: Mapping[str, str]
    # Reserved concurrency: more than these at once are throttled.
    concurrency: int | None
    environments: list[Environment] = field(default_factory=list)
    running: set[Environment] = field(default_factory=set)
    invocations: list[Invocation] = field(default_factory=list)
    # How much later than its end the deadline is that the function is told: a clock that is wrong.
    deadline_error_seconds: float = 0.0
    # Of how many at once it was seen running.
    most_running: int = 0

    @property
    def log(self) -> str:
        """What all its environments printed."""
        return "\n".join(environment.log for environment in self.environments)


@dataclass(frozen=True)
class Refusal:
    """An error of the Invoke API, in AWS's form; status 0 breaks the connection instead."""

    status: int
    code: str
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


def throttled(reason: str) -> Refusal:
    return Refusal(429, "TooManyRequestsException", {"Type": "User", "Reason": reason, "message": "Rate Exceeded."})


def function_name(request: Request) -> str:
    """Return the name or ARN that is invoked, decoded."""
    parts = urlsplit(request.target).path.split("/")
    return unquote(parts[3]) if len(parts) == 5 and parts[1:3] == ["2015-03-31", "functions"] else request.target


_ACCOUNT = "123456789012"


class LambdaService:
    """The service of one region; see `lambda_service`."""

    def __init__(
        self,
        folder: Path,
        access_key: str,
        secret_key: str,
        region: str,
        concurrency: int,
        certificate: Certificate | None,
    ) -> None:
        self._folder = folder
        self._secrets = {access_key: secret_key}
        self._access_key, self._region, self._concurrency = access_key, region, concurrency
        self._functions: dict[str, Function] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Condition()
        self._scheme = "http" if certificate is None else "https"
        self._api = HttpServer(self._invoke_api, tls=_tls(certificate))
        # Requests that arrived whole, whatever came of them, and what was begun.
        self.arrivals: list[tuple[float | None, Request]] = []
        self.invocations: list[Invocation] = []
        self._refusals: list[Refusal] = []
        self._numbers = itertools.count()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{self._scheme}://{self._api.address}"

    @property
    def environ(self) -> dict[str, str]:
        """What a worker needs in its environment to call it."""
        return {
            "AWS_ENDPOINT_URL_LAMBDA": self.url,
            "AWS_ACCESS_KEY_ID": self._access_key,
            "AWS_SECRET_ACCESS_KEY": self._secrets[self._access_key],
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def add_function(
        self,
        name: str,
        handler: str,
        *,
        timeout: float = 60.0,
        memory_mb: int = 2048,
        env: Mapping[str, str] | None = None,
        concurrency: int | None = None,
    ) -> Function:
        """Create a function; its handler is importable from the checkout or from `tests`."""
        arn = f"arn:aws:lambda:{self._region}:{_ACCOUNT}:function:{name}"
        function = Function(name, arn, handler, timeout, memory_mb, env or {}, concurrency)
        self._functions[name] = self._functions[arn] = function
        return function

    def refuse_next(
        self, status: int, code: str, message: str = "", headers: Mapping[str, str] | None = None, **fields: Any
    ) -> None:
        """Have the next request answered with this error, and begin nothing; status 0 breaks its connection."""
        body = {"Type": "User", "message": message, **fields}
        self._refusals.append(Refusal(status, code, body, headers or {}))

    async def begun(self, count: int, seconds: float = 30.0) -> list[Invocation]:
        """Return the invocations when there are so many."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: len(self.invocations) >= count)
        return self.invocations

    async def __aenter__(self) -> "LambdaService":
        await self._api.start()
        return self

    async def __aexit__(self, *exit_: object) -> None:
        await self._api.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        functions = set(self._functions.values())
        await asyncio.gather(*(env.close() for function in functions for env in function.environments))

    async def _invoke_api(self, connection: Connection, request: Request) -> None:
        arrived = Moment()
        arrived.now()
        self.arrivals.append((arrived.at, request))
        if (refusal := self._refusal_of(request)) is not None:
            if not refusal.status:
                return connection.abort()
            headers = {"x-amzn-errortype": refusal.code, "x-amzn-requestid": str(uuid.uuid4()), **refusal.headers}
            return await connection.respond_json(refusal.status, refusal.body, headers)
        function = self._functions[function_name(request)]
        try:
            payload = json.loads(request.body) if request.body else {}
        except ValueError as error:
            said = f"Could not parse request body into json: {error}"
            headers = {"x-amzn-errortype": "InvalidRequestContentException"}
            return await connection.respond_json(400, {"Type": "User", "message": said}, headers)
        invocation = Invocation(str(uuid.uuid4()), function.name, payload, arrived)
        await self._answer(connection, invocation, function)

    async def _answer(self, connection: Connection, invocation: Invocation, function: Function) -> None:
        headers = {"x-amzn-requestid": invocation.id, "x-amz-executed-version": "$LATEST"}
        environment = self._environment(function)
        function.running.add(environment)
        function.most_running = max(function.most_running, len(function.running))
        function.invocations.append(invocation)
        async with self._news:
            self.invocations.append(invocation)
            self._news.notify_all()
        work = asyncio.ensure_future(self._run(invocation, environment, function))
        self._tasks.add(work)
        work.add_done_callback(self._tasks.discard)
        closed = asyncio.ensure_future(connection.until_closed())
        try:
            await asyncio.wait({work, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_gone = closed.done()
            closed.cancel()
            await asyncio.wait({closed})
        if is_gone:
            return invocation.caller_gone.now()
        work.result()
        if invocation.error is not None:
            headers["x-amz-function-error"] = invocation.error
        await connection.respond(200, invocation.answer, headers)

    def _environment(self, function: Function) -> Environment:
        """Return an idle environment, or a new one, which is then started by its first invocation."""
        for environment in function.environments:
            if environment.is_usable and environment not in function.running:
                return environment
        folder = self._folder / f"{function.name}-{next(self._numbers)}"
        shape = (function.handler, function.arn, function.timeout, function.memory_mb)
        environment = Environment(function.name, *shape, folder, function.deadline_error_seconds)
        function.environments.append(environment)
        return environment

    async def _run(self, invocation: Invocation, environment: Environment, function: Function) -> None:
        """Run it to its end, whether or not anybody waits."""
        try:
            if not environment.is_started:
                await _start_whole(environment, {**self._credentials(), **function.env})
            outcome = await environment.run(invocation)
            invocation.answer = outcome.payload
            invocation.error = "Unhandled" if outcome.is_error else None
        finally:
            function.running.discard(environment)
            invocation.ended.now()

    def _credentials(self) -> dict[str, str]:
        """What a function gets by its role."""
        environ = self.environ
        return {name: environ[name] for name in environ if name not in ("AWS_ENDPOINT_URL_LAMBDA",)}

    def _refusal_of(self, request: Request) -> Refusal | None:
        if self._refusals:
            return self._refusals.pop(0)
        try:
            check_signature(request, self._secrets, region=self._region, service="lambda")
        except SignatureRefused as error:
            return Refusal(403, error.code, {"message": str(error)})
        function = self._functions.get(function_name(request))
        if request.method != "POST" or function is None:
            said = f"Function not found: {function_name(request)}"
            return Refusal(404, "ResourceNotFoundException", {"Type": "User", "Message": said})
        if request.headers.get("x-amz-invocation-type", "RequestResponse") != "RequestResponse":
            said = "only synchronous invocations are served here"
            return Refusal(400, "InvalidParameterValueException", {"Type": "User", "message": said})
        if len(request.body) > LARGEST_BYTES:
            said = f"Request must be smaller than {LARGEST_BYTES} bytes for the InvokeFunction operation"
            return Refusal(413, "RequestEntityTooLargeException", {"message": said})
        if function.concurrency is not None and len(function.running) >= function.concurrency:
            return throttled("ReservedFunctionConcurrentInvocationLimitExceeded")
        if sum(len(each.running) for each in set(self._functions.values())) >= self._concurrency:
            return throttled("ConcurrentInvocationLimitExceeded")
        return None


async def _start_whole(environment: Environment, variables: Mapping[str, str]) -> None:
    """Start it, also where a cancel comes meanwhile: what is half started cannot be ended, nor its port closed."""
    starting = asyncio.ensure_future(environment.start(variables))
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await starting
        raise


def _tls(certificate: Certificate | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


@asynccontextmanager
async def lambda_service(
    folder: Path,
    *,
    access_key: str = "AKIDEXAMPLE",
    secret_key: str = "a-secret-of-the-tests",
    region: str = "us-east-1",
    concurrency: int = 1000,
    certificate: Certificate | None = None,
) -> AsyncIterator[LambdaService]:
    """Run the service; give it the keys of the S3 server where a test uses both, for AWS variables are shared.

    Args:
        folder: Where environments keep their temporary files and logs.
        access_key: The one access key that may call.
        secret_key: Its secret.
        region: The region it is in.
        concurrency: Limit of the account: more invocations at once are throttled.
        certificate: For HTTPS; without one it is HTTP.
    """
    async with LambdaService(folder / "lambda", access_key, secret_key, region, concurrency, certificate) as service:
        yield service


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
        service.add_function("answer", "support.remote.lambda_handlers.answer", timeout=30)
        trusted = {"AWS_CA_BUNDLE": str(certificate.certificate)} if certificate is not None else {}
        with aws_environment(**service.environ, **trusted):
            yield service
