"""Send the calls of single objects without boto3's machinery, which takes a millisecond of CPU time for each call."""

import base64
import os
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

import boto3
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.httpsession import where
from botocore.parsers import create_parser
from botocore.utils import get_environ_proxies

from longtake.stores.s3_connection import Answer, Connections, Endpoint
from longtake.stores.s3_signature import Request, sign_headers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_NO_CONTENT = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_METADATA = "x-amz-meta-"
# Names of directory buckets, whose calls need keys of a session: S3 Express One Zone.
_SESSION_SUFFIX = "--x-s3"


def send_directly(client: "S3Client", session: boto3.Session, *, has_buckets_in_path: bool) -> "S3Client":
    """Return a client that sends the calls of single objects directly, and all others through boto3.

    Where that would not do the same, as behind a proxy or with a setting of S3 that only boto3 knows, it is the
    client itself.

    Args:
        client: Client of boto3.
        session: The session that made it.
        has_buckets_in_path: Whether buckets are named in the path, and not in the name of the host.
    """
    credentials = session.get_credentials()
    # Its stubs know no options.
    config: Any = client.meta.config
    special = any((config.s3 or {}).get(name) for name in ("use_accelerate_endpoint", "use_arn_region"))
    if credentials is None or special or config.signature_version not in (None, "s3v4"):
        return client
    if urlsplit(client.meta.endpoint_url).scheme in get_environ_proxies(client.meta.endpoint_url):
        return client
    direct = DirectClient(client, credentials, _make_tls(session, client), has_buckets_in_path=has_buckets_in_path)
    return cast("S3Client", direct)


def _make_tls(session: boto3.Session, client: "S3Client") -> ssl.SSLContext | None:
    """Return the settings of TLS, with the authorities that boto3 trusts."""
    if urlsplit(client.meta.endpoint_url).scheme != "https":
        return None
    named = session._session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE") or where()
    is_folder = os.path.isdir(named)
    tls = ssl.create_default_context(capath=named if is_folder else None, cafile=None if is_folder else named)
    tls.set_alpn_protocols(["http/1.1"])
    return tls


class DirectClient:
    """Do as a client of boto3 does; the calls of single objects are sent directly, each once.

    They take the parameters that stores use, and return and raise what boto3 does.

    Args:
        client: Client of boto3, for all other calls.
        credentials: Keys, which may be renewed.
        tls: Settings of TLS; None without TLS.
        has_buckets_in_path: Whether buckets are named in the path, and not in the name of the host.
    """

    def __init__(
        self, client: "S3Client", credentials: Credentials, tls: ssl.SSLContext | None, *, has_buckets_in_path: bool
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._tls = tls
        self._has_buckets_in_path = has_buckets_in_path
        self._region = client.meta.region_name
        url = urlsplit(client.meta.endpoint_url)
        self._usual_port = 80 if tls is None else 443
        # Without a name or password before it, and without the usual port after it, as boto3 names it.
        self._host = url.netloc.rpartition("@")[2].removesuffix(f":{self._usual_port}")
        self._root = url.path.rstrip("/")
        self._config: Any = client.meta.config
        self._parser: Any = create_parser("rest-xml")
        self._connections: dict[str, Connections] = {}
        # Buckets that are elsewhere than the settings say: boto3 finds them.
        self._elsewhere: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put_object(
        self,
        *,
        Bucket: str,
        Key: str,
        Body: bytes | IO[bytes],
        ChecksumSHA256: str,
        Metadata: Mapping[str, str],
        **condition: str,
    ) -> dict[str, Any]:
        """Write an object; with `IfNoneMatch="*"` only where there is none."""
        call = {"Bucket": Bucket, "Key": Key, "Body": Body, "ChecksumSHA256": ChecksumSHA256, "Metadata": Metadata}
        headers = {f"{_METADATA}{name}": value for name, value in Metadata.items()}
        headers |= {"x-amz-checksum-sha256": ChecksumSHA256, "content-length": str(len(cast("bytes", Body)))}
        if "IfNoneMatch" in condition:
            headers["if-none-match"] = condition["IfNoneMatch"]
        return self._call("PutObject", {**call, **condition}, headers, Body, base64.b64decode(ChecksumSHA256).hex())

    def get_object(self, **call: str) -> dict[str, Any]:
        """Begin to read an object or a range of it, with `IfMatch` only the one of that tag."""
        headers = {"range": call["Range"]} if "Range" in call else {}
        if "IfMatch" in call:
            headers["if-match"] = call["IfMatch"]
        return self._call("GetObject", call, headers)

    def head_object(self, **call: str) -> dict[str, Any]:
        """Return the metadata of an object."""
        return self._call("HeadObject", call, {})

    def delete_object(self, **call: str) -> dict[str, Any]:
        """Remove an object if there is one."""
        return self._call("DeleteObject", call, {})

    def _call(
        self,
        operation: str,
        call: Mapping[str, Any],
        headers: dict[str, str],
        content: bytes | IO[bytes] = b"",
        sha256: str = _NO_CONTENT,
    ) -> dict[str, Any]:
        bucket = call["Bucket"]
        if bucket not in self._elsewhere and not bucket.endswith(_SESSION_SUFFIX):
            answer = self._send(operation, bucket, call["Key"], headers, content, sha256)
            if answer is not None:
                return answer
            self._elsewhere.add(bucket)
            if not isinstance(content, bytes):
                content.seek(0)
        method = {"PutObject": "put", "GetObject": "get", "HeadObject": "head", "DeleteObject": "delete"}[operation]
        found: dict[str, Any] = getattr(self._client, f"{method}_object")(**call)
        return found

    def _send(
        self,
        operation: str,
        bucket: str,
        key: str,
        headers: dict[str, str],
        content: bytes | IO[bytes],
        sha256: str,
    ) -> dict[str, Any] | None:
        """Send a call; return None where the bucket is elsewhere."""
        host, path = self._host, f"/{quote(key, safe='/~')}"
        # A certificate for all names below a host is none for names with a dot.
        if self._has_buckets_in_path or "." in bucket:
            path = f"/{bucket}{path}"
        else:
            host = f"{bucket}.{host}"
        path = f"{self._root}{path}"
        method = operation.removesuffix("Object").upper()
        request = Request(method, host, path, sha256)
        keys = self._credentials.get_frozen_credentials()
        signed = sign_headers(request, headers, keys, self._region)
        answer = self._connect(host).send(method, path, {**signed, "user-agent": "longtake"}, content)
        if answer.status < 300:
            return _parse_object(answer, is_read=operation == "GetObject")
        try:
            region = answer.headers.get("x-amz-bucket-region", self._region)
            if answer.status in (301, 307, 308) or region != self._region:
                return None
            raise self._make_error(operation, answer)
        finally:
            answer.close()

    def _connect(self, host: str) -> Connections:
        if host not in self._connections:
            url, config = urlsplit(f"//{host}"), self._config
            port = url.port or self._usual_port
            endpoint = Endpoint(url.hostname or "", port, self._tls, config.connect_timeout, config.read_timeout)
            # Two threads that meet here make one too many, whose connections are closed after one use.
            self._connections[host] = Connections(endpoint, config.max_pool_connections)
        return self._connections[host]

    def _make_error(self, operation: str, answer: Answer) -> ClientError:
        """Return the error that boto3 raises for an answer."""
        said = {"status_code": answer.status, "headers": answer.headers, "body": answer.read()}
        return ClientError(self._parser.parse(said, None), operation)


def _parse_object(answer: Answer, *, is_read: bool) -> dict[str, Any]:
    headers = answer.headers
    found: dict[str, Any] = {
        "ETag": headers.get("etag", ""),
        "Metadata": {
            name.removeprefix(_METADATA): value for name, value in headers.items() if name.startswith(_METADATA)
        },
    }
    if "last-modified" in headers:
        found["LastModified"] = parsedate_to_datetime(headers["last-modified"])
    if "content-length" in headers:
        found["ContentLength"] = int(headers["content-length"])
    if "content-range" in headers:
        found["ContentRange"] = headers["content-range"]
    if is_read:
        found["Body"] = answer
    else:
        answer.read()
    return found
