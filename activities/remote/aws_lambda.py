"""Requests that invoke a function: prepared and signed by boto3, which is kept from sending them."""

import os
import ssl
import threading
from collections.abc import Mapping
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
from botocore.session import Session
from botocore.utils import get_environ_proxies

from activities.errors import AttemptError
from activities.remote.http_client import Route
from activities.remote.service import CallLostError


@dataclass(frozen=True)
class SignedRequest:
    """One request, ready to be sent."""

    url: httpx.URL
    headers: Mapping[str, str]
    content: bytes


class _Prepared(Exception):
    """The request, on its way out of boto3."""

    def __init__(self, request: AWSPreparedRequest) -> None:
        super().__init__(request.url)
        self.request = request


class InvokeRequests:
    """Makes the requests of one function as boto3 would send them.

    boto3 itself sends by a blocking call, which nobody can end. Its documented event `before-send` gives the
    prepared request away; the handler raises, so that boto3's own HTTP is never begun.

    Args:
        function: Name or ARN.
        region: Its region; None for the one in its ARN, else for that of the environment.
    """

    def __init__(self, function: str, region: str | None) -> None:
        self._function = function
        parts = function.split(":")
        self._region = region or (parts[3] if len(parts) > 6 and parts[0] == "arn" else None)
        # Made by the first call, in its thread: reading AWS's models and the CA certificates takes 0.2 s.
        self._making = threading.Lock()
        self._client: Any = None
        self._route: Route | None = None

    def make(self, payload: bytes) -> SignedRequest:
        """Return the signed request with this payload; blocking, for as long as credentials take to come.

        Raises:
            AttemptError: There are no credentials, no region, or no such name of a function.
            CallLostError: The service that gives credentials does not answer.
        """
        try:
            with self._making:
                if self._client is None:
                    self._client = self._connected()
            self._client.invoke(FunctionName=self._function, InvocationType="RequestResponse", Payload=payload)
        except _Prepared as prepared:
            return _request(prepared.request, payload)
        except (BotoCoreError, ClientError) as error:
            # Its own words go no further, as a cause neither: they may be all that a program for credentials printed.
            raise self._refused(error) from None
        raise AssertionError("boto3 has sent the request itself")

    @property
    def route(self) -> Route:
        """How to send what was made here."""
        assert self._route is not None, "the first request tells"
        return self._route

    def _connected(self) -> Any:
        settings = Session()
        # boto3 itself knows the first of the two only, and Lambda, ECS and most tools set the second.
        region = self._region or os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION")
        session = boto3.Session(botocore_session=settings, region_name=region)
        client = session.client("lambda", config=Config(retries={"total_max_attempts": 1, "mode": "standard"}))
        client.meta.events.register("before-send.lambda.Invoke", _give_away)
        # As boto3's own connections: through the same proxies, and with the same CA bundle.
        endpoint = client.meta.endpoint_url
        proxy = get_environ_proxies(endpoint).get(urlsplit(endpoint).scheme)
        self._route = Route(
            f"lambda {self._function}",
            ssl.create_default_context(cafile=settings.get_config_variable("ca_bundle")),
            "check AWS_CA_BUNDLE and the endpoint",
            httpx.URL(proxy if "://" in proxy else f"http://{proxy}") if proxy else None,
        )
        return client

    def _refused(self, error: BotoCoreError | ClientError) -> AttemptError | CallLostError:
        where = f"lambda {self._function}"
        match error:
            case NoCredentialsError() | PartialCredentialsError():
                said = "the worker has no AWS credentials; give it a role, or access keys by AWS's own variables"
                return AttemptError(f"{where} cannot be called: {said}", fatal=True)
            case NoRegionError():
                said = "no region is known; name it in the job's backend, or set AWS_REGION for the worker"
                return AttemptError(f"{where} cannot be called: {said}", fatal=True)
            case CredentialRetrievalError() | HTTPClientError():
                said = "the source of the worker's AWS credentials does not answer; see the worker's AWS settings"
                return CallLostError(f"{where} cannot be called: {said}", begun=False)
            case ClientError():
                # Of the service that gives credentials for a role.
                code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
                said = f"{where} cannot be called: the worker gets no AWS credentials for its role ({code})"
                if status == 429 or status >= 500:
                    return CallLostError(said, begun=False)
                return AttemptError(f"{said}; see the worker's AWS settings", fatal=True)
            case _:
                return AttemptError(f"{where} cannot be called as it stands: {error}", fatal=True)


def _give_away(request: AWSPreparedRequest, **_: Any) -> None:
    raise _Prepared(request)


def _request(prepared: AWSPreparedRequest, payload: bytes) -> SignedRequest:
    headers = {
        name: value.decode() if isinstance(value, bytes) else str(value)
        for name, value in prepared.headers.items()
        # HTTP itself says them again.
        if name.lower() not in ("host", "content-length")
    }
    return SignedRequest(httpx.URL(prepared.url or ""), headers, payload)
