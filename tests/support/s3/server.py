"""A real S3 server, SeaweedFS as `make production` runs it, on the loopback interface for as long as tests need it."""

import json
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from deploy.production.s3_server import (
    INTERNAL_PORTS,
    can_list_buckets,
    find_internal_ports,
    find_seaweedfs,
    remove_sockets,
)
from devserver import end_with_parent
from longtake.stores.s3 import make_session
from ports import find_free_port, is_port_conflict

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


SERVER = Path(__file__).parents[3] / "deploy" / "seaweedfs" / "server.sh"

_START_SECONDS = 60.0
_STARTS = 5
# Every bucket takes seven volumes, so that hundreds of buckets need many small ones.
_VOLUMES = ["-volume.max=5000", "-master.volumeSizeLimitMB=64"]
# The key of the workers is told from the administrator's, so that four values tell all of a server.
_WORKER = "worker"
# A role that everybody with a key may take and that may do everything: what a session may do is up to its own policy.
_ROLE = "arn:aws:iam::123456789012:role/tests"
_ROLES = {
    "sts": {"tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "tests"},
    "policy": {"defaultEffect": "Deny"},
    "policies": [
        {
            "name": "everything",
            "document": {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}],
            },
        }
    ],
    "roles": [
        {
            "roleName": "tests",
            "roleArn": _ROLE,
            "trustPolicy": {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["sts:AssumeRole"]}],
            },
            "attachedPolicies": ["everything"],
        }
    ],
}


@dataclass
class S3Server:
    """An S3 server that answers at `url`; another process that is told these four values can use it too."""

    url: str
    access_key: str
    secret_key: str
    pid: int = 0
    _made: set[str] = field(default_factory=set)
    _client: "S3Client | None" = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def environment(self) -> dict[str, str]:
        """What tells boto3 to use it, as environment variables of a process; nothing else is believed there."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def client(self) -> "S3Client":
        """Return a plain client for what tests look at themselves."""
        with self._lock:
            if self._client is None:
                config = Config(s3={"addressing_style": "path"})
                self._client = self.session().client("s3", endpoint_url=self.url, config=config)
        return self._client

    def session(self, *, policy: list[dict[str, object]] | None = None) -> boto3.Session:
        """Return credentials: those of the administrator, or such that may do what a policy's statements allow."""
        session = _session(self.access_key, self.secret_key)
        if policy is None:
            return session
        answer = session.client("sts", endpoint_url=self.url).assume_role(
            RoleArn=_ROLE,
            RoleSessionName="tests",
            Policy=json.dumps({"Version": "2012-10-17", "Statement": policy}),
        )["Credentials"]
        return _session(answer["AccessKeyId"], answer["SecretAccessKey"], aws_session_token=answer["SessionToken"])

    def worker_session(self) -> boto3.Session:
        """Return the credentials that workers have in the box: those for its bucket `longtake`."""
        return boto3.Session(_WORKER, _WORKER + self.secret_key, region_name="us-east-1")

    def bucket(self, name: str | None = None) -> str:
        """Return a bucket, made if need be: that of this name, or a new one."""
        name = name or f"test-{secrets.token_hex(6)}"
        with self._lock:
            if name not in self._made:
                client = self.client()
                # Made by another process of the tests, or by a first try of boto3 whose answer was late.
                with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
                    client.create_bucket(Bucket=name)
                self._made.add(name)
        return name


def _session(access_key: str, secret_key: str, **more: str) -> boto3.Session:
    return make_session(aws_access_key_id=access_key, aws_secret_access_key=secret_key, region_name="us-east-1", **more)


@contextmanager
def run_s3_server(
    folder: Path, *, port: int | None = None, access_key: str = "", secret_key: str = ""
) -> Iterator[S3Server]:
    """Run SeaweedFS over a folder until the block ends.

    Given a port and keys it can be stopped and run again as it was: its files stay then.

    Call it from the main thread: on Linux the server gets SIGTERM when the thread that started it ends.
    """
    roles = folder / "roles.json"
    folder.mkdir(parents=True, exist_ok=True)
    roles.write_text(json.dumps(_ROLES))
    # Different ones in each run: nothing may rely on them.
    access_key, secret_key = access_key or secrets.token_hex(8), secret_key or secrets.token_hex(16)
    for _ in range(_STARTS):
        server = S3Server(f"http://127.0.0.1:{port or find_free_port()}", access_key, secret_key)
        process, ports = _start(server, folder, roles)
        try:
            if _is_ready_in_time(server, process):
                yield server
                return
        finally:
            process.kill()
            process.wait()
            remove_sockets(ports)
            if port is None:
                shutil.rmtree(folder / "data", ignore_errors=True)
        end = (folder / "s3-server.log").read_text(errors="replace")[-2000:]
        assert is_port_conflict(end), f"no S3 server came up at {server.url}: {end}"
    raise AssertionError(f"an S3 server lost its ports to others {_STARTS} times")


def _start(server: S3Server, folder: Path, roles: Path) -> tuple["subprocess.Popen[bytes]", set[int]]:
    """Start a server; return its process and the ports that it takes."""
    url, inside = urlsplit(server.url), find_internal_ports()
    environment = {
        "HOME": str(folder),
        "PATH": f"{find_seaweedfs().parent}:/usr/bin:/bin",
        "S3_ADMIN_ACCESS_KEY": server.access_key,
        "S3_ADMIN_SECRET_KEY": server.secret_key,
        "AWS_ACCESS_KEY_ID": _WORKER,
        "AWS_SECRET_ACCESS_KEY": _WORKER + server.secret_key,
        "S3_DATA": str(folder / "data"),
        "S3_BIND": str(url.hostname),
        "S3_LISTEN_PORT": str(url.port),
        "S3_INTERNAL_PORT": str(inside),
    }
    with (folder / "s3-server.log").open("wb") as output:
        process = subprocess.Popen(
            end_with_parent(["sh", str(SERVER), f"-s3.iam.config={roles}", *_VOLUMES]),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
        )
    server.pid = process.pid
    return process, {url.port or 0, *range(inside, inside + INTERNAL_PORTS)}


def _is_ready_in_time(server: S3Server, process: "subprocess.Popen[bytes]") -> bool:
    """Return whether the server takes files; False where it has ended, or does not in time."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if can_list_buckets(server.url, server.access_key, server.secret_key) and _takes_files(server):
            return True
        time.sleep(0.05)
    return False


def _takes_files(server: S3Server) -> bool:
    # It knows its accounts before it has a place for files.
    try:
        server.client().put_object(Bucket=server.bucket("ready"), Key="ready", Body=b"ready")
    except (BotoCoreError, ClientError):
        return False
    return True
