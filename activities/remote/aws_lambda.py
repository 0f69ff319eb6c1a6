"""Call AWS Lambda functions, and parse their answers: results, refusals and crashes.

boto3 makes and signs each request and is kept from sending it; the event loop sends, so that a cancel closes the
connection at once.
"""

import asyncio
import json
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)
from botocore.utils import get_environ_proxies
from pydantic import ValidationError

from activities.errors import AttemptError, ThrottledError
from activities.remote.http_client import Route, post_once
from activities.remote.protocol import RemoteResult
from activities.remote.service import (
    CallLostError,
    HeliosResult,
    ServiceAnswer,
    find_text,
    ignore_send,
    parse_exit_code,
)
from longtake.stores.s3 import make_core_session
from longtake.text import shorten_line

# The longest a function may be allowed to run:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MOST_SECONDS = 900.0

# How long to wait for an answer after the function must have ended; later than that none comes.
_MARGIN_SECONDS = 30.0

# Synchronous answers have 6 MB at most; those of Helios workers hold what the command printed.
_MOST_BYTES = 8 * 2**20

# Signing takes milliseconds. The threads of the loop may all be busy with files for minutes, so it has its own.
_SIGNING_THREADS = 2

_LONGEST_REASON = 2000

_LONGEST_MESSAGE = 400

_TOO_LARGE = "Function.ResponseSizeTooLarge"

# A function that cannot even be loaded stays so until it is deployed again; what the agent refuses it refuses again.
_FATAL = frozenset({
    "Runtime.ImportModuleError", "Runtime.HandlerNotFound", "Runtime.MalformedHandlerName",
    "Runtime.UserCodeSyntaxError", "Runtime.InvalidEntrypoint", "Runtime.BuiltInModuleConflict",
    "RefusedOrderError",
})  # fmt: skip

# Parts of Lambda's sentences, and what to do.
_HINTS = {
    "Task timed out": "give the function a longer timeout (at most 900 s), or the job smaller chunks",
    "signal: killed": "it ran out of memory, most likely: give the function more",
    "Unable to import module": "deploy the function again from deploy/",
}

# Codes: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_Errors and CommonErrors.
# No room, or not ready yet: the function's code was not begun, and a later call may begin it.
_NOT_NOW = frozenset({
    "TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded",
    "ServiceUnavailable", "ServiceUnavailableException", "SlowDown",
    "EC2ThrottledException", "EC2UnexpectedException", "ENILimitReachedException", "ENINotReadyException",
    "SubnetIPAddressLimitReachedException", "ResourceNotReadyException", "ResourceConflictException",
    "SnapStartNotReadyException", "SnapStartTimeoutException", "CodeArtifactUserPendingException",
    "EFSMountConnectivityException", "EFSMountTimeoutException",
    "S3FilesMountConnectivityException", "S3FilesMountTimeoutException",
})  # fmt: skip

# What to mend where a repeated call is refused until that is done.
_FIXES: dict[str, tuple[str, ...]] = {
    "name a function of this account and region in the job or in LONGTAKE_LAMBDA_FUNCTIONS": (
        "ResourceNotFoundException", "NoPublishedVersionException",
    ),
    "allow the worker's role lambda:InvokeFunction on it": ("AccessDeniedException", "AccessDenied", "OptInRequired"),
    "an order is a few hundred bytes and may have 6 MB": (
        "RequestTooLargeException", "RequestEntityTooLargeException", "SerializedRequestEntityTooLargeException",
    ),
    "check the function's name and deploy one version of Longtake on both sides": (
        "InvalidParameterValueException", "InvalidRequestContentException", "UnsupportedMediaTypeException",
        "ModeNotSupportedException", "ValidationException",
    ),
    "deploy the function again, with a runtime that AWS supports": (
        "InvalidRuntimeException", "InvalidZipFileException", "RuntimeVersionDeletedException", "SnapStartException",
        "SnapStartRegenerationFailureException", "RuntimeAliasDeletedException",
    ),
    "mend the network settings of the function": (
        "EC2AccessDeniedException", "InvalidSubnetIDException", "InvalidSecurityGroupIDException",
    ),
    "let the function's role use the KMS key of its settings, and see that the key is enabled": (
        "KMSAccessDeniedException", "KMSDisabledException", "KMSInvalidStateException", "KMSNotFoundException",
    ),
    "mend the file system settings of the function": ("EFSMountFailureException", "S3FilesMountFailureException"),
    "the function may not call itself": ("RecursiveInvocationException",),
}  # fmt: skip

_FIX = {code: fix for fix, codes in _FIXES.items() for code in codes}

# Never quote AWS's messages of these codes: they hold the signed request, a session token included.
_EXPIRED = "the worker's AWS credentials have expired; renew them"

_INVALID = "the worker's AWS credentials are not valid there; check keys, region and the worker's clock"

_CREDENTIALS = {
    **dict.fromkeys(("ExpiredTokenException", "ExpiredToken", "RequestExpired"), _EXPIRED),
    **dict.fromkeys((
        "UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationTokenException",
        "MissingAuthenticationToken", "InvalidSignatureException", "SignatureDoesNotMatch",
        "IncompleteSignatureException", "IncompleteSignature", "InvalidAccessKeyId",
    ), _INVALID),
}  # fmt: skip


class LambdaFunction:
    """A Lambda function, invoked synchronously; see `Service`.

    Args:
        function: Name or ARN.
        region: The function's region; None for the one in its ARN, else for that of the environment.
        concurrency: Largest number of calls at once from this worker; more wait for a slot.
    """

    most_seconds = MOST_SECONDS

    def __init__(self, function: str, *, region: str | None = None, concurrency: int) -> None:
        self.where = f"lambda {function}"
        self._signer = InvokeSigner(function, region)
        self._slots = asyncio.Semaphore(concurrency)
        self._signing_threads = ThreadPoolExecutor(_SIGNING_THREADS, thread_name_prefix="lambda-signing")

    async def call(self, payload: Mapping[str, Any], *, on_send: Callable[[], None] = ignore_send) -> ServiceAnswer:
        """Invoke the function once and return its answer, a function error included; see `Service.call`."""
        body = json.dumps(payload, allow_nan=False).encode()
        async with self._slots:
            # A cancel here abandons a thread that signs, and sends nothing.
            request = await asyncio.get_running_loop().run_in_executor(self._signing_threads, self._signer.sign, body)
            answer = await post_once(
                self._signer.route,
                request.url,
                request.content,
                request.headers,
                most_seconds=self.most_seconds + _MARGIN_SECONDS,
                most_bytes=_MOST_BYTES,
                on_send=on_send,
            )
        if not 200 <= answer.status < 300:
            raise make_invoke_error(self.where, answer)
        return answer

    def parse_result(self, answer: ServiceAnswer) -> RemoteResult:
        """Parse the result of a Longtake agent; see `Service.parse_result`."""
        return parse_agent_result(self.where, answer)

    def parse_helios_answer(self, answer: ServiceAnswer, *, lenient: bool) -> HeliosResult:
        """Parse exit code and output of a Helios worker; see `Service.parse_helios_answer`."""
        return parse_helios_answer(answer, lenient=lenient)


@dataclass(frozen=True)
class SignedRequest:
    """A signed HTTP request that invokes a function."""

    url: httpx.URL
    headers: Mapping[str, str]
    content: bytes


class _PreparedRequest(Exception):
    """Raised through boto3 with the prepared request, in place of sending it."""

    def __init__(self, request: AWSPreparedRequest) -> None:
        super().__init__(request.url)
        self.request = request


class InvokeSigner:
    """Makes and signs requests that invoke one function, as boto3 would send them.

    boto3 itself sends by a blocking call, which cannot be interrupted. The handler of its documented event
    `before-send` gets the prepared request and raises, so that boto3 never sends it.

    Args:
        function: Name or ARN.
        region: The function's region; None for the one in its ARN, else for that of the environment.
    """

    def __init__(self, function: str, region: str | None) -> None:
        self._function = function
        parts = function.split(":")
        self._region = region or (parts[3] if len(parts) > 6 and parts[0] == "arn" else None)
        # Made in the thread of the first call: reading AWS's models and the CA certificates takes 0.2 s.
        self._client_lock = threading.Lock()
        self._client: Any = None
        self._route: Route | None = None

    def sign(self, payload: bytes) -> SignedRequest:
        """Make and sign the request with a payload; blocking, for as long as credentials take to come.

        Raises:
            AttemptError: There are no credentials, no region, or no such name of a function.
            CallLostError: The service that gives credentials does not answer.
        """
        try:
            with self._client_lock:
                if self._client is None:
                    self._client = self._create_client()
            self._client.invoke(FunctionName=self._function, InvocationType="RequestResponse", Payload=payload)
        except _PreparedRequest as prepared:
            return _make_signed_request(prepared.request, payload)
        except (BotoCoreError, ClientError) as error:
            # Neither quoted nor kept as the cause: its text may be all that a credential program printed.
            raise self._make_signing_error(error) from None
        raise AssertionError("boto3 has sent the request itself")

    @property
    def route(self) -> Route:
        """The way to the function; known once a request was signed."""
        assert self._route is not None, "no request was signed yet"
        return self._route

    def _create_client(self) -> Any:
        settings = make_core_session()
        # boto3 reads the first of the two only; Lambda, ECS and most tools set the second.
        region = self._region or os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION")
        session = boto3.Session(botocore_session=settings, region_name=region)
        client = session.client("lambda", config=Config(retries={"total_max_attempts": 1, "mode": "standard"}))
        client.meta.events.register("before-send.lambda.Invoke", _raise_prepared)
        # The proxies and the CA bundle that boto3's own connections would use.
        endpoint = client.meta.endpoint_url
        scheme = urlsplit(endpoint).scheme
        proxy = get_environ_proxies(endpoint).get(scheme)
        ca_bundle = settings.get_config_variable("ca_bundle")
        self._route = Route(
            f"lambda {self._function}",
            ssl.create_default_context(cafile=ca_bundle) if scheme == "https" else None,
            "check AWS_CA_BUNDLE and the endpoint",
            httpx.URL(proxy if "://" in proxy else f"http://{proxy}") if proxy else None,
        )
        return client

    def _make_signing_error(self, error: BotoCoreError | ClientError) -> AttemptError | CallLostError:
        where = f"lambda {self._function}"
        match error:
            case NoCredentialsError() | PartialCredentialsError():
                sentence = "the worker has no AWS credentials; give it a role, or access keys by AWS's own variables"
                return AttemptError(f"{where} cannot be called: {sentence}", fatal=True)
            case NoRegionError():
                sentence = "no region is known; name it in the job's backend, or set AWS_REGION for the worker"
                return AttemptError(f"{where} cannot be called: {sentence}", fatal=True)
            case CredentialRetrievalError() | HTTPClientError():
                sentence = "the source of the worker's AWS credentials does not answer; see the worker's AWS settings"
                return CallLostError(f"{where} cannot be called: {sentence}", begun=False)
            case ClientError():
                # An answer of the service that gives credentials for a role (STS).
                code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
                sentence = f"{where} cannot be called: the worker gets no AWS credentials for its role ({code})"
                if status == 429 or status >= 500:
                    return CallLostError(sentence, begun=False)
                return AttemptError(f"{sentence}; see the worker's AWS settings", fatal=True)
            case _:
                return AttemptError(f"{where} cannot be called as it stands: {error}", fatal=True)


def _raise_prepared(request: AWSPreparedRequest, **_: Any) -> None:
    raise _PreparedRequest(request)


def _make_signed_request(prepared: AWSPreparedRequest, payload: bytes) -> SignedRequest:
    headers = {
        name: value.decode() if isinstance(value, bytes) else str(value)
        for name, value in prepared.headers.items()
        # `HttpConnection` adds both.
        if name.lower() not in ("host", "content-length")
    }
    return SignedRequest(httpx.URL(prepared.url or ""), headers, payload)


def parse_agent_result(where: str, answer: ServiceAnswer) -> RemoteResult:
    """Parse the result of a Longtake agent in an answer of the Invoke API.

    Raises:
        AttemptError: The function crashed, was ended by Lambda, refused the order, or is no agent of Longtake.
    """
    if "x-amz-function-error" in answer.headers:
        kind, message = _parse_function_error(answer)
        hint = next((f"; {hint}" for part, hint in _HINTS.items() if part in message), "")
        named = f"{kind}: {message}" if kind and kind not in message else message
        sentence = f"{where} failed: {shorten_line(named, _LONGEST_REASON)}{hint}"
        raise AttemptError(sentence, fatal=kind in _FATAL)
    try:
        return RemoteResult.model_validate_json(answer.body)
    except ValidationError as error:
        if refused := find_text(answer.document() or {}, "refused"):
            raise AttemptError(f"{where} refused the order: {shorten_line(refused, 600)}", fatal=True) from error
        beginning = shorten_line(answer.text[:200], 200)
        sentence = (
            f"{where} is no agent of Longtake, or of another version: it answered {beginning!r}; deploy agent/ there"
        )
        raise AttemptError(sentence, fatal=True) from error


def parse_helios_answer(answer: ServiceAnswer, *, lenient: bool) -> HeliosResult:
    """Parse exit code and output of a Helios worker in an answer of the Invoke API.

    Only an exit code of 0 is success. Helios' own adapter loses the exit code and stderr of its worker, and takes an
    answer without an exit code for success.

    Args:
        answer: The answer.
        lenient: Whether an empty answer, one without a `body`, and the one of the handler that `helios deploy aws`
            writes count as success; none of them has an exit code.
    """
    raw = answer.text
    if "x-amz-function-error" in answer.headers:
        kind, message = _parse_function_error(answer)
        # The handler has returned, so its command has ended: the outputs show how.
        is_lost = kind == _TOO_LARGE
        return HeliosResult(0 if is_lost else 1, "", f"Lambda execution failed: {message}", answer_was_lost=is_lost)
    if not answer.body:
        return HeliosResult(0 if lenient else 1, "", "" if lenient else "the answer is empty: no exit code")
    try:
        payload = json.loads(answer.body)
        if payload is None:
            raise ValueError("it is null")
        body = payload.get("body") if isinstance(payload, dict) else None
        if not body and body != {}:
            return HeliosResult(0 if lenient else 1, raw, "" if lenient else "the answer holds no exit code")
        fields = json.loads(body) if isinstance(body, str) else body
        if not isinstance(fields, dict):
            raise ValueError("its body is no object")
    except (ValueError, RecursionError) as error:
        return HeliosResult(1, raw, f"Failed to parse Lambda response: {error}")
    return _parse_helios_body(payload.get("statusCode"), fields, lenient=lenient)


def _parse_helios_body(status: object, body: Mapping[str, Any], *, lenient: bool) -> HeliosResult:
    code = parse_exit_code(body, lenient=lenient)
    stdout = find_text(body, "output", "stdout")
    if status != 200:
        told = find_text(body, "stderr") or _find_reason(body) or "Lambda returned non-200 status code"
        return HeliosResult(code or 1, stdout, told)
    if code is not None:
        return HeliosResult(code, stdout, find_text(body, "stderr") or (_find_reason(body) if code else ""))
    return HeliosResult(1, stdout, find_text(body, "stderr") or _find_reason(body) or "the answer holds no exit code")


def _find_reason(body: Mapping[str, Any]) -> str:
    """Return the reason of a failure; the handler of `helios deploy aws` puts the details into `error` only."""
    return ": ".join(filter(None, (find_text(body, "message"), find_text(body, "error"))))


def _parse_function_error(answer: ServiceAnswer) -> tuple[str, str]:
    """Return type and message of a function error; the message is the raw body where the body has none."""
    fields = answer.document() or {}
    return str(fields.get("errorType") or ""), str(fields.get("errorMessage") or answer.text or "Unknown Lambda Error")


def make_invoke_error(where: str, answer: ServiceAnswer) -> AttemptError | ThrottledError | CallLostError:
    """Make the error that an answer of the Invoke API stands for.

    A 500 (`ServiceException`) or an unknown 5xx does not tell whether the function was begun: it counts as a
    connection that broke, so that the store is asked before anything is paid twice.

    Args:
        where: Name of the function for people.
        answer: The answer, of a status other than 2xx.
    """
    code, message, reason = _parse_error(answer)
    if code in _CREDENTIALS:
        return AttemptError(f"{where} refuses the call ({code}): {_CREDENTIALS[code]}", fatal=True)
    sentence = f"{code or f'HTTP {answer.status}'}{f': {message}' if message else ''}{f' ({reason})' if reason else ''}"
    if code in _NOT_NOW or (code not in _FIX and answer.status in (429, 503)):
        return ThrottledError(f"{where} has no room now: {sentence}", wait_seconds=answer.wait_seconds())
    if code in _FIX:
        return AttemptError(f"{where} refuses the call: {sentence}; {_FIX[code]}", fatal=True)
    if answer.status >= 500 or answer.status in (408, 410):
        return CallLostError(f"{where} failed, and whether it had begun is not known: {sentence}", begun=True)
    return AttemptError(f"{where} refuses the call: {sentence}; check its name, region and endpoint", fatal=True)


def _parse_error(answer: ServiceAnswer) -> tuple[str, str, str]:
    """Parse code, message and reason of an error of AWS's restJson1 protocol; each empty where it is missing."""
    fields = answer.document() or {}
    code = answer.headers.get("x-amzn-errortype") or fields.get("code") or fields.get("__type") or ""
    message = fields.get("message") or fields.get("Message") or ""
    # `aws.protocols#FooError:http://internal.amazon.com/...` is FooError.
    plain = str(code).partition(":")[0].rpartition("#")[2]
    return plain, shorten_line(str(message), _LONGEST_MESSAGE), str(fields.get("Reason") or "")
