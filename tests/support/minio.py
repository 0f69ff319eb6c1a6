"""MinIO, a real S3 server: built once, and run on the loopback interface for as long as tests need it."""

import http.client
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

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

import devserver
from deploy.production.programs import MINIO
from ports import find_free_port

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_START_SECONDS = 60.0


@dataclass
class Minio:
    """A MinIO that answers at `url`."""

    url: str
    access_key: str
    secret_key: str
    pid: int = 0
    _made: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

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
        return self.session().client("s3", endpoint_url=self.url, config=Config(s3={"addressing_style": "path"}))

    def session(self, *, policy: list[dict[str, object]] | None = None) -> boto3.Session:
        """Return credentials: those of the administrator, or such that may do what a policy's statements allow."""
        session = boto3.Session(self.access_key, self.secret_key, region_name="us-east-1")
        if policy is None:
            return session
        answer = session.client("sts", endpoint_url=self.url).assume_role(
            # MinIO takes any role and gives what the policy allows.
            RoleArn="arn:aws:iam::123456789012:role/tests",
            RoleSessionName="tests",
            Policy=json.dumps({"Version": "2012-10-17", "Statement": policy}),
        )["Credentials"]
        return boto3.Session(
            answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"], region_name="us-east-1"
        )

    def bucket(self, name: str | None = None) -> str:
        """Return a bucket, made if need be: that of this name, or a new one."""
        name = name or f"test-{secrets.token_hex(6)}"
        with self._lock:
            if name not in self._made:
                client = self.client()
                # boto3 asks again when an answer is late, and then it is there.
                with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket=name)
                self._made.add(name)
        return name


@contextmanager
def minio(folder: Path, *, port: int | None = None, access_key: str = "", secret_key: str = "") -> Iterator[Minio]:
    """Run MinIO over a folder until the block ends; builds it first if it is not in the cache.

    Given a port and keys it can be stopped and run again as it was: its files stay then.

    Call it from the main thread: on Linux the server gets SIGTERM when the thread that started it ends.
    """
    program = MINIO.get(devserver.cache_dir() / "bin")
    address = f"127.0.0.1:{port or find_free_port()}"
    # Not those words that MinIO takes for its own defaults, and different in each run: nothing may rely on them.
    server = Minio(f"http://{address}", access_key or secrets.token_hex(8), secret_key or secrets.token_hex(16))
    data, log = folder / "data", folder / "minio.log"
    data.mkdir(parents=True, exist_ok=True)
    environment = {
        "HOME": str(folder),
        "PATH": "/usr/bin:/bin",
        "MINIO_ROOT_USER": server.access_key,
        "MINIO_ROOT_PASSWORD": server.secret_key,
        "MINIO_BROWSER": "off",
        # It asks the network for a newer one otherwise.
        "MINIO_UPDATE": "off",
        "MINIO_CALLHOME_ENABLE": "off",
    }
    command = [str(program), "server", "--quiet", "--address", address, str(data)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            devserver.end_with_parent(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
        )
    server.pid = process.pid
    try:
        _until_ready(server, process, log)
        yield server
    finally:
        process.kill()
        process.wait()
        if port is None:
            shutil.rmtree(data, ignore_errors=True)


def _until_ready(server: Minio, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _is_ready(server):
        end = log.read_text(errors="replace")[-2000:]
        assert process.poll() is None, f"MinIO ended: {end}"
        assert time.monotonic() < deadline, f"MinIO did not come up at {server.url}: {end}"
        time.sleep(0.05)


def _is_ready(server: Minio) -> bool:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=2)
    try:
        connection.request("GET", "/minio/health/ready")
        if connection.getresponse().status != 200:
            return False
        # It is healthy a moment before it knows its accounts.
        server.client().list_buckets()
    except (OSError, BotoCoreError, ClientError):
        return False
    finally:
        connection.close()
    return True
