"""Connect to Temporal by its settings, and explain in one sentence why that fails."""

import asyncio
import atexit
import os
import time
from collections.abc import Mapping
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime
from temporalio.service import RetryConfig, RPCError, RPCStatusCode

from longtake.data_converter import data_converter
from longtake.describe import describe_rpc_error
from longtake.errors import NotReachableError
from longtake.text import escape_text, flatten_text

# Long enough for a server that is just starting, short enough for a person who mistyped the address.
CONNECT_SECONDS = 10.0

# An interpreter that ends within a millisecond of the last answer aborts, because a thread of the SDK still returns
# from it (sdk-python issue 300; measured: 5 of 12 exits without this, 0 of 36 with).
atexit.register(time.sleep, 0.02)


async def connect(
    *,
    address: str | None = None,
    namespace: str | None = None,
    profile: str | None = None,
    runtime: Runtime | None = None,
    timeout_seconds: float = CONNECT_SECONDS,
    retries: RetryConfig | None = None,
    lazy: bool = False,
) -> Client:
    """Connect to Temporal and return the client.

    Arguments that are not given come from `temporal.toml` profiles and `TEMPORAL_*` variables, as for the Temporal CLI;
    without those from the defaults, localhost:7233 and `default`. Payloads go through the codec of `LONGTAKE_CODEC`.

    Args:
        address: Host and port of the server.
        namespace: Namespace of the jobs.
        profile: Profile of `temporal.toml`.
        runtime: Runtime of the SDK, for metrics.
        timeout_seconds: Longest time to wait for the server.
        retries: How long calls are tried again; default: as long as the SDK does, some 10 s.
        lazy: Return at once; the first call connects, and again each one after it until the server is there.

    Raises:
        NotReachableError: No Temporal server answered in time.
        LongtakeError: The settings of the codec are off.
    """
    options: dict[str, Any] = {"target_host": "localhost:7233", "data_converter": data_converter()}
    options |= read_connect_options(profile)
    options |= {key: value for key, value in (("target_host", address), ("namespace", namespace)) if value}
    try:
        async with asyncio.timeout(timeout_seconds):
            return await Client.connect(**options, runtime=runtime, retry_config=retries, lazy=lazy)
    except (RuntimeError, ValueError, TimeoutError) as error:
        address = options["target_host"]
        raise NotReachableError(_explain_refusal(error, address, has_key=bool(options.get("api_key")))) from error


async def check_namespace(client: Client) -> None:
    """Raise `NotReachableError` if the server has no such namespace, which a worker would only repeat for ever."""
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError as error:
        # Whoever may run workers may not always describe namespaces.
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotReachableError(describe_rpc_error(error)) from error


def read_connect_options(profile: str | None = None) -> Mapping[str, Any]:
    """Read what `temporal.toml` and `TEMPORAL_*` variables say of the connection; an empty variable is not set.

    Raises:
        NotReachableError: They cannot be read, or name a file that cannot.
    """
    try:
        # Containers are given empty variables for what is not set, and the SDK takes an empty key for one.
        given = {name: value for name, value in os.environ.items() if value}
        return ClientConfig.load_client_connect_config(profile=profile, override_env_vars=given)
    except OSError as error:
        raise NotReachableError(
            f"{escape_text(str(error.filename), 200)}, which Temporal's configuration names, cannot be read "
            f"({error.strerror}); put the certificate or key there, or mend TEMPORAL_TLS_* or temporal.toml"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise NotReachableError(
            f"Temporal's configuration cannot be read: {flatten_text(str(error))}; mend TEMPORAL_* or temporal.toml"
        ) from error


# Marks in the nested errors of the SDK, and what they mean; {address} is the server's.
_CREDENTIALS = "mend TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH, or temporal.toml"
_REFUSALS = (
    (
        ("PrivateKeyParseError", "NoCertificatesPresented", "CertificateParseError"),
        f"the client certificate or its key is no PEM text; {_CREDENTIALS}",
    ),
    (("KeyMismatch",), f"the client certificate and the key do not belong together; {_CREDENTIALS}"),
    (
        ("Must have both client cert",),
        f"a client certificate needs its key, and one of both is missing; {_CREDENTIALS}",
    ),
    (
        ("InvalidCertificate", "UnknownIssuer"),
        "the certificate of the Temporal server at {address} is not trusted or is for another name; set "
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH and TEMPORAL_TLS_SERVER_NAME",
    ),
    (
        ("CertificateRequired", "HandshakeFailure", "BadCertificate", "CertificateUnknown", "UnknownCA"),
        f"the Temporal server at {{address}} does not accept the client certificate; {_CREDENTIALS}",
    ),
    (
        ("Unauthenticated", "PermissionDenied"),
        "the Temporal server at {address} refuses this client; mend TEMPORAL_API_KEY, or the client certificate",
    ),
    (("invalid target URL", "invalid uri"), "{address} is no address; write TEMPORAL_ADDRESS as host:port"),
    (
        # The last one where the connection was cut before the request was sent.
        ("BrokenPipe", "ConnectionReset", "UnexpectedEof", "operation was canceled"),
        "what answers at {address} cuts the connection; if it is a Temporal server with TLS, set TEMPORAL_TLS=true",
    ),
)


def _explain_refusal(error: Exception, address: str, *, has_key: bool) -> str:
    """Return one sentence for a nested error of the SDK, with the setting that mends it."""
    text, shown = f"{error}", escape_text(address, 200)
    if "InvalidContentType" in text:
        cause = "an API key switches TLS on; " if has_key else ""
        return (
            f"the server at {shown} speaks no TLS, and this client was told to: {cause}set TEMPORAL_TLS=false if that "
            "is meant, or TEMPORAL_ADDRESS"
        )
    for marks, sentence in _REFUSALS:
        if any(mark in text for mark in marks):
            return sentence.format(address=shown)
    known = {"ConnectionRefused": "connection refused", "dns error": "no such host"}
    reason = next((said for mark, said in known.items() if mark in text), None)
    if reason is None:
        reason = "it did not answer in time" if isinstance(error, TimeoutError) else text.split("\n")[0][:120]
    return f"no Temporal server answers at {shown} ({reason}); start one with `make dev`, or set TEMPORAL_ADDRESS"
